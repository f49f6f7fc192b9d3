//! End-to-end, conformance and differential tests against real clients.
//!
//! Owns: what tests share: starting programs, clusters and registries, stock clients, polling.
//! Must not know: how anything is implemented; everything goes through processes and sockets. A
//! newcomer's trap: these tests run the `kijabi` that `make test` built before them; after a
//! change build it first (`cargo build -p kijabi`).

pub mod cluster;
pub mod curl;
pub mod etcd;
pub mod faults;
pub mod kubectl;
pub mod linear;
pub mod poll;
pub mod process;
pub mod registry;
