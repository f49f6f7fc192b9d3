#!/usr/bin/env bash
# What must hold before anything else: formatting, lints, docs, dependency policy. Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh build
source scripts/env.sh
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
# cargo-deny comes from the Rust registry and is kept beside the build.
tools="$HOME/.cache/kijabi/tools"
export PATH="$tools/bin:$PATH"
if ! command -v cargo-deny >/dev/null; then
    CARGO_TARGET_DIR="$tools/build" cargo install cargo-deny --locked --quiet --root "$tools"
    rm -rf "$tools/build"
fi
# Advisories need a database that is not on the Rust registry; they are reviewed with each update.
cargo deny --locked check bans licenses sources
