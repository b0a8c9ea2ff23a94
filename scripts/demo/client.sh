#!/usr/bin/env bash
# client.sh HOST PORT: asks redis at HOST:PORT "PING" over and over, on a new
# connection each time, until the file client.stop appears.
#
# One line a PING on stdout: when it ended and how long it took (both in
# microseconds), then the answer. While the file client.hold exists no PING is
# begun; client.held says that none is under way.
#
# It only uses what bash has built in: a process a PING would cost more than
# the PING itself.
set -uo pipefail
export LC_ALL=C # EPOCHREALTIME is written with the locale's decimal point.
trap '' PIPE

host=$1
port=$2
pause_s=0.05
# Longer than the proxy holds a client (10 s), so that its verdict is seen.
patience_s=15

ping_once() {
    answer=
    printf 'PING\r\n' >&3 && IFS= read -r -t "$patience_s" -u 3 answer
} 2>/dev/null 3<>"/dev/tcp/$host/$port"

# Nothing is ever written to this pipe: reading it is a sleep without a process.
exec {never}<> <(:)

while [[ ! -e client.stop ]]; do
    if [[ -e client.hold ]]; then
        : >client.held
        while [[ -e client.hold && ! -e client.stop ]]; do
            read -r -t 0.005 -u "$never" || true
        done
        continue
    fi
    begin_us=${EPOCHREALTIME/./}
    answer='no connection'
    ping_once 2>/dev/null || true
    end_us=${EPOCHREALTIME/./}
    answer=${answer%$'\r'}
    printf '%s %s %s\n' "$end_us" "$((end_us - begin_us))" "${answer:-no answer}"
    read -r -t "$pause_s" -u "$never" || true
done
