#!/usr/bin/env bash
# Makes the images redis:local and etcd:local out of Debian's packages, for
# tests, demos and compose.yaml on a machine that reaches no image registry.
#
#   scripts/local-images.sh [redis] [etcd]       (default: both)
#
# They take the same arguments as the upstream images: `redis-cli ...` or
# `etcd ...` may follow the image's name, and nothing starts the server.
set -euo pipefail

say() { printf 'local-images.sh: %s\n' "$*" >&2; }

here=$(dirname "$(readlink -f "$0")")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# Copies programs with the shared libraries they load into the empty root "$1".
copy_programs() {
    local into=$1 program path
    shift
    for program in "$@"; do
        path=$(command -v "$program")
        # A program without libraries is no error, ldd thinks it is.
        { echo "$path"; ldd "$path" 2>/dev/null | grep -o '/[^ ]*' || true; } |
            while read -r path; do
                install -D --mode 755 "$path" "$into$path"
            done
    done
}

# Imports the root "$1" as the image "$2"; the rest are Dockerfile instructions.
import() {
    local from=$1 image=$2 instruction changes=()
    shift 2
    for instruction in "ENV PATH=/usr/bin:/bin" "$@"; do
        changes+=(--change "$instruction")
    done
    tar --directory "$from" --create --owner 0 --group 0 . |
        docker import "${changes[@]}" - "$image" >/dev/null
    docker image inspect --format "$image {{.Size}} bytes" "$image"
}

make_redis() {
    "$here/packages.sh" redis-server:redis-server redis-tools:redis-cli
    # The shell is for clients that are told where redis is by link variables.
    copy_programs "$root/redis" redis-server redis-cli sh
    install -d "$root/redis/bin" "$root/redis/data"
    [[ -e $root/redis/bin/sh ]] || ln -s /usr/bin/sh "$root/redis/bin/sh"
    # Unprotected, or redis answers no one outside of its own container.
    import "$root/redis" redis:local 'EXPOSE 6379' 'WORKDIR /data' \
        'CMD ["redis-server", "--protected-mode", "no", "--save", ""]'
}

make_etcd() {
    "$here/packages.sh" etcd-server:etcd etcd-client:etcdctl
    copy_programs "$root/etcd" etcd etcdctl
    install -d "$root/etcd/data"
    # The v2 API is off by default since etcd 3.4. The rest is said in the
    # environment (ETCD_LISTEN_CLIENT_URLS, ...), as with any image of etcd.
    import "$root/etcd" etcd:local 'EXPOSE 2379' 'WORKDIR /data' \
        'ENV ETCD_ENABLE_V2=true' 'ENV ETCD_DATA_DIR=/data' 'CMD ["etcd"]'
}

(($#)) || set -- redis etcd
for image in "$@"; do
    case $image in
    redis) make_redis ;;
    etcd) make_etcd ;;
    *)
        say "$image: not one of redis, etcd"
        exit 2
        ;;
    esac
done
