#!/usr/bin/env bash
# All tests. The end-to-end ones start real clusters with real containers, so root is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
stage() { local from=$SECONDS name=$1; shift; echo "== $name"; "$@"; echo "== $name: $((SECONDS - from)) s"; }
stage "install" scripts/install.sh build run test
stage "clients" scripts/clients.sh
source scripts/env.sh
if [ "$(id -u)" -ne 0 ]; then
    echo "make test needs root: it runs containers and network namespaces (try: sudo -E make test)" >&2
    exit 1
fi
stage "build" cargo build --workspace --all-targets --locked
stage "unit tests" cargo test --workspace --exclude kijabi-tests --locked --quiet
# One after another: each starts clusters and wants both cores.
stage "end-to-end tests" cargo test -p kijabi-tests --locked -- --test-threads=1
