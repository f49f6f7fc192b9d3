//! End-to-end, conformance and differential tests against real clients.
