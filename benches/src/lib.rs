//! Criterion benches of the pure parts.
