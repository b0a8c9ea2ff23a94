#!/usr/bin/env bash
# The article's story on a real Docker engine: the `docker run` lines of the
# five units in units/fleet, started one after the other, with a real etcd and
# a real redis.
#
#   tests/article.sh [BINARY]      (default: what `make static` makes)
#
# The lines run as they are in the units; only %n, ${COREOS_PRIVATE_IPV4} and
# the image of redis are filled in. Both hosts are this one, and its private
# address is the one on Docker's bridge. As root that bridge gets the article's
# 172.17.42.1 for the time of the test; otherwise the address it has is put in.
#
# Exit code 77: skipped, because no Docker engine answers or it is too new to
# set link variables.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
binary=${1:-$root/target/x86_64-unknown-linux-musl/release/ambassador}
units=(redis etcd-amb-redis register-redis-etcd etcd-amb-redis-cli redis-dyn-amb)
client=ambassador-article-client
key=/services/redis-A/redis.service

say() { printf 'article.sh: %s\n' "$*" >&2; }
skip() { say "skipped: $*"; exit 77; }

# ---- what is needed ----------------------------------------------------------

command -v docker >/dev/null || skip "there is no docker here"
engine=$(timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null) ||
    skip "no Docker engine answers"
((${engine%%.*} < 29)) || skip "Docker $engine no longer sets link variables"
"$root/scripts/packages.sh" etcd-server:etcd etcd-client:etcdctl iproute2:ip

# Containers of these names may be someone's services.
for name in "${units[@]/%/.service}" "$client"; do
    if [[ -n $(docker ps --all --quiet --filter "name=^/$name\$") ]]; then
        say "there is a container $name already, and it is not ours to remove"
        exit 1
    fi
done

# ---- clean-up ----------------------------------------------------------------

work=$(mktemp -d)
bridge_address=
started=() # Names of containers.
declare -A client_of # The process of `docker run` for each of them.

