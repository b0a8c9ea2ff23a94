# shellcheck shell=bash
# The stage of scripts/demo.sh: what is printed, which programs run where, the
# three hosts, Docker, and taking all of it down again. Sourced, not run.

# Decided by the story: `yes` when redis runs in containers.
: "${engine:=no}" "${container:=redis.service}"

# ---------------------------------------------------------------- the screen

bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# Where the screen is while a command's output goes elsewhere.
exec {screen}>&1

# Which step it is, for the line that says what failed.
step='preparing'

# headline TEXT: begins a part of the story.
headline() {
    step=$1
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

# remark TEXT: what no command shows.
remark() { printf '     %s%s%s\n' "$dim" "$1" "$plain"; }

# pong TEXT: the answer, and when it came.
pong() { printf '     %sPONG%s   %s\n' "$green" "$plain" "$1"; }

# typed HOST WORD...: a command as its user types it, folded at 79 columns, an
# option and its value on one line.
typed() {
    local line="  $1\$" unit word
    shift
    while (($#)); do
        unit=
        while (($#)); do
            word=$1
            [[ $word =~ ^[A-Za-z0-9_./:=,@%+\&-]+$ ]] || word=${word@Q}
            unit+=" $word"
            shift
            [[ $word == -* && ${1:--} != -* || ${1:-} == '&' ]] || break
        done
        # Room for " \\", unless nothing follows.
        if ((${#line} + ${#unit} > ($# ? 77 : 79))); then
            printf '%s \\\n' "$line"
            line='      '
        fi
        line+=$unit
    done
    printf '%s\n' "$line"
}

# die TEXT [LOG]: ends the demo, with the last lines of LOG.
die() {
    trap - ERR
    ((BASH_SUBSHELL == 0)) || exit 1 # The shell outside says it.
    printf '%sdemo: failed (%s): %s%s\n' "$red" "$step" "$1" "$plain" >&2
    if [[ -n ${2:-} && -s $2 ]]; then
        printf 'the end of %s:\n' "$2" >&2
        tail -n 5 -- "$2" | cut -c 1-300 | sed 's/^/    /' >&2
    fi
    exit 1
}

# ------------------------------------------------------------------- waiting

# now VARIABLE: the time in microseconds.
now() { printf -v "$1" '%s' "${EPOCHREALTIME/./}"; }

# ms FROM TO: what lies between two times of `now`.
ms() { printf '%d ms' $((($2 - $1 + 500) / 1000)); }

# await SECONDS COMMAND...: repeats COMMAND until it succeeds or time is up.
await() {
    local end_us
    end_us=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/./} < end_us)) || return 1
        sleep 0.01
    done
}

# await_from NAME SECONDS COMMAND...: the same, and in vain once NAME has ended.
await_from() {
    local name=$1
    shift
    await "$1" done_or_gone "$name" "${@:2}" && "${@:2}"
}
done_or_gone() { "${@:2}" || gone "$1"; }

# ------------------------------------------------------------------ programs

# Of each host: its namespace (none: this machine's own), its address, its link
# to B, and B's address on that link. Of each program: its process.
declare -A ns=() addr=() dev=() b_towards=() pid=()
into=()

# enter HOST: sets `into` to what puts a command on HOST's network.
enter() {
    into=()
    if [[ -n ${ns[$1]:-} ]]; then into=(ip netns exec "${ns[$1]}"); fi
}

# on HOST COMMAND...: runs COMMAND there and waits for it.
on() {
    enter "$1"
    shift
    "${into[@]}" "$@"
}

# start NAME HOST COMMAND...: runs COMMAND there in the background, its output
# in NAME.out and NAME.log. setsid: a Ctrl-C at the terminal is for this script,
# which ends what it started in its own order.
start() {
    local name=$1
    enter "$2"
    shift 2
    : >"$name.out"
    : >"$name.log"
    setsid "${into[@]}" "$@" </dev/null >"$name.out" 2>"$name.log" {screen}>&- &
    pid[$name]=$!
}

alive() { kill -0 "${pid[$1]}" 2>/dev/null; }
gone() { ! alive "$1"; }

# stop NAME SIGNAL: ends it and waits until it has ended; sets exit_code.
# shellcheck disable=SC2034 # The story reads it.
stop() {
    exit_code=0
    {
        kill "-$2" -- "-${pid[$1]}" || true
        await 5 gone "$1" || kill -KILL -- "-${pid[$1]}" || true
        wait "${pid[$1]}" || exit_code=$?
    } 2>/dev/null
}

# An open port is seen by connecting to it; nothing is left behind by that.
answers() { on "$1" bash -c ": >/dev/tcp/$2/$3" 2>/dev/null; }

# free_port HOST ADDRESS PORT: the first free one from PORT on.
free_port() {
    local port=$3
    while answers "$1" "$2" "$port"; do port=$((port + 1)); done
    printf '%d' "$port"
}

# --------------------------------------------------------------------- hosts

# ip_on HOST WORD...: iproute2's `ip` on HOST's network.
ip_on() {
    local host=$1
    shift
    if [[ -n ${ns[$host]:-} ]]; then set -- -n "${ns[$host]}" "$@"; fi
    ip "$@" 2>>hosts.log
}

# unused_network N: is 10.N.0.0/16 unknown to this machine's routing, apart from
# default routes?
unused_network() {
    local routes
    routes=$(
        ip -4 route show table all to match "10.$1.1.1" | grep -v '^default'
        ip -4 route show table all to root "10.$1.0.0/16"
    ) || true
    [[ -z $routes ]]
}

# Two links, A to B and C to B, and nothing else: no bridge, no packet filter,
# no default route. With Docker, A and C are addresses of this machine (that is
# where an engine publishes ports), otherwise namespaces of their own.
raise_hosts() {
    local host n link
    for n in 99 137 211 75 33; do
        [[ $engine == yes ]] || break # In namespaces of its own any will do.
        if unused_network "$n"; then break; else n=; fi
    done
    [[ -n $n ]] || return 1
    ns=([B]="ambassador-$id-B")
    dev=([A]="amb-$id-A" [C]="amb-$id-C")
    if [[ $engine == no ]]; then
        ns+=([A]="ambassador-$id-A" [C]="ambassador-$id-C")
        dev=([A]=eth0 [C]=eth0)
    fi
    for host in "${!ns[@]}"; do
        ip netns add "${ns[$host]}" 2>>hosts.log || return 1
        ip_on "$host" link set lo up || return 1
    done
    for host in A C; do
        if [[ $host == A ]]; then link=10.$n.1; else link=10.$n.3; fi
        addr[$host]=$link.1
        b_towards[$host]=$link.2
        ip_on "$host" link add "${dev[$host]}" type veth peer name "to-$host" netns "${ns[B]}" || return 1
        ip_on "$host" addr add "$link.1/30" dev "${dev[$host]}" || return 1
        ip_on "$host" link set "${dev[$host]}" up || return 1
        ip_on B addr add "$link.2/30" dev "to-$host" || return 1
        ip_on B link set "to-$host" up || return 1
    done
    addr[B]=127.0.0.1
}

lower_hosts() {
    local host
    # The links first: a namespace goes asynchronously, and they with it.
    for host in A C; do
        if [[ -n ${ns[B]:-} ]]; then ip -n "${ns[B]}" link del "to-$host" 2>/dev/null || true; fi
    done
    for host in "${!ns[@]}"; do ip netns del "${ns[$host]}" 2>/dev/null || true; done
    ns=() dev=()
}

loopback_hosts() {
    addr=([A]=127.0.0.11 [B]=127.0.0.12 [C]=127.0.0.13)
    # shellcheck disable=SC2034 # The story reads it.
    b_towards=([A]=127.0.0.12 [C]=127.0.0.12)
}

# -------------------------------------------------------------------- Docker

# docker_run etc. go through `timeout`: it bounds them, and gives them a process
# group of their own. A Ctrl-C therefore never lands between the engine making
# a container and this script knowing of it.
engine_do() { timeout 60 docker "$@" </dev/null; }

# run_container NAME ADDRESS LOG: redis as a container published on ADDRESS.
# The label (which the story leaves out) is what the end of the demo removes.
run_container() {
    engine_do run -d --label "ambassador.demo=$id" --name "$1" -p "$2::6379" redis:local >"$3" 2>&1
}

engine_answers() {
    case ${DOCKER_HOST:=unix:///var/run/docker.sock} in unix://*) ;; *) return 1 ;; esac
    export DOCKER_HOST
    command -v docker >/dev/null && timeout 5 docker version --format '{{.Server.Version}}' </dev/null >docker.log 2>&1
}

# Can host B reach what the engine publishes on A's address? Not so when the
# engine is in a virtual machine or in somebody's user namespace.
engine_reaches_b() {
    local probe="ambassador-demo-$id" published
    run_container "$probe" "${addr[A]}" docker.log || return 1
    published=$(engine_do port "$probe" 6379/tcp 2>>docker.log) || return 1
    published=${published%%$'\n'*}
    await 5 answers B "${addr[A]}" "${published##*:}" || return 1
    engine_do rm -f "$probe" >/dev/null 2>>docker.log
}

remove_containers() {
    local containers
    containers=$(timeout 20 docker ps -aq --filter "label=ambassador.demo=$id" 2>/dev/null) || return 0
    # shellcheck disable=SC2086 # One word an id is meant.
    [[ -z $containers ]] || timeout 40 docker rm -f -v $containers >/dev/null 2>&1 || true
}

# ------------------------------------------------------------------- the end

# strike: takes down everything this demo made, whatever state it is in.
strike() {
    local status=$? left process
    trap - EXIT ERR
    trap '' INT TERM HUP PIPE
    set +e
    exec 2>/dev/null # All has been said; the shell would add who was killed.
    # Nothing of theirs is to be kept, so nothing is lost by not asking them.
    left=$(jobs -p)
    # Each leads a process group of its own, unless it was only just forked.
    for process in $left; do kill -KILL -- "-$process" "$process"; done
    wait
    [[ $engine == no ]] || remove_containers
    lower_hosts
    cd / && rm -rf -- "${dir:?}"
    ((status != 130)) || printf '\ndemo: interrupted; its hosts, programs and containers are gone again\n' >&"$screen"
    exit "$status"
}
