#!/usr/bin/env bash
# Prints the cargo that can build for x86_64-unknown-linux-musl, after making
# sure that there is one:
#
#   $(scripts/musl-target.sh) build --release --target x86_64-unknown-linux-musl
#
# In this order: the active toolchain, when it has the target or rustup can add
# it; otherwise a cargo made of Debian's packages (needs root once, then takes
# about a minute), for machines that reach Debian's archive but not rustup's.
set -euo pipefail

target=x86_64-unknown-linux-musl
here=$(dirname "$(readlink -f "$0")")

say() { printf 'musl-target.sh: %s\n' "$*" >&2; }

# Whether the compiler "$@" finds a std for the target.
has_target() {
    local directory
    directory=$("$@" --print target-libdir --target "$target" 2>/dev/null) &&
        compgen -G "$directory/libstd-*.rlib" >/dev/null
}

[[ $(uname -m) == x86_64 ]] || { say "builds on x86_64 only, this is $(uname -m)"; exit 1; }

if has_target rustc; then
    echo cargo
    exit
fi

# Everything the Debian way makes lies here: the system's own directories and
# the toolchains of rustup stay as they are, and removing it undoes it all.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ambassador-musl
if [[ $cache =~ [[:space:]] ]]; then
    say "$cache: a path with a space cannot be used; set XDG_CACHE_HOME to another"
    exit 1
fi

# A compiler that was updated has another std: its version is in the path.
debian_sysroot() {
    echo "$cache/$(dpkg-query -W -f='${Version}' rustc-web 2>/dev/null || echo none)"
}
if [[ -x $(debian_sysroot)/bin/cargo ]]; then
    echo "$(debian_sysroot)/bin/cargo"
    exit
fi

if command -v rustup >/dev/null; then
    # Bounded, because without a network rustup can try for minutes. Where the
    # line is too slow for 30 MB in that time, run it by hand once.
    limit_s=60
    if RUSTUP_MAX_RETRIES=1 timeout "$limit_s" rustup --quiet target add "$target" &>/dev/null &&
        has_target rustc; then
        echo cargo
        exit
    fi
    say "rustup target add $target did not succeed (limit $limit_s s), taking Debian's packages"
fi

if ! command -v apt-get >/dev/null; then
    say "neither rustup nor apt-get can provide $target here; install a Rust toolchain that has it"
    exit 1
fi
packages=(rustc-web cargo-web rust-web-src libstd-rust-web-dev musl-tools gcc libc6-dev)
"$here/packages.sh" "${packages[@]}" || {
    say "or, where rustup can be had, which needs no root: rustup target add $target"
    exit 1
}

sysroot=$(debian_sysroot)
version=$(/usr/bin/rustc -vV | sed -n 's/^release: //p')
llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "building the standard library of Rust $version for $target; once, about a minute"

# Runs "$@" in silence; what it said is shown only when it fails.
quietly() {
    "$@" >"$work/log" 2>&1 </dev/null || {
        tail -n 20 "$work/log" >&2
        say "failed: $*"
        exit 1
    }
}

# Unwinding: std links libunwind on this target. gcc's libgcc_eh.a cannot stand
# in, it asks for glibc's _dl_find_object. LLVM's asks for one symbol of glibc.
mkdir "$work/unwind"
fetch_unwind() {
    (cd "$work/unwind" && apt-get download "libunwind-$llvm-dev") ||
        # The list may be older than the archive.
        { apt-get update && cd "$work/unwind" && apt-get download "libunwind-$llvm-dev"; }
}
quietly fetch_unwind
quietly dpkg -x "$work"/unwind/*.deb "$work/unwind"
libunwind=$work/unwind/usr/lib/x86_64-linux-gnu/libunwind.a
cat >"$work/fprintf_chk.c" <<'C'
#include <stdarg.h>
#include <stdio.h>

int __fprintf_chk(FILE *file, int flag, const char *format, ...)
{
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    int written = vfprintf(file, format, arguments);
    va_end(arguments);
    return written;
}
C
quietly musl-gcc -O2 -c -o "$work/fprintf_chk.o" "$work/fprintf_chk.c"
quietly ar r "$libunwind" "$work/fprintf_chk.o"

# An empty crate, built for the sake of the std that comes with it. Its crates
# are in the source package: no registry is asked.
crate=$work/crate
mkdir -p "$crate/src" "$crate/.cargo"
echo '#![no_std]' >"$crate/src/lib.rs"
cat >"$crate/Cargo.toml" <<'TOML'
[package]
name = "only_for_std"
version = "0.0.0"
edition = "2021"
TOML
cat >"$crate/.cargo/config.toml" <<TOML
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/usr/lib/rustlib/src/rust/library/vendor"
TOML
# Upstream compiles this one crate for abort. Otherwise no later build could
# ask for panic = "abort".
cat >"$work/wrapper" <<'SH'
#!/bin/sh
case " $* " in
*" --crate-name panic_abort "*) exec "$@" -Cpanic=abort ;;
*) exec "$@" ;;
esac
SH
chmod +x "$work/wrapper"
# Bitcode lets a later release build optimise across std; RUSTC_BOOTSTRAP
# allows -Z build-std here, and only here.
(cd "$crate" && quietly env -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
    RUSTC=/usr/bin/rustc RUSTC_WRAPPER="$work/wrapper" RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_DIR="$work/target" CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    RUSTFLAGS="-Cembed-bitcode=yes -Cforce-unwind-tables=yes" \
    /usr/bin/cargo build --offline --release -Z build-std=std,panic_abort,test --target "$target")

# A sysroot as upstream lays it out, with Debian's own std beside it for build
# scripts and procedural macros. It appears under its name when it is whole.
mkdir -p "$cache"
new=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work" "$new"' EXIT
chmod 755 "$new"
library=$new/lib/rustlib/$target/lib
mkdir -p "$new/bin" "$library/self-contained"
ln -s /usr/lib/rustlib/x86_64-unknown-linux-gnu "$new/lib/rustlib/"
for rlib in "$work/target/$target"/release/deps/*.rlib; do
    [[ $rlib == */libonly_for_std-* ]] || cp "$rlib" "$library/"
done
musl=/usr/lib/x86_64-linux-musl
gcc=$(dirname "$(gcc -print-libgcc-file-name)")
cp "$musl"/{crt1.o,rcrt1.o,Scrt1.o,crti.o,crtn.o,libc.a} \
    "$gcc"/{crtbegin.o,crtbeginS.o,crtend.o,crtendS.o} \
    "$libunwind" "$library/self-contained/"
printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %s "$@"\n' "$sysroot" >"$new/bin/rustc"
printf '#!/bin/sh\nRUSTC=%s/bin/rustc exec /usr/bin/cargo "$@"\n' "$sysroot" >"$new/bin/cargo"
chmod 755 "$new"/bin/*
# Another build may have been faster; then its result is as good.
mv -T "$new" "$sysroot" 2>/dev/null || [[ -x $sysroot/bin/cargo ]] || {
    say "cannot write $sysroot"
    exit 1
}
echo "$sysroot/bin/cargo"
