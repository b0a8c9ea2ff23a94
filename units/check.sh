#!/usr/bin/env bash
# Checks the plain systemd units: that systemd reads them without a complaint,
# and that `systemd-analyze security` rates each service 2.0 or lower.
set -euo pipefail

limit=20 # tenths
units=$(dirname "$(readlink -f "$0")")/systemd
copies=$(mktemp -d)
trap 'rm -rf "$copies"' EXIT

# The program need not be installed here to check how it would be started.
for unit in "$units"/*.service; do
    sed 's|^ExecStart=/usr/local/bin/ambassador |ExecStart=/bin/true |' "$unit" \
        >"$copies/${unit##*/}"
done
# A socket unit is read together with its service.
cp "$units"/*.socket "$copies"

failed=0
for unit in "$copies"/*; do
    complaints=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$unit" 2>&1) || true
    if [[ -n $complaints ]]; then
        printf '%s\n' "$complaints" >&2
        failed=1
    fi
done
for unit in "$copies"/*.service; do
    rating=$(systemd-analyze security --offline=true --no-pager "$unit" |
        sed -n 's/.*exposure level for .*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
    printf '%-32s exposure %s.%s\n' "${unit##*/}" "${rating%?}" "${rating#"${rating%?}"}"
    ((10#${rating:-99} <= limit)) || failed=1
done
exit "$failed"
