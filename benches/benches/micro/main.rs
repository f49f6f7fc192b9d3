//! Criterion benches of the store's parts, each alone. `make microbench` measures; a plain
//! `cargo test` runs each once.
//!
//! Owns: which parts. Must not know: members, clusters. A newcomer's trap: what a request costs is
//! far more than the sum of these; `kijabi bench` measures that.

mod disk;
mod events;
mod mvcc;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    mvcc::all(&mut criterion);
    events::all(&mut criterion);
    disk::all(&mut criterion);
    criterion.final_summary();
}
