//! The load generator behind `kijabi bench`, and (in `benches/`) criterion benches of the pure parts.
//!
//! Owns: making load on any etcd endpoint and measuring what it costs. Must not know: how a server
//! works; it is asked over the wire only. A newcomer's trap: on a small machine the generator and
//! the server share the cores, so only ratios between servers in one run mean anything.

pub mod compare;
pub mod load;
