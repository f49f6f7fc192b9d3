//! A store member: consensus, watch hub, gRPC services, HTTP endpoints.
//!
//! Owns: everything between a socket and the state machine. Must not know: what is stored on top
//! (Kubernetes or anything else), nor files (that is `kijabi-disk`). A newcomer's trap: services
//! go through [`store::Store`] only; nothing but the apply loop changes the machine.

mod check;
pub mod config;
mod error;
mod service;
pub mod status;
mod store;
mod watch;

pub use config::Config;
