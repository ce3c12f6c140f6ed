#!/usr/bin/env bash
# Records the golden repositories v1-one-epoch, v1-two-epochs and v1-writers-key again, or only those that are named, with
# the binary that is given.
#
#   tests/golden/record.sh BACKSTAY [NAME…]
#
# They show that what an earlier version wrote still opens, so once the format is frozen they are never recorded again:
# a new format gets golden repositories of its own, beside these. tests/e2e/golden.rs says what they hold.
set -euo pipefail

backstay=$(realpath "${1:?usage: tests/golden/record.sh BACKSTAY [NAME…]}")
shift
wanted=" ${*:-v1-one-epoch v1-two-epochs v1-writers-key} "
golden=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=/tmp/backstay-golden # the snapshots name it
scratch=$(mktemp -d)
mkdir "$source" # fails if somebody else is at it
trap 'rm -rf "$scratch" "$source"' EXIT

export BACKSTAY_CACHE_DIR=$scratch/cache BACKSTAY_PASSWORD_FILE=$scratch/password
unset BACKSTAY_REPOSITORY BACKSTAY_KEY_FILE BACKSTAY_PASSWORD BACKSTAY_PASSWORD_COMMAND
(umask 077 && printf 'correct horse battery staple\n' >"$scratch/password")
(umask 077 && printf 'a password of the writer\n' >"$scratch/writer")

dated() { find "$source" -depth -exec touch -h -d "$1" {} +; }

first_tree() {
    rm -rf "${source:?}"/*
    mkdir -p "$source/sub/empty"
    printf 'hello\n' >"$source/hello"
    : >"$source/nothing"
    seq 1 4000 >"$source/sub/numbers"
    truncate -s 1M "$source/sub/sparse"
    printf end >>"$source/sub/sparse"
    ln -s ../hello "$source/sub/link"
    ln "$source/hello" "$source/sub/second-name"
    printf 'odd\n' >"$source/sub/"$'not-utf8-\xff'
    chmod 640 "$source/sub/numbers"
    chmod 750 "$source/sub"
    dated '2026-11-19 11:06:40.123456789Z'
}

second_tree() {
    sed -i 's/^2000$/changed/' "$source/sub/numbers"
    rm "$source/nothing"
    printf 'new\n' >"$source/new"
    dated '2026-11-20 12:00:00Z'
}

record() { # NAME EPOCHS KEY: who backs up
    if [[ $wanted != *" $1 "* ]]; then return; fi
    export BACKSTAY_REPOSITORY=$golden/$1
    rm -rf "${golden:?}/$1" "$scratch/cache"
    first_tree
    "$backstay" -q init
    if [ "$3" = writer ]; then
        "$backstay" -q key add --role writer --new-password-file "$scratch/writer"
        export BACKSTAY_PASSWORD_FILE=$scratch/writer
    fi
    "$backstay" -q backup --host golden --tag first "$source"
    "$backstay" -q backup --host golden --name out.txt --command -- seq 1 2000
    if [ "$2" -eq 2 ]; then "$backstay" -q key rotate; fi
    second_tree
    "$backstay" -q backup --host golden --tag second "$source"
    export BACKSTAY_PASSWORD_FILE=$scratch/password
    "$backstay" -q check --read-data
    find "$golden/$1" -type f -exec chmod 644 {} +
}

record v1-one-epoch 1 owner
record v1-two-epochs 2 owner
record v1-writers-key 1 writer
