#!/usr/bin/env bash
# Members under load and faults, many seeds; a run that fails prints the command that runs it again.
# Usage: scripts/prove.sh [RUNS [FIRST_SEED]]; KIJABI_PROVE_MEMBERS (3), KIJABI_PROVE_SECONDS (20),
# KIJABI_PROVE_CLIENTS (96). The members are a release build, or the program that KIJABI_BINARY names.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
export KIJABI_PROVE_RUNS="${1:-30}" KIJABI_PROVE_SEED="${2:-1000}"
if [ -z "${KIJABI_BINARY:-}" ]; then
    cargo build --release -p kijabi --locked
    export KIJABI_BINARY="$CARGO_TARGET_DIR/release/kijabi"
fi
exec cargo test -p kijabi-tests --test store_faults --locked -- many_seeds --ignored --nocapture
