#!/usr/bin/env bash
# Measures the figures of docs/figures.md on this machine and prints them as table rows.
# Everything runs below a temporary folder and on loopback, and is ended by pid.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
kijabi="${KIJABI:-$CARGO_TARGET_DIR/release/kijabi}"
kubectl="${KIJABI_CLIENTS:-$HOME/.cache/kijabi/clients}/kubectl-1.36"
work=$(mktemp -d /tmp/kj-figures-XXXX)
pids=()
clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    "$kijabi" --log=error down --data-dir "$work/up" || true
    rm -rf "$work"
}
trap clean EXIT

now_ms() { date +%s%3N; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { # SECONDS COMMAND...
    local ticks=$(($1 * 50)); shift
    for ((i = 0; i < ticks; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.02; done
    echo "timed out: $*" >&2; return 1
}
cpu_ms() { awk '{ print ($14 + $15) * 10 }' "/proc/$1/stat"; }          # user + system, in ms
rss_mb() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
idle_row() { # NAME PID: RSS and CPU over ten idle seconds
    local before after
    before=$(cpu_ms "$2"); sleep 10; after=$(cpu_ms "$2")
    echo "| $1, idle | $(rss_mb "$2") MB | $(awk -v d=$((after - before)) 'BEGIN { printf "%.1f", d / 100 }') % of a core |"
}

echo "| binary, release | $(awk -v b="$(stat -c %s "$kijabi")" 'BEGIN { printf "%.1f", b / 1048576 }') MiB | |"

# --- the whole cluster in one process
mkdir -p "$work/up"
started=$(now_ms)
"$kijabi" --log=warn up --data-dir "$work/up" --secure-port=0 --kubelet-port=0 2>"$work/up.log" &
up=$!; pids+=("$up")
k() { "$kubectl" --kubeconfig "$work/up/admin.conf" "$@"; }
until_true 60 test -s "$work/up/admin.conf"
until_true 60 k get --raw /readyz
echo "| \`kijabi up\` to /readyz | $(($(now_ms) - started)) ms | |"
ready() { [[ $(k get nodes --no-headers) == *" Ready "* ]]; }
until_true 60 ready
echo "| \`kijabi up\` to the node Ready | $(($(now_ms) - started)) ms | |"
"$kijabi" --log=error demo-image --data-dir "$work/up"
until_true 30 k get serviceaccount default
created=$(now_ms)
k run first --image=localhost/echo-hname:v1 --image-pull-policy=Never >/dev/null
running() { [ "$(k get pod first -o 'jsonpath={.status.phase}')" = Running ]; }
until_true 60 running
echo "| \`kubectl run\` to Running, image there | $(($(now_ms) - created)) ms | |"
sleep 5
idle_row "\`kijabi up\`, all roles, one pod" "$up"
kill "$up"; wait "$up" 2>/dev/null || true

# --- each role alone
port=$(free_port)
"$kijabi" store --name figures --data-dir "$work/store" --listen-client-urls "http://127.0.0.1:$port" \
    --advertise-client-urls "http://127.0.0.1:$port" 2>"$work/store.log" &
store=$!; pids+=("$store")
until_true 20 curl -sf "http://127.0.0.1:$port/health"
secure=$(free_port)
"$kijabi" --log=warn apiserver --etcd-servers "http://127.0.0.1:$port" --cert-dir "$work/pki" --bind-address 127.0.0.1 \
    --secure-port "$secure" --admin-kubeconfig "$work/admin.conf" 2>"$work/apiserver.log" &
api=$!; pids+=("$api")
until_true 20 test -s "$work/admin.conf"
until_true 20 "$kubectl" --kubeconfig "$work/admin.conf" get --raw /readyz
"$kijabi" --log=warn scheduler --kubeconfig "$work/admin.conf" 2>"$work/scheduler.log" & scheduler=$!; pids+=("$scheduler")
"$kijabi" --log=warn controller-manager --kubeconfig "$work/admin.conf" --root-ca-file "$work/pki/ca.crt" 2>"$work/controllers.log" &
controllers=$!; pids+=("$controllers")
sleep 10
idle_row "store" "$store"; idle_row "apiserver" "$api"; idle_row "scheduler" "$scheduler"; idle_row "controller-manager" "$controllers"
kill "$scheduler" "$controllers" "$api"; wait "$scheduler" "$controllers" "$api" 2>/dev/null || true

# --- put/s beside Debian's etcd, the same client, interleaved
peer_port=$(free_port); peer_peer=$(free_port)
etcd --name peer --data-dir "$work/peer" --listen-client-urls "http://127.0.0.1:$peer_port" --advertise-client-urls "http://127.0.0.1:$peer_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer_peer" \
    --initial-cluster "peer=http://127.0.0.1:$peer_peer" --log-level error 2>"$work/etcd.log" &
peer=$!; pids+=("$peer")
until_true 20 curl -sf "http://127.0.0.1:$peer_port/health"
puts() { # NAME PID PORT
    local cpu0 cpu1 out rate
    cpu0=$(cpu_ms "$2")
    out=$(ETCDCTL_API=3 etcdctl --endpoints "http://127.0.0.1:$3" check perf --load="${LOAD:-l}" 2>&1 | tr '\r' '\n' || true)
    cpu1=$(cpu_ms "$2")
    rate=$(grep -oE 'Throughput[^0-9]*[0-9]+' <<<"$out" | grep -oE '[0-9]+$' | tail -1)
    echo "| put, \`etcdctl check perf --load=${LOAD:-l}\`, $1 | ${rate:-?}/s | $(awk -v c=$((cpu1 - cpu0)) -v n="${rate:-0}" 'BEGIN { if (n) printf "%.0f", c * 1000 / (n * 60); else print "?" }') CPU-µs a put; RSS after $(rss_mb "$2") MB |"
}
for _ in $(seq "${ROUNDS:-1}"); do
    puts "Debian etcd" "$peer" "$peer_port"
    puts "kijabi store" "$store" "$port"
done
