//! The Kubernetes API server, stateless, on any etcd v3 endpoint.

pub mod status;
