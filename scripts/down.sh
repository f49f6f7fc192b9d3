#!/usr/bin/env bash
# Stops the cluster of `make up` and removes everything it made. Twice in a row is fine.
set -euo pipefail
cd "$(dirname "$0")/.."
data="${KIJABI_DATA:-/var/lib/kijabi}"
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --preserve-env=KIJABI_DATA "$@"; fi; }
if ! as_root test -e "$data"; then
    echo "nothing to remove: $data does not exist"
    exit 0
fi
if as_root test -x "$data/bin/kijabi"; then
    as_root "$data/bin/kijabi" down --data-dir "$data"
fi
as_root rm -rf --one-file-system "$data"
echo "removed $data"
