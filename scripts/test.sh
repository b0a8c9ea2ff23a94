#!/usr/bin/env bash
# Runs all tests: units, then the real binary with a real etcd and redis, then what
# uses etcd once more with its v3 API, then those that need a Docker engine where one
# answers, then half a minute of chaos, which is alone so that its faults are all that
# goes wrong. Ends with the counts.
#
# TEST_ETCD_BIN=PATH  the etcd of the v3 pass  (default: 3.5, else the one in the PATH)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/.."
"$here/packages.sh" etcd-server:etcd redis-server:redis-server redis-tools:redis-cli \
    openssl:openssl

# Large, and only for the tests of the page and of what Prometheus makes of the metrics,
# which say that they are skipped where there is none.
"$here/packages.sh" chromium-driver:chromedriver prometheus:promtool fonts-dejavu-core || true

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# run WHAT...: cargo test, shown and kept; how it ended is summed up below.
status=0
run() { cargo test --locked "$@" 2>&1 | tee -a "$log" || status=1; }

# count WORD: the sum of all "N WORD" in cargo's closing lines.
count() { awk -v word="$1;" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word) n += $(i - 1) } END { print n + 0 }' "$log"; }

# The v3 pass is about an etcd without the v2 API; only the one of the system, which the
# first pass has already used, is left where no other can be had.
v3_etcd=${TEST_ETCD_BIN:-}
unset TEST_ETCD_API TEST_ETCD_BIN
if [[ -z $v3_etcd ]] && ! v3_etcd=$("$here/etcd35.sh"); then
    printf '\n*** etcd 3.5 cannot be had: the tests with the v3 API use %s.\n' "$(etcd --version | head -n 1)"
    v3_etcd=etcd
fi

# Most tests wait most of the time, so more of them run at once than there are CPUs.
threads=${RUST_TEST_THREADS:-12}
RUST_TEST_THREADS=$threads run -- --skip chaos::
skipped=$(count ignored)
printf '\n*** Once more, with the v3 API of %s.\n' "$("$v3_etcd" --version | head -n 1)"
TEST_ETCD_API=v3 TEST_ETCD_BIN=$v3_etcd RUST_TEST_THREADS=$threads run --test ambassador -- \
    --skip chaos:: proxy:: exec:: register:: register_all:: cluster:: links:: helpers:: listing:: logs:: \
    etcd_apis:: etcd_auth:: etcd_secure:: etcd_tls:: etcd_v3::
if timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    run --test ambassador -- --ignored --skip chaos::
    skipped=0
else
    printf '\n*** SKIPPED: %s tests that need a Docker engine, and none answers.\n' "$skipped"
    printf '*** scripts/dockerd.sh start (as root) starts one.\n'
fi
# Always the same faults here; make chaos draws others each time.
CHAOS_SECONDS=${CHAOS_SECONDS:-30} CHAOS_SEED=${CHAOS_SEED:-1} run --test ambassador -- --nocapture chaos::

# A test that finds out only while it runs that it cannot (as root, as nobody) says
# so in a line of its own, and cargo counts it as passed.
unable=$(grep -c '^SKIPPED ' "$log" || true)
printf '\n%s passed, %s failed, %s skipped\n' \
    "$(($(count passed) - unable))" "$(count failed)" "$((skipped + unable))"
exit "$status"
