# Sourced, not run: the variables that every build and test needs.
#
#   . scripts/env.sh
#
# Target folder and archives live below $HOME/.cache/backstay, so that fresh clones share what is slow to make.
# shellcheck shell=bash

BACKSTAY_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export BACKSTAY_CACHE=${BACKSTAY_CACHE:-$HOME/.cache/backstay}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$BACKSTAY_CACHE/target}
export PATH=$BACKSTAY_CACHE/bin:$BACKSTAY_CACHE/venv/bin:$PATH

# In two steps: a failure inside `eval "$(…)"` would pass unnoticed.
rocksdb_variables=$("$BACKSTAY_ROOT/scripts/rocksdb.sh") || return 1
eval "$rocksdb_variables"
unset rocksdb_variables
