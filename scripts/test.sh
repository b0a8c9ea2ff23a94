#!/usr/bin/env bash
# Runs all tests: units, then the real binary with a real etcd and redis, then
# those that need a Docker engine where one answers, then half a minute of chaos,
# which is alone so that its faults are all that goes wrong. Ends with the counts.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/.."
"$here/packages.sh" etcd-server:etcd redis-server:redis-server redis-tools:redis-cli \
    openssl:openssl

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# run WHAT...: cargo test, shown and kept; how it ended is summed up below.
status=0
run() { cargo test --locked "$@" 2>&1 | tee -a "$log" || status=1; }

# count WORD: the sum of all "N WORD" in cargo's closing lines.
count() { awk -v word="$1;" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word) n += $(i - 1) } END { print n + 0 }' "$log"; }

# Most tests wait most of the time, so more of them run at once than there are CPUs.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-8} run -- --skip chaos::
skipped=$(count ignored)
if timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    run --test ambassador -- --ignored --skip chaos::
    skipped=0
else
    printf '\n*** SKIPPED: %s tests that need a Docker engine, and none answers.\n' "$skipped"
    printf '*** scripts/dockerd.sh start (as root) starts one.\n'
fi
CHAOS_SECONDS=${CHAOS_SECONDS:-30} run --test ambassador -- --nocapture chaos::

# A test that finds out only while it runs that it cannot (as root, as nobody) says
# so in a line of its own, and cargo counts it as passed.
unable=$(grep -c '^SKIPPED ' "$log" || true)
printf '\n%s passed, %s failed, %s skipped\n' \
    "$(($(count passed) - unable))" "$(count failed)" "$((skipped + unable))"
exit "$status"
