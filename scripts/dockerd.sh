#!/usr/bin/env bash
# Gives machines without a running Docker engine one, for tests in CI.
#
#   scripts/dockerd.sh start    does nothing when an engine already answers
#   scripts/dockerd.sh stop     ends what start started, and nothing else
#
# Needs root. With systemd the service is started, otherwise the daemons are.
set -euo pipefail

say() { printf 'dockerd.sh: %s\n' "$*" >&2; }

here=$(dirname "$(readlink -f "$0")")
state=/run/ambassador-dockerd

answers() {
    timeout 5 docker version --format '{{.Server.Version}}' 2>/dev/null | grep -q .
}

containerd_answers() { ctr --connect-timeout 2s version >/dev/null 2>&1; }

# Waits up to 30 s until the command "$@" succeeds.
wait_until() {
    local tries
    for ((tries = 0; tries < 150; tries++)); do
        if "$@"; then return 0; fi
        sleep 0.2
    done
    return 1
}

# Whether the daemon "$1" that was started here runs. After a crash its number
# may belong to someone else, or to a dead process that no one has waited for;
# that one has no program any more.
runs() {
    local pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") == */"$1" ]]
}

# Starts the daemon "$1" with the arguments that follow, away from this terminal.
launch() {
    local name=$1
    setsid nohup "$@" >>"$state/$name.log" 2>&1 </dev/null &
    echo $! >"$state/$name.pid"
}

start() {
    if answers; then return; fi
    ((EUID == 0)) || { say "no Docker engine answers, and starting one needs root"; exit 1; }
    "$here/packages.sh" docker.io:dockerd iptables:iptables
    # Trixie and later have the client in a package of its own.
    command -v docker >/dev/null || "$here/packages.sh" docker-cli

    mkdir -p "$state"
    if [[ -d /run/systemd/system ]]; then
        touch "$state/systemd"
        systemctl start docker.service
    else
        # A containerd of its own: one that dockerd runs keeps a killed dockerd
        # from starting again.
        containerd_answers || launch containerd
        wait_until containerd_answers || {
            tail -n 5 "$state/containerd.log" >&2
            say "containerd does not start"
            exit 1
        }
        # dockerd refuses to start over the file of one that was killed.
        rm -f "$state/docker.pid"
        launch dockerd --containerd /run/containerd/containerd.sock --pidfile "$state/docker.pid"
    fi
    wait_until answers_or_ended || true
    answers || {
        tail -n 5 "$state/dockerd.log" >&2 2>/dev/null || true
        say "the engine does not answer"
        exit 1
    }
}

has_ended() { ! runs "$1"; }

answers_or_ended() { answers || { [[ ! -e $state/systemd ]] && has_ended dockerd; }; }

stop() {
    [[ -d $state ]] || return 0
    if [[ -e $state/systemd ]]; then
        # The socket as well: the next client would start the service again.
        systemctl stop docker.service docker.socket
    fi
    local name
    for name in dockerd containerd; do
        runs "$name" || continue
        kill "$(cat "$state/$name.pid")"
        wait_until has_ended "$name" || { say "$name does not stop"; exit 1; }
    done
    rm -rf "$state"
}

case ${1:-} in
start | stop) "$1" ;;
*)
    say "usage: $0 start|stop"
    exit 2
    ;;
esac
