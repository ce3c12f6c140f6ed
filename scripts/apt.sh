#!/usr/bin/env bash
# Installs those of the named Debian packages which are missing. Does nothing, quickly, when all are there.
#
#   scripts/apt.sh PACKAGE…
set -euo pipefail

missing=()
for package in "$@"; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [[ $state == ii* ]] || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v apt-get >/dev/null; then
    echo "apt.sh: this is no Debian; install what stands for: ${missing[*]}" >&2
    exit 1
fi
echo "apt.sh: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt() { "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; return 1; }; }
apt update
apt install -y --no-install-recommends "${missing[@]}"
