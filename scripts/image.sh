#!/usr/bin/env bash
# Builds the images ambassador, simple-amb, docker-register and dynamic-etcd-amb
# around one static binary.
#
#   scripts/image.sh [BINARY]
#
# IMAGE_PREFIX goes before the names ("team/"), IMAGE_TAG after them
# (latest). Works with BuildKit and with the builder of older engines.
set -euo pipefail

say() { printf 'image.sh: %s\n' "$*" >&2; }

root=$(dirname "$(dirname "$(readlink -f "$0")")")
binary=${1:-$root/target/x86_64-unknown-linux-musl/release/ambassador}
prefix=${IMAGE_PREFIX:-}
tag=${IMAGE_TAG:-latest}
roles=(simple-amb docker-register dynamic-etcd-amb)

[[ -x $binary ]] || { say "$binary: no such program; run: make static"; exit 1; }
# In an empty file system a binary that names a loader cannot start, and what
# the kernel then says ("no such file") names the binary. ldd cannot tell.
if command -v readelf >/dev/null && readelf -lW "$binary" | grep -q INTERP; then
    say "$binary needs a dynamic loader, an image from scratch has none; run: make static"
    exit 1
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/bin"
cp "$binary" "$context/bin/ambassador"
chmod 755 "$context/bin/ambassador"
for role in "${roles[@]}"; do
    ln -s ambassador "$context/bin/$role"
done
cp "$root/Dockerfile.scratch" "$context/"
# The layer's digest follows from the times of its files.
find "$context/bin" -exec touch --no-dereference --date='@0' {} +

for name in ambassador "${roles[@]}"; do
    image=$prefix$name:$tag
    if ! output=$(docker build --target "$name" --tag "$image" \
        --file "$context/Dockerfile.scratch" "$context" 2>&1); then
        printf '%s\n' "$output" >&2
        say "could not build $image"
        exit 1
    fi
    docker image inspect --format "$image {{.Size}} bytes" "$image"
done

# What lost its name to these images. Those that a container still runs stay.
docker image prune --force --filter label=ambassador.image >/dev/null || true
