#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, one after the other, and stops at the first
# input for which one of them does not hold.
#
#   scripts/fuzz.sh
#
# FUZZ_SECONDS=60   how long each target runs
# FUZZ=NAME         only this target
#
# What is found is kept in fuzz/corpus/ and goes on from there the next time;
# fuzz/corpus-seeds/ is where it begins.
set -euo pipefail

say() { printf 'fuzz.sh: %s\n' "$*" >&2; }

here=$(dirname "$(readlink -f "$0")")
cd "$here/.."
seconds=${FUZZ_SECONDS:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { say "FUZZ_SECONDS=$seconds: expected whole seconds"; exit 2; }

targets=()
for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
if [[ -n ${FUZZ:-} ]]; then
    [[ " ${targets[*]} " == *" $FUZZ "* ]] || { say "FUZZ=$FUZZ: not one of ${targets[*]}"; exit 2; }
    targets=("$FUZZ")
fi

"$here/packages.sh" g++:c++ # The fuzzer itself is C++.
cargo fuzz --version >/dev/null 2>&1 || {
    say "installing cargo-fuzz, once"
    cargo install --locked cargo-fuzz
}

# The address sanitizer is for nightly compilers only. What else is needed a
# stable one has too, when it is told that it may.
if rustup toolchain list 2>/dev/null | grep '^nightly' >/dev/null; then
    fuzz=(cargo +nightly fuzz)
    options=()
else
    fuzz=(env RUSTC_BOOTSTRAP=1 cargo fuzz)
    options=(-s none)
fi
"${fuzz[@]}" build "${options[@]}" ${FUZZ:+"$FUZZ"}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
sums=()
for target in "${targets[@]}"; do
    say "$target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    run=("${fuzz[@]}" run "${options[@]}" "$target")
    if ! "${run[@]}" "fuzz/corpus/$target" "fuzz/corpus-seeds/$target" -- \
        -max_total_time="$seconds" >"$log" 2>&1 </dev/null; then
        input=$(sed -n 's|.*Test unit written to .*/\(fuzz/artifacts/.*\)|\1|p' "$log" | tail -n 1)
        if [[ -z $input ]]; then
            tail -n 20 "$log" >&2
            say "$target could not be run"
            exit 1
        fi
        { grep -A 3 'panicked at' "$log" || grep '^SUMMARY' "$log" || true; } | cut -c 1-1000 >&2
        say "$target does not hold for $input; once more: ${run[*]} $input"
        exit 1
    fi
    # #123456 DONE   cov: 512 ft: 1100 corp: 77/12Kb lim: 4096 exec/s: 800 rss: 90Mb
    sums+=("$(awk -v target="$target" '$2 == "DONE" {
        printf "%-14s %10d executions, coverage %s", target, substr($1, 2), $4 }' "$log")")
done
printf '%s\n' "${sums[@]}"
