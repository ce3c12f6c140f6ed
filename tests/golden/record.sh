#!/usr/bin/env bash
# Records the golden repositories that are named, with the binary that is given.
#
#   tests/golden/record.sh BACKSTAY NAME…
#
# They show that what an earlier version wrote still opens. The format is frozen, so those that are there are never recorded
# again: whatever is new gets golden repositories of its own, beside these. tests/e2e/golden.rs says what they hold.
set -euo pipefail

backstay=$(realpath "${1:?usage: tests/golden/record.sh BACKSTAY NAME…}")
shift
wanted=" ${*:?name what is to be recorded} "
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

# What only prune, forgetting, holds, copy and rewrite leave in a repository, with keys of every role and two epochs.
record_frozen() { # NAME
    if [[ $wanted != *" $1 "* ]]; then return; fi
    export BACKSTAY_REPOSITORY=$golden/$1
    rm -rf "${golden:?}/$1" "$scratch/cache"
    for role in writer reader maintenance; do
        (umask 077 && printf 'a password of the %s\n' $role >"$scratch/$role")
    done
    back_up() { "$backstay" -q backup --host golden --tag "$1" "$source"; }
    id_of() { "$backstay" --json snapshots --tag "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])'; }
    "$backstay" -q init
    for role in writer reader maintenance; do
        "$backstay" -q key add --role $role --label $role --new-password-file "$scratch/$role"
    done
    # Packs of which a prune moves a part, byte for byte.
    first_tree
    seq 1000000 1300000 >"$source/gone"
    back_up gone
    rm "$source/gone"
    dated '2026-11-19 11:06:40.123456789Z'
    back_up first
    "$backstay" -q forget --yes "$(id_of gone)"
    BACKSTAY_PASSWORD_FILE=$scratch/maintenance "$backstay" -q prune --max-unused 0 --yes
    "$backstay" -q key rotate
    BACKSTAY_PASSWORD_FILE=$scratch/writer "$backstay" -q backup --host golden --name out.txt --command -- seq 1 2000
    second_tree
    BACKSTAY_PASSWORD_FILE=$scratch/writer back_up second
    # One that is back, one that was rewritten, one that was copied, and one that is forgotten and still there.
    seq 1 100 >"$source/back"
    back_up back
    "$backstay" -q forget --yes "$(id_of back)"
    "$backstay" -q undelete "$("$backstay" --json snapshots --forgotten | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])')"
    printf 'secret\n' >"$source/secret"
    back_up rewritten
    "$backstay" -q rewrite --exclude-path "$source/secret" --yes
    rm "$source/back" "$source/secret"
    cp -r "$golden/v1-one-epoch" "$scratch/copied"
    "$backstay" -q -r "$scratch/copied" copy latest --source out.txt --to "$golden/$1" --to-password-file "$scratch/password"
    printf 'forgotten\n' >"$source/forgotten"
    back_up forgotten
    "$backstay" -q forget --yes "$(id_of forgotten)"
    "$backstay" -q hold "$(id_of first)" --reason 'audit of 2026'
    "$backstay" -q hold "$(id_of second)"
    "$backstay" -q hold --lift "$(id_of second)"
    # A backup that was killed leaves its writer's record.
    # shellcheck disable=SC2016 # the inner bash expands it: backstay is its parent
    "$backstay" -q backup --host golden --name killed --command -- bash -c 'kill -9 $PPID' || true
    "$backstay" -q check --read-data
    find "$golden/$1" -type f -exec chmod 644 {} +
}

record_frozen v1-frozen
