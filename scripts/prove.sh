#!/usr/bin/env bash
# Members under load and faults, many seeds; a run that fails prints the command that runs it again.
# Usage: scripts/prove.sh [RUNS [FIRST_SEED]]; KIJABI_PROVE_MEMBERS (3), KIJABI_PROVE_SECONDS (20).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
export KIJABI_PROVE_RUNS="${1:-30}" KIJABI_PROVE_SEED="${2:-1000}"
cargo build -p kijabi --locked
exec cargo test -p kijabi-tests --test store_faults --locked -- many_seeds --ignored --nocapture
