#!/usr/bin/env bash
# What must hold before anything else: formatting, lints, docs, dependency policy. Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh build
source scripts/env.sh
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
if command -v cargo-deny >/dev/null; then
    cargo deny --locked check bans licenses sources
else
    echo "cargo-deny is not installed: dependency policy not checked here"
fi
