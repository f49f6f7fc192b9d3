//! Criterion benches of the pure parts: see `benches/`, run with `cargo bench -p kijabi-benches`.
