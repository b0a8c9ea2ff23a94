#!/usr/bin/env bash
# Installs the Debian packages that are missing, and says nothing when none is.
#
#   scripts/packages.sh NAME[:COMMAND]...
#
# With :COMMAND a package also counts as present when that command is found,
# so an etcd or redis that came another way is used as it is.
set -euo pipefail

say() { printf 'packages.sh: %s\n' "$*" >&2; }

installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

missing=()
for argument in "$@"; do
    package=${argument%%:*}
    command=${argument#"$package"}
    command=${command#:}
    if [[ -n $command ]] && PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null; then
        continue
    fi
    installed "$package" || missing+=("$package")
done
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}; there is no apt-get here, install what provides them"
    exit 1
fi
install=(apt-get install --yes --no-install-recommends "${missing[@]}")
if ((EUID != 0)); then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n -- "$(readlink -f "$0")" "${missing[@]}"
    fi
    say "missing: ${missing[*]}; run as root: ${install[*]}"
    exit 1
fi

log=$(mktemp)
policy=
clean_up() {
    rm -f "$log"
    [[ -z $policy ]] || rm -f "$policy"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A server package starts its daemon when it is installed, on the very port a
# test may want. Exit code 101 of policy-rc.d is Debian's way to forbid that; at
# the next boot the daemon starts as its package has it.
# Where there is one already, as in container images, it is not ours to change.
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
lock=(-o DPkg::Lock::Timeout=120)
# A list that cannot be fetched is no reason to stop: the old one may do.
apt-get "${lock[@]}" update >"$log" 2>&1 || true
if ! "${install[@]}" "${lock[@]}" >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    say "could not install ${missing[*]}"
    exit 1
fi
