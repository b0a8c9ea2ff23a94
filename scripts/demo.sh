#!/usr/bin/env bash
# Tells the story of `ambassador` on screen, with real programs: a client on
# host B uses redis, which first runs on host A, restarts on another port, and
# is started on host C when A is lost.
#
#   scripts/demo.sh [BINARY]        default: target/release/ambassador
#
# DEMO_HOSTS=namespaces|loopback  what stands for a host; default: namespaces
#                                 where root can make them
# DEMO_ENGINE=yes|no              redis in Docker containers or not; default:
#                                 yes where a host is a namespace and an engine
#                                 answers
# DEMO_TOUR=DIRECTORY             leaves there what the proxy says of itself when
#                                 A is lost: its page as pictures, and its status
#
# Exit code 0: the story held. 1: it did not, with a line that says where.
set -Eeuo pipefail
export LC_ALL=C # EPOCHREALTIME is written with the locale's decimal point.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/demo/stage.sh
source "$here/demo/stage.sh"
# shellcheck source=scripts/demo/camera.sh
source "$here/demo/camera.sh"

usage() {
    printf 'demo: %s\n' "$1" >&2
    exit 2
}
(($# <= 1)) || usage 'usage: scripts/demo.sh [BINARY]'
binary=$(realpath -- "${1:-$here/../target/release/ambassador}" 2>/dev/null) || binary=${1:-target/release/ambassador}
[[ -f $binary && -x $binary ]] || usage "$binary is not there or not executable; cargo build --release makes it"
engine=${DEMO_ENGINE:-auto} hosts=${DEMO_HOSTS:-auto}
[[ $engine =~ ^(auto|yes|no)$ ]] || usage "DEMO_ENGINE=$engine: yes or no is allowed"
tour=${DEMO_TOUR:+$(realpath -- "$DEMO_TOUR")}
[[ -z $tour || -d $tour ]] || usage "DEMO_TOUR=$tour: no such directory"
[[ $hosts =~ ^(auto|namespaces|loopback)$ ]] || usage "DEMO_HOSTS=$hosts: namespaces or loopback is allowed"

PATH=$PATH:/usr/sbin:/sbin
packages=(etcd-server:etcd redis-server:redis-server redis-tools:redis-cli)
if ((EUID == 0)); then packages+=(etcd-client:etcdctl iproute2:ip); fi
"$here/packages.sh" "${packages[@]}" || exit 1

# What is set for other programs of this machine must not reach the story's.
for name in $(compgen -e); do
    case $name in
        ETCD_UNSUPPORTED_ARCH) ;;
        AMBASSADOR_* | ETCD_* | ETCDCTL_* | REDISCLI_* | *_PORT_*_TCP | *_PORT_*_TCP_ADDR | *_PORT_*_TCP_PORT | \
            HOST_IP | COREOS_* | DOCKER_CONTEXT | RUST_LOG | NOTIFY_SOCKET | LISTEN_* | *_proxy | *_PROXY) unset -v "$name" ;;
    esac
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/ambassador-demo.XXXXXX")
trap strike EXIT
trap 'exit 130' INT
trap 'exit 129' HUP
trap 'exit 143' TERM PIPE
trap 'die "$BASH_COMMAND: exit code $? in line $LINENO"' ERR
id=${dir##*.}
cd "$dir"
mkdir bin
ln -s "$binary" bin/ambassador
PATH=$dir/bin:$PATH
[[ $(uname -m) != aarch64 ]] || export ETCD_UNSUPPORTED_ARCH=arm64 # etcd 3.4 asks for it.

# ------------------------------------------------------------------ the hosts

# set_engine: is Docker to be used, and does it work here? If not, says why.
set_engine() {
    if [[ $hosts == loopback ]]; then
        # Behind a loopback address Docker's own proxy takes every connection,
        # whether redis listens yet or not: no proxy before it can do better.
        why='hosts are loopback addresses'
    elif ! engine_answers; then
        why='no engine answers'
    elif ! engine_do image inspect redis:local >/dev/null 2>&1 && ! "$here/local-images.sh" redis >docker.log 2>&1; then
        why='its image cannot be made'
    else
        engine=yes
        if ! raise_hosts; then
            why='network namespaces cannot be made here'
        elif ! engine_reaches_b; then
            why="the engine's ports cannot be reached from another host"
        else
            return 0
        fi
        remove_containers
        lower_hosts
        engine=no
    fi
    return 1
}

printf 'A client on host B uses redis on host A. It never learns where redis runs.\n\n'
wanted_engine=$engine wanted_hosts=$hosts engine=no why=
if ((EUID != 0)) && [[ $hosts == auto ]]; then hosts=loopback; fi
if [[ $wanted_engine != no ]] && ! set_engine && [[ $wanted_engine == yes ]]; then
    die "DEMO_ENGINE=yes, but $why" docker.log
fi
if [[ $engine == no && $hosts != loopback ]] && ! raise_hosts; then
    lower_hosts
    [[ $wanted_hosts != namespaces ]] || die 'DEMO_HOSTS=namespaces, but they cannot be made' hosts.log
    hosts=loopback
fi
if [[ $hosts == loopback ]]; then loopback_hosts; else hosts=namespaces; fi

etcd_port=2379 peer_port=2380 client_port=6379 admin_port=9900
if [[ $hosts == loopback ]]; then
    etcd_port=$(free_port B "${addr[B]}" 2379)
    peer_port=$(free_port B "${addr[B]}" $((etcd_port + 1)))
    client_port=$(free_port B "${addr[B]}" 6379)
    admin_port=$(free_port B 127.0.0.1 9900)
fi
# The defaults of every program fit where a host is a namespace; loopback
# addresses have to be told apart.
from_b=() ask=() listen=$client_port
if [[ $hosts == loopback ]]; then
    from_b=(--etcd "${addr[B]}:$etcd_port")
    ask=(-h "${addr[B]}")
    [[ $client_port == 6379 ]] || ask+=(-p "$client_port")
    listen=${addr[B]}:$client_port
fi
# The article's name, unless this machine has such a container.
container=redis.service
if [[ $engine == yes ]] && engine_do container inspect "$container" >/dev/null 2>&1; then
    container=redis-$id.service
fi

# ---------------------------------------------------------- the story's verbs

# Times of `now`, and the redis process that answered last.
change_us=0 done_us=0 pong_us=0 story_us=0 last_run=

# etcd as B runs it.
start_etcd() {
    local command=(etcd --enable-v2=true)
    if [[ $hosts == namespaces ]]; then
        command+=(--listen-client-urls "http://0.0.0.0:2379" --advertise-client-urls "http://${b_towards[A]}:2379")
    else
        local url=http://${addr[B]}:$etcd_port peer=http://${addr[B]}:$peer_port
        command+=(--listen-client-urls "$url" --advertise-client-urls "$url" --listen-peer-urls "$peer"
            --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer")
    fi
    typed B "${command[@]}" '&'
    start etcd B "${command[@]}"
    await_from etcd 15 answers B "${addr[B]}" "$etcd_port" || die 'etcd ended or does not listen within 15 s' etcd.log
}

# start_redis HOST [PORT]: with Docker the port is the engine's choice.
start_redis() {
    local host=$1 command
    if [[ $engine == yes ]]; then
        typed "$host" docker run -d --name "$container" -p "${addr[$host]}::6379" redis:local
        run_container "$container" "${addr[$host]}" docker.log || die 'docker run ended with an error' docker.log
        return
    fi
    command=(redis-server --bind "${addr[$host]}" --port "$2" --protected-mode no --save '')
    typed "$host" "${command[@]}" '&'
    # redis logs to stdout.
    start redis "$host" "${command[@]}"
    redis_at=${addr[$host]}:$2
}

start_registrar() {
    local host=$1 command
    command=(ambassador register --etcd "${b_towards[$host]}:$etcd_port")
    # An address that means something else on every host has to be meant.
    if [[ $hosts == loopback ]]; then command+=(--host-ip "${addr[$host]}"); fi
    if [[ $engine == yes ]]; then
        command+=("$container" 6379 redis-A)
    else
        command+=(--address "$redis_at" redis-A)
    fi
    typed "$host" "${command[@]}" '&'
    start registrar "$host" "${command[@]}"
}

# What etcd holds: into entries, one "INSTANCE HOST PORT" a line.
registered() {
    on B timeout --foreground 12 ambassador list --json "${from_b[@]}" redis-A >list.json 2>list.log || return 1
    tr -d '\n' <list.json | tr '}' '\n' |
        sed -n 's/.*"instance": *"\([^"]*\)".*"host": *"\([^"]*\)".*"port": *\([0-9]*\).*/\1 \2 \3/p' >entries
}

# Is HOST registered with an entry that is not in the file `entries.before`?
registered_anew() { registered && grep -vxF -f entries.before entries | grep -qF " ${addr[$1]} "; }

remember_entries() {
    registered || die 'ambassador list failed' list.log
    cp entries entries.before
}

show_list() {
    typed B ambassador list "${from_b[@]}" redis-A
    on B timeout --foreground 12 ambassador list "${from_b[@]}" redis-A >list.out 2>list.log ||
        die 'ambassador list failed' list.log
    sed 's/^/     /' list.out
}

show_value() {
    local url=http://${addr[B]}:$etcd_port key=/services/redis-A/$1
    if command -v etcdctl >/dev/null; then
        local command=(etcdctl)
        if [[ $url != http://127.0.0.1:2379 ]]; then command+=(--endpoints "$url"); fi
        command+=(get "$key")
        typed B ETCDCTL_API=2 "${command[@]}"
        ETCDCTL_API=2 on B timeout --foreground 10 "${command[@]}" >value.out 2>value.log || die 'etcdctl get failed' value.log
        sed 's/^/     /' value.out
    fi
}

start_proxy() {
    local command=(ambassador proxy --admin "$admin_port" "${from_b[@]}" redis-A "$listen")
    typed B "${command[@]}" '&'
    start proxy B "${command[@]}"
    await_from proxy 10 grep -q '^listening redis-A ' proxy.out || die 'the proxy ended or does not listen within 10 s' proxy.log
    sed 's/^/     /' proxy.out
}

show_status() {
    local command=(ambassador status)
    [[ $admin_port == 9900 ]] || command+=(--admin "$admin_port")
    typed B "${command[@]}"
    on B timeout --foreground 10 "${command[@]}" >status.out 2>status.log || die 'the proxy is not ready' status.log
    sed 's/^\(.\)/     \1/' status.out
}

proxy_knows_why() {
    on B timeout --foreground 10 ambassador status --admin "$admin_port" >status.out 2>status.log &&
        grep -q 'tried last' status.out
}

# linger: for the charts of a tour, which are of the last five minutes.
linger() { [[ -z $tour ]] || sleep 45; }

# redis_ping: asks redis through the proxy as a user does; sets pong_us.
redis_ping() {
    typed B redis-cli "${ask[@]}" PING
    on B timeout --foreground 15 redis-cli "${ask[@]}" PING >ping.out 2>&1 || true
    now pong_us
    [[ $(<ping.out) == PONG ]] || die "redis-cli did not answer PONG but: $(head -c 200 ping.out)" proxy.log
    # The answer must come from the redis just started, not from one before it.
    run=$(on B timeout --foreground 15 redis-cli "${ask[@]}" INFO server | sed -n 's/^run_id:\([0-9a-f]*\).*/\1/p')
    [[ -n $run && $run != "$last_run" ]] || die 'the answer came from the redis of the step before' proxy.log
    last_run=$run
}

# -------------------------------------------- the client that runs all the time

# tally FROM: counts the client's PINGs that ended after the time FROM.
tally() {
    local end_us took_us answer
    sent=0 failed=0 slowest_us=0 complaint=
    while read -r end_us took_us answer; do
        ((end_us > $1)) || continue
        sent=$((sent + 1))
        ((took_us <= slowest_us)) || slowest_us=$took_us
        [[ $answer == +PONG ]] || { failed=$((failed + 1)) && complaint=$answer; }
    done <client.out
}

sent_since() {
    tally "$1"
    ((sent >= $2))
}

# client_saw FROM: lets the client go on for 60 PINGs after the PONG, then tells
# what it has seen since FROM.
client_saw() {
    await 30 sent_since "$pong_us" 60 || die 'the client does not get on' client.log
    tally "$1"
    remark "The client meanwhile: $sent PINGs, $failed failed, slowest $(ms 0 "$slowest_us")."
    ((failed == 0)) || die "$failed of the client's PINGs failed, the last one with: $complaint" proxy.log
}

# hold_client, release_client: no PING is under way in between.
hold_client() {
    : >client.hold
    await 20 test -e client.held || die 'the client does not get on' client.log
}
release_client() { rm -f client.held client.hold; }

# ------------------------------------------------------------------- the story

if [[ $hosts == namespaces ]]; then
    printf '  A %s ---- %s B %s ---- %s C\n' "${addr[A]}" "${b_towards[A]}" "${b_towards[C]}" "${addr[C]}"
else
    printf '  A %s   B %s   C %s\n' "${addr[A]}" "${addr[B]}" "${addr[C]}"
fi
if [[ -n ${ns[A]:-} ]]; then
    printf '  Each host is a network namespace.\n'
elif [[ $hosts == namespaces ]]; then
    printf '  B is a network namespace; A and C are two addresses of this machine, whose one\n'
    printf '  Docker engine runs the containers of both.\n'
else
    printf '  Each host is a loopback address here; as root it is a network namespace.\n'
fi
if [[ $hosts == namespaces && -n $why ]]; then printf '  Redis runs without Docker: %s.\n' "$why"; fi

headline '1. Redis and its registrar on A, the proxy on B'
: >entries.before
start_etcd
start_redis A 6379
start_registrar A
await_from registrar 15 registered_anew A || die 'redis was not registered within 15 s' registrar.log
show_value "$(cut -d ' ' -f 1 entries)"
now change_us
start_proxy
redis_ping
pong "$(ms "$change_us" "$pong_us") after the proxy was started"
story_us=$pong_us
start client B bash "$here/demo/client.sh" "${addr[B]}" "$client_port"
remark 'From now on a client on B sends PING after PING, each on a new connection.'
await 10 sent_since "$story_us" 20 || die 'the client does not get on' client.log
[[ -z $tour ]] || start_camera "http://127.0.0.1:$admin_port/"
linger

headline '2. Redis restarts on another port'
remember_entries
show_list
now change_us
if [[ $engine == yes ]]; then
    typed A docker restart "$container"
    engine_do restart "$container" >docker.log 2>&1 || die 'docker restart ended with an error' docker.log
else
    typed A kill "${pid[registrar]}" "${pid[redis]}"
    stop registrar TERM
    ((exit_code == 0)) || die "SIGTERM ended the registrar with exit code $exit_code" registrar.log
    stop redis TERM
    start_redis A "$(free_port A "${addr[A]}" 6380)"
    start_registrar A
fi
now done_us
redis_ping
pong "$(ms "$change_us" "$pong_us") after the restart began, $(ms "$done_us" "$pong_us") after it ended"
await_from registrar 15 registered_anew A || die 'the new port was not registered within 15 s' registrar.log
show_list
client_saw "$change_us"
linger

headline '3. Host A is lost, redis is started on C'
remember_entries
remark '(Between two PINGs: an answer under way would be lost with its host.)'
hold_client
now change_us
if [[ -n ${dev[A]:-} ]]; then
    typed A ip link set "${dev[A]}" down
    ip_on A link set "${dev[A]}" down || die 'the link of A cannot be taken down' hosts.log
    # From here on packets to A vanish, as if its cable had been pulled.
    release_client
fi
if [[ $engine == yes ]]; then
    typed A kill -9 "${pid[registrar]}"
    stop registrar KILL
    typed A docker rm -f "$container"
    engine_do rm -f "$container" >docker.log 2>&1 || die 'docker rm ended with an error' docker.log
else
    typed A kill -9 "${pid[registrar]}" "${pid[redis]}"
    stop registrar KILL
    stop redis KILL
fi
release_client
if [[ $hosts == loopback ]]; then remark '(A lost host is silent; this address goes on to refuse connections.)'; fi
show_list
remark 'Nobody is left to take out the entry of A: it stays until its TTL ends.'
if [[ -n $tour ]]; then
    await 5 proxy_knows_why || die 'the proxy does not notice the loss of A' status.log
    show_status
    sleep 2.5 # The page asks every 2 s.
    photograph "$tour"
    cp status.out "$tour/status.txt"
fi
start_redis C 6379
start_registrar C
await_from registrar 15 registered_anew C || die 'redis on C was not registered within 15 s' registrar.log
now done_us
redis_ping
pong "$(ms "$change_us" "$pong_us") after the loss of A, $(ms "$done_us" "$pong_us") after C was registered"
show_list
client_saw "$change_us"
show_status
if [[ $hosts == namespaces ]]; then
    remark 'A is silent: that costs one --connect-timeout (1 s), then C is tried.'
fi

: >client.stop
await 20 gone client || die 'the client does not end' client.log
for role in registrar proxy; do
    stop "$role" TERM
    ((exit_code == 0)) || die "SIGTERM ended the $role with exit code $exit_code" "$role.log"
done
tally "$story_us"
headline "The client on B, start to end: $sent PINGs, $failed failed, slowest $(ms 0 "$slowest_us")."
((sent > 0 && failed == 0)) || die "$failed of $sent PINGs failed, the last one with: $complaint" proxy.log
remark 'It saw no error and no other address: PINGs were held until redis was back.'
