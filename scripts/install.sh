#!/usr/bin/env bash
# Installs the Debian packages that are missing: `install.sh build|run|test ...`.
set -euo pipefail
declare -A packages=(
    [build]="build-essential pkg-config libclang-dev protobuf-compiler libprotobuf-dev xz-utils"
    [run]="containerd runc containernetworking-plugins nftables iptables iproute2 busybox-static curl"
    [test]="openssl etcd-server etcd-client docker-registry python3 python3-pip nodejs npm unzip procps"
)
missing=()
for group in "$@"; do
    for package in ${packages[$group]}; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then
            missing+=("$package")
        fi
    done
done
# A cluster's user needs a kubectl; one that is there already is as good as Debian's.
if [[ " $* " == *" run "* ]] && ! command -v kubectl >/dev/null; then missing+=(kubernetes-client); fi
# python3 and pip may come from elsewhere (pyenv, an image): what counts is that they run.
if python3 -m pip --version >/dev/null 2>&1; then missing=("${missing[@]/python3-pip/}"); fi
if node --version >/dev/null 2>&1; then missing=("${missing[@]/#nodejs/}"); fi
if npm --version >/dev/null 2>&1; then missing=("${missing[@]/#npm/}"); fi
read -ra missing <<<"${missing[*]:-}"
[ ${#missing[@]} -gt 0 ] || exit 0
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    sudo=$(command -v sudo) || { echo "need root (or sudo) to install: ${missing[*]}" >&2; exit 1; }
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services that these packages would start are not wanted: their programs are all that is used.
if ! { $sudo apt-get update -q && $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    exit 1
fi
