//! A store member: consensus, watch hub, gRPC services, HTTP endpoints.
//!
//! Owns: everything between a socket and the state machine. Must not know: what is stored on top
//! (Kubernetes or anything else), nor files (that is `kijabi-disk`). A newcomer's trap: services
//! go through `store::Store` only; nothing but the apply loop changes the machine.

mod access;
mod apply_hooks;
mod auto_compaction;
pub mod backup;
mod barrier;
mod check;
mod cluster;
pub mod config;
mod consensus;
mod crew;
mod demise;
mod drivers;
mod error;
mod fatal;
mod framing;
mod identity;
mod integrity;
mod leases;
mod limits;
pub mod logging;
mod member;
pub mod memory;
mod metrics;
#[doc(hidden)]
pub mod microbench;
pub mod notify;
mod outcomes;
mod peer;
mod ports;
mod propose;
mod quota;
mod serve;
mod service;
pub mod status;
mod store;
mod transfer;
mod watch;

pub use config::Config;
pub use fatal::MemberError;
pub use member::{Member, StartError};
