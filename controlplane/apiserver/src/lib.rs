//! The Kubernetes API server, stateless, on any etcd v3 endpoint.
//!
//! Owns: the way of a request from the socket to the store and back. Must not know: how the store
//! works inside; it is reached by the etcd protocol alone. A newcomer's trap: nothing is kept here
//! that the store does not have; any number of these may run beside each other.

pub mod admission;
pub mod allocate;
pub mod apiserver;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod cache;
pub mod config;
pub mod discovery;
#[cfg(test)]
mod e2e;
pub mod exchange;
pub mod filters;
pub mod handler;
pub mod health;
pub mod impersonation;
pub mod issuer;
pub mod limits;
pub mod logs;
pub mod loopback;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod pki;
pub mod registry;
pub mod request;
pub mod router;
pub mod server;
pub mod status;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod user;
pub mod version;

pub use apiserver::{ApiServer, StartError};
pub use config::{Config, Ipv4Cidr};
pub use pki::{Pki, PkiOptions};
