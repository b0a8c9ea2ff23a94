#!/usr/bin/env bash
# Runs the demo once more and keeps what its proxy says of itself when a host is
# lost: pictures of its page in docs/tour/, and its status in README.
#
#   scripts/tour.sh [BINARY]        default: target/release/ambassador
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tour=$here/../docs/tour
mkdir -p "$tour"
DEMO_TOUR=$tour "$here/demo.sh" "$@"

new=$(mktemp)
trap 'rm -f "$new" "$tour/status.txt"' EXIT
awk -v status="$tour/status.txt" '
    /^<!-- tour: begin/ {
        print
        print ""
        while ((getline line < status) > 0) print (line == "" ? "" : "    " line)
        print ""
        is_old = 1
        has_place = 1
    }
    /^<!-- tour: end/ { is_old = 0 }
    !is_old { print }
    END { exit !has_place || is_old }
' "$here/../README.md" >"$new"
cat "$new" >"$here/../README.md"
