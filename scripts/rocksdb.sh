#!/usr/bin/env bash
# Makes a static RocksDB archive once per machine and prints the variables that let cargo use it.
#
#   eval "$(scripts/rocksdb.sh)"
#
# RocksDB is about twelve minutes of C++; everything else is two. So it is compiled once, optimised and without
# debug information, into $HOME/.cache/backstay/rocksdb-<version>/librocksdb.a, and every dev, release, coverage
# and fuzz build links that archive. Versions and features are taken from our own Cargo.toml and Cargo.lock,
# because an archive made with other features does not link. lz4 is a crate of its own and links by itself.
#
# stdout is shell code and nothing else; what happens is told on stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${BACKSTAY_CACHE:-$HOME/.cache/backstay}

# The lock file says `librocksdb-sys 0.19.0+11.8.1`; what follows the plus sign is RocksDB's version.
version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = ".*+\(.*\)"$/\1/p}' "$root/Cargo.lock")
[ -n "$version" ] || { echo "rocksdb.sh: Cargo.lock names no librocksdb-sys" >&2; exit 1; }
folder=$cache/rocksdb-$version
archive=$folder/librocksdb.a

# bindgen reads RocksDB's C header through libclang in every build, the ones with the archive included.
install_libclang() {
    # shellcheck disable=SC2144
    for found in "${LIBCLANG_PATH:-/nonexistent}"/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so*; do
        [ -e "$found" ] && return
    done
    echo "rocksdb.sh: installing libclang" >&2
    "$root/scripts/apt.sh" libclang-14-dev >&2
}

build_archive() {
    local build=$cache/rocksdb-build target=$cache/rocksdb-target built started=$SECONDS
    echo "rocksdb.sh: compiling RocksDB $version once, about 12 minutes on two cores (log: $build/build.log)" >&2
    mkdir -p "$build/src" "$folder"
    cp "$root/Cargo.lock" "$build/Cargo.lock" # cargo drops what is not needed and keeps the versions of the rest
    echo 'fn main() {}' >"$build/src/main.rs"
    {
        printf '[package]\nname = "rocksdb-archive"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n[dependencies]\n'
        grep '^rocksdb = ' "$root/Cargo.toml"
        printf '\n[profile.release]\ndebug = false\n'
    } >"$build/Cargo.toml"
    # Without these two the build would look for the archive that it is to make.
    if ! (cd "$build" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_TARGET_DIR="$target" \
        nice cargo build --release) >"$build/build.log" 2>&1; then
        tail -n 40 "$build/build.log" >&2
        echo "rocksdb.sh: RocksDB does not build; the whole log is $build/build.log" >&2
        exit 1
    fi
    built=$(find "$target/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
    [ -n "$built" ] || { echo "rocksdb.sh: cargo left no librocksdb.a below $target" >&2; exit 1; }
    strip -g -o "$archive.new" "$built"
    mv "$archive.new" "$archive" # readers see a whole archive or none
    rm -rf "$target"
    echo "rocksdb.sh: $archive made in $(((SECONDS - started) / 60)) min" >&2
}

install_libclang
if [ ! -e "$archive" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/rocksdb.lock"
    flock 9 # a second caller waits for the first and then finds the archive
    [ -e "$archive" ] || build_archive
fi
printf 'export ROCKSDB_LIB_DIR=%q\nexport ROCKSDB_STATIC=1\n' "$folder"
