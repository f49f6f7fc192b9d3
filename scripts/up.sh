#!/usr/bin/env bash
# One command to a running cluster: install, build, start, wait, run the demo, say how to go on.
set -euo pipefail
cd "$(dirname "$0")/.."
data="${KIJABI_DATA:-/var/lib/kijabi}"
step() { printf '\033[1m== %s\033[0m (%d s)\n' "$1" "$SECONDS"; }
fail() { echo "make up: $1" >&2; exit 1; }

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --preserve-env=KIJABI_DATA "$@"; fi; }

# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for ((tick = 0; tick < seconds * 5; tick++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        as_root kill -0 "$pid" 2>/dev/null || { as_root tail -n 20 "$data/kijabi.log" >&2; fail "kijabi ended while waiting for $what"; }
        sleep 0.2
    done
    fail "$what did not come within $seconds s; see $data/kijabi.log"
}

step "installing what is missing"
scripts/install.sh build run

step "building kijabi"
source scripts/env.sh
cargo build --release --locked -p kijabi
kijabi="$CARGO_TARGET_DIR/release/kijabi"

step "starting the cluster in $data"
as_root mkdir -p "$data/bin"
as_root chmod 0700 "$data"
if pid=$(as_root cat "$data/kijabi.pid" 2>/dev/null) && as_root kill -0 "$pid" 2>/dev/null; then
    echo "it runs already (pid $pid)"
else
    as_root install -m 0755 "$kijabi" "$data/bin/kijabi"
    as_root sh -c "setsid '$data/bin/kijabi' up --data-dir '$data' >>'$data/kijabi.log' 2>&1 </dev/null & echo \$! >'$data/kijabi.pid'"
    pid=$(as_root cat "$data/kijabi.pid")
fi
kubectl=(as_root kubectl --kubeconfig "$data/admin.conf")
node_is_ready() { [[ $("${kubectl[@]}" get nodes --no-headers 2>/dev/null | awk '{print $2}') == Ready* ]]; }
wait_for 60 "the API server" "${kubectl[@]}" get --raw /readyz
wait_for 90 "a Ready node" node_is_ready

step "running the demo: three web servers"
as_root "$data/bin/kijabi" demo-image --data-dir "$data"
"${kubectl[@]}" apply -f examples/echo-hname.yaml
running_pods() { "${kubectl[@]}" get pods -l app=nginx --field-selector=status.phase=Running -o jsonpath='{range .items[*]}{.metadata.name}{" "}{.status.podIP}{"\n"}{end}'; }
three_run() { [ "$(running_pods | awk 'NF == 2' | wc -l)" -ge 3 ]; }
wait_for 90 "three running pods" three_run
"${kubectl[@]}" get nodes,deployments,pods -o wide
while read -r name ip; do
    printf '%s says: ' "$ip"
    curl --silent --show-error --fail --max-time 5 --retry 5 --retry-connrefused --retry-delay 1 "http://$ip/"
done < <(running_pods)

step "ready"
cat <<TEXT
Go on with:
  kubectl --kubeconfig $data/admin.conf get pods -A
  kubectl --kubeconfig $data/admin.conf scale deployment echo-hname --replicas=9
  kubectl --kubeconfig $data/admin.conf logs -f deployment/echo-hname
The log is $data/kijabi.log. 'make down' removes everything again.
TEXT
