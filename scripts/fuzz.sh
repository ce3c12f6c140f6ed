#!/usr/bin/env bash
# Builds the fuzz targets with libFuzzer and AddressSanitizer on the stable toolchain and runs each for a while.
#
#   scripts/fuzz.sh [TARGET…]         FUZZ_SECONDS=N per target; without it 60 for our own formats and 40 for source_*
#
# Seeds are fuzz/corpus/<target>; what a run finds interesting is kept in $HOME/.cache/backstay/fuzz, for the next one.
# An input that crashes is written to fuzz/corpus/<target>/crash-…: make it a test, then fix what it shows.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=scripts/env.sh
. scripts/env.sh

if [ ! -e fuzz/Cargo.toml ]; then
    echo "fuzz.sh: there are no fuzz targets yet"
    exit 0
fi
host=$(rustc -vV | sed -n 's/^host: //p')
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml)
fi

# Sanitizers are unstable flags: RUSTC_BOOTSTRAP lets the stable compiler take them. `--target` keeps the flags away
# from build scripts and procedural macros.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$BACKSTAY_CACHE/fuzz-target
flags=(--cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
cp Cargo.lock fuzz/Cargo.lock # the versions that we ship
RUSTFLAGS=${flags[*]} cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$host" --bins

run_one() {
    local target=$1 kept=$BACKSTAY_CACHE/fuzz/$1 seeds=fuzz/corpus/$1 log seconds=60
    case $target in source_*) seconds=40 ;; esac
    seconds=${FUZZ_SECONDS:-$seconds}
    log=$(mktemp)
    mkdir -p "$kept" "$seeds"
    if "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$seeds/" -print_final_stats=1 "$kept" "$seeds" >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, no crash"
    else
        tail -n 60 "$log"
        echo "$target: CRASHED, see $seeds"
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
export -f run_one
# SQLite, which comes along with the sources, has constants of the same name twice; no target calls it.
export host ASAN_OPTIONS=detect_odr_violation=0
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_one {}'
