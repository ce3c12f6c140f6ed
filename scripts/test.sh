#!/usr/bin/env bash
# Runs the gates and the tests, each to its end even when an earlier one failed, and closes with one line of totals.
#
#   scripts/test.sh [lint] [tests] [fuzz]      without arguments: lint and tests, and fuzz when CI or FUZZ_SECONDS is set
#
# A gate counts as one test. What a passing gate prints is not shown. Exit code 1 when anything failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=scripts/env.sh
. scripts/env.sh

groups=("$@")
if [ ${#groups[@]} -eq 0 ]; then
    groups=(lint tests)
    if [ -n "${CI:-}${FUZZ_SECONDS:-}" ]; then groups=(lint fuzz tests); fi
fi

passed=0 failed=0 failures=()
log=$(mktemp) ends=$(mktemp)
trap 'rm -f "$log" "$ends"' EXIT

# record NAME STATUS SECONDS: adds up what the log of a finished step says it ran.
record() {
    local counts good bad
    counts=$(awk '
        /^ +Summary \[/ {                       # nextest
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) good += $(i - 1)
                if ($i ~ /^failed/ || ($i == "timed" && $(i + 1) ~ /^out/)) bad += $(i - 1)
            }
        }
        /^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) good += $(i - 1); if ($i ~ /^failed/) bad += $(i - 1) } }
        /^Ran [0-9]+ tests? in / { ran = $2 }   # unittest
        /^FAILED \(/ { n = $0; while (match(n, /(failures|errors)=[0-9]+/)) { split(substr(n, RSTART, RLENGTH), kv, "="); bad += kv[2]; ran -= kv[2]; n = substr(n, RSTART + RLENGTH) } }
        END { print good + ran + 0, bad + 0 }' "$log")
    read -r good bad <<<"$counts"
    if [ "$2" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$2" -eq 0 ] && [ "$good" -eq 0 ]; then good=1; fi
    passed=$((passed + good)) failed=$((failed + bad))
    if [ "$2" -eq 0 ]; then
        printf '%-12s ok      %4d s\n' "$1" "$3"
    else
        failures+=("$1")
        { echo "the gist of what $1 said:"; grep -aE 'FAIL|CRASHED|ERROR|^error|Base64|panicked' "$log" | tail -n 30 || true; tail -n 10 "$log"; } >>"$ends"
        printf '%-12s FAILED  %4d s\n' "$1" "$3"
    fi
}

# gate NAME COMMAND…: shows the output only of a failure.
gate() {
    local name=$1 started=$SECONDS status=0
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then cat "$log"; fi
    record "$name" "$status" $((SECONDS - started))
}

# suite NAME COMMAND…: shows everything as it happens.
suite() {
    local name=$1 started=$SECONDS status=0
    shift
    "$@" </dev/null 2>&1 | tee "$log" || status=$?
    record "$name" "$status" $((SECONDS - started))
}

skip() { printf '%-12s SKIPPED (%s)\n' "$1" "$2"; }

# Each crate with nothing but what it asks for itself, and with each of its features alone: a workspace is built with all of them.
each_alone() {
    for crate in source chunk seal pack store engine cli; do cargo check -p "backstay-$crate" || return; done
    cargo check -p backstay-store --features testing
}

lint() {
    gate fmt cargo fmt --all --check
    gate clippy cargo clippy --workspace --all-targets -- -D warnings
    gate features each_alone
    gate rustdoc env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    if command -v typos >/dev/null; then gate typos typos; else skip typos "run scripts/setup.sh"; fi
    if command -v shellcheck >/dev/null; then gate shellcheck shellcheck -x .ci/run scripts/*.sh benches/*.sh tests/golden/*.sh; else skip shellcheck "run scripts/setup.sh"; fi
    # The advisory database is fetched over the network, so a scheduled run asks it and not this one.
    if command -v cargo-deny >/dev/null; then gate deny cargo deny check bans licenses sources; else skip deny "run scripts/setup.sh"; fi
}

tests() {
    gate doctests cargo test --workspace --doc
    if compgen -G 'docs/reader/test_*.py' >/dev/null; then gate reader python3 -m unittest discover -s docs/reader; fi
    # Cargo builds no binary for the tests of another package; the end-to-end tests run the one that lies there.
    gate binary cargo build -p backstay-cli
    if [ -n "${CI:-}" ]; then suite nextest cargo nextest run --workspace --profile ci; else suite nextest cargo nextest run --workspace; fi
}

fuzz() { gate fuzz scripts/fuzz.sh; }

for group in "${groups[@]}"; do
    case $group in
    lint | tests | fuzz) "$group" ;;
    *) echo "test.sh: no group named $group; there are lint, tests and fuzz" >&2; exit 2 ;;
    esac
done

if [ ${#failures[@]} -gt 0 ]; then
    cat "$ends"
    echo "failed: ${failures[*]}"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
