#!/usr/bin/env bash
# Random faults of etcd, Docker, registrars and links, with clients that must not
# notice: with a Docker of which everything can fail, then with the real engine
# where one answers.
#
# CHAOS_SECONDS  how long the faults go on, in each of the two    (default: 300)
# CHAOS_SEED     which faults                                     (default: any)
# TEST_ETCD_API  v2 or v3                                         (default: v2)
# TEST_ETCD_BIN  the etcd, such as that of scripts/etcd35.sh      (default: the one in the PATH)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
cd "$here/.."
"$here/packages.sh" etcd-server:etcd redis-server:redis-server
export CHAOS_SECONDS=${CHAOS_SECONDS:-300}

cargo test --locked --test ambassador -- --nocapture chaos::
if timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    cargo test --locked --test ambassador -- --nocapture --ignored chaos::
else
    printf '\n*** SKIPPED: chaos with the real Docker engine, and none answers.\n'
fi
