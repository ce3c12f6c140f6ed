#!/usr/bin/env bash
# Builds every fuzz target on the stable toolchain and runs each for SECONDS (60): fuzz/run.sh [SECONDS [TARGET…]]
#
# A shorthand for scripts/fuzz.sh, which says what is built how and where findings go.
set -euo pipefail
FUZZ_SECONDS=${1:-60} exec "$(dirname "${BASH_SOURCE[0]}")/../scripts/fuzz.sh" "${@:2}"