clean_up() {
    local code=$?
    trap - EXIT
    if ((code)); then
        local log
        for log in "$work"/*.log; do
            [[ -s $log ]] || continue
            printf -- '---- %s\n' "${log##*/}" >&2
            tail -n 20 "$log" >&2
        done
    fi
    ((${#started[@]} == 0)) || docker rm --force "${started[@]}" >/dev/null 2>&1 || true
    # etcd, and the docker clients that still run.
    local pid
    for pid in $(jobs -p); do
        kill "$pid" 2>/dev/null || true
    done
    wait
    [[ -z $bridge_address ]] || ip address delete "$bridge_address" dev "$bridge" || true
    rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- steps -------------------------------------------------------------------

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# step WHAT COMMAND... : runs the command, prints WHAT with its time or fails.
step() {
    local what=$1 begin end
    shift
    begin=$(now_ms)
    if ! "$@"; then
        printf 'FAILED           %s\n' "$what"
        exit 1
    fi
    end=$(now_ms)
    printf 'ok %6d ms     %s\n' "$((end - begin))" "$what"
}

# within SECONDS COMMAND... : repeats the command until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

is_running() {
    [[ $(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null) == true ]]
}

# The `docker run` line of a unit with its placeholders filled in.
run_line() {
    sed -n 's|^ExecStart=/usr/bin/||p' "$root/units/fleet/$1.service" |
        sed -e "s/%n/$1.service/g" \
            -e "s/\${COREOS_PRIVATE_IPV4}/$host/g" \
            -e "s/172\.17\.42\.1:4001/$etcd/g" \
            -e 's/ redis$/ redis:local/'
}

# Starts a unit's container as the unit does, in the foreground of a process.
start_unit() {
    local line
    line=$(run_line "$1")
    [[ $line == "docker run "* && $line != *" -e "* ]] || { say "$1: $line"; return 1; }
    started+=("$1.service")
    # shellcheck disable=SC2086  # The line has no quotes, as systemd reads it.
    $line >"$work/$1.log" 2>&1 </dev/null &
    client_of[$1]=$!
    within 20 is_running "$1.service"
}

# One command to redis as the article's client has it: in a container linked to
# the ambassador, told by the link variables alone.
redis_says() {
    local answer
    answer=$(docker run --rm --name "$client" --link redis-dyn-amb.service:redis redis:local \
        sh -c "redis-cli -h \"\$REDIS_PORT_6379_TCP_ADDR\" -p \"\$REDIS_PORT_6379_TCP_PORT\" $1" \
        2>>"$work/client.log") && [[ $answer == "$2" ]]
}

etcd_get() { ETCDCTL_API=2 etcdctl --endpoints "http://$etcd" get "$key" 2>>"$work/etcdctl.log"; }

# Whether etcd holds exactly the article's value for the port Docker chose.
# The dots keep the shell from dropping line ends.
value_is_right() {
    local published port expected
    published=$(docker port redis.service 6379) && [[ $published == "$host":* ]] || return 1
    port=${published##*:}
    expected="{ \"port\": $port, \"host\": \"$host\" }"
    [[ "$(etcd_get && echo .)" == "$expected"$'\n.' ]]
}

value_is_gone() {
    : >"$work/etcdctl.log"
    ! etcd_get >/dev/null && grep -q 'Key not found' "$work/etcdctl.log"
}

# Whether the engine has asked each of ours how it is, and was told that it is ready.
all_are_healthy() {
    local unit
    for unit in "${units[@]:1}"; do
        [[ $(docker inspect --format '{{.State.Health.Status}}' "$unit.service") == healthy ]] || return 1
    done
}

# What a unit's container says of itself.
says_of_itself() {
    docker exec "$1.service" /ambassador status | grep -q "$2"
}

restart_redis() { docker restart -t 3 redis.service >/dev/null; }

# Whether `docker stop`, as the unit has it, ends a container with exit code 0
# in less than $2 ms; SIGKILL would make it 137.
stops_within() {
    local begin took code=0
    begin=$(now_ms)
    docker stop -t 3 "$1.service" >/dev/null || return 1
    took=$(($(now_ms) - begin))
    wait "${client_of[$1]}" || code=$?
    ((took < $2 && code == 0)) || { say "$1: stopped after $took ms with code $code"; return 1; }
}

# A connection to redis through the ambassador's published port, which stays open.
open_connection() {
    local address answer
    address=$(docker port redis-dyn-amb.service 6379)
    exec {connection}<>"/dev/tcp/${address%:*}/${address##*:}"
    printf 'PING\r\n' >&"$connection"
    read -r -t 10 -u "$connection" answer && [[ $answer == +PONG* ]]
}

# ---- the story ---------------------------------------------------------------

bridge=$(docker network inspect bridge \
    --format '{{index .Options "com.docker.network.bridge.name"}}')
host=$(ip -4 -oneline address show dev "$bridge" 2>/dev/null |
    sed -n '1s|.* inet \([0-9.]*\)/.*|\1|p')
[[ -n $host ]] || skip "the bridge of this engine ($bridge) is not on this machine"
etcd=$host:4001
if ((EUID == 0)); then
    etcd=172.17.42.1:4001
    if [[ -z $(ip -oneline address show to 172.17.42.1/32) ]]; then
        ip address add 172.17.42.1/32 dev "$bridge"
        bridge_address=172.17.42.1/32
    fi
fi

start_etcd() {
    # Nobody joins this cluster of one: its peers' address is never used.
    etcd --name article --data-dir "$work/etcd" --enable-v2=true \
        --listen-client-urls "http://$etcd" --advertise-client-urls "http://$etcd" \
        --listen-peer-urls http://127.0.0.1:0 --initial-advertise-peer-urls http://127.0.0.1:1 \
        --initial-cluster article=http://127.0.0.1:1 >"$work/etcd.log" 2>&1 </dev/null &
    within 20 value_is_gone && kill -0 $! 2>/dev/null
}

make_images() {
    "$root/scripts/image.sh" "$binary" >"$work/images.log" 2>&1 || return 1
    docker image inspect redis:local >/dev/null 2>&1 ||
        "$root/scripts/local-images.sh" redis >>"$work/images.log" 2>&1
}

echo "Docker $engine, etcd at $etcd, hosts A and B at $host"
step "images from ${binary##*/}" make_images
step "etcd answers" start_etcd
for unit in "${units[@]}"; do
    step "$(run_line "$unit")" start_unit "$unit"
done
step "etcd holds the published address at $key" within 10 value_is_right
echo "                 $(etcd_get)"
step "PING through the ambassador answers PONG" redis_says PING PONG
step "SET through the ambassador answers OK" redis_says "SET article kept" OK

step "the engine says that all four are healthy" within 20 all_are_healthy
step "/ambassador status in the registrar says what it keeps" \
    says_of_itself register-redis-etcd "$key  *registered"
step "/ambassador status in the proxy says whom it serves" \
    says_of_itself redis-dyn-amb "^redis-A  $host:"

before=$(docker port redis.service 6379)
step "docker restart redis.service" restart_redis
step "PING answers PONG at the first attempt after it" redis_says PING PONG
step "etcd holds the new address ($before -> $(docker port redis.service 6379))" \
    within 10 value_is_right

step "a connection stays open" open_connection
step "docker stop redis-dyn-amb.service beside it (< 3 s, no SIGKILL)" stops_within redis-dyn-amb 3000
exec {connection}>&-
step "redis-dyn-amb.service again" start_unit redis-dyn-amb
step "PING answers PONG" redis_says PING PONG
step "docker stop redis-dyn-amb.service (< 1 s)" stops_within redis-dyn-amb 1000
step "docker stop etcd-amb-redis-cli.service (< 1 s)" stops_within etcd-amb-redis-cli 1000
step "docker stop register-redis-etcd.service (< 1 s)" stops_within register-redis-etcd 1000
step "its key is gone from etcd" value_is_gone
step "docker stop etcd-amb-redis.service (< 1 s)" stops_within etcd-amb-redis 1000
echo "The article's five units work."
