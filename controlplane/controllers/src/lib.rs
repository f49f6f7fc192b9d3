//! The controllers: pure plans, and reconcilers that carry them out through the Kubernetes API.
