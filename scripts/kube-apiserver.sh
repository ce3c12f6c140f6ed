#!/usr/bin/env bash
# Builds kube-apiserver 1.20 once, for the test of Kubernetes: $BACKSTAY_CACHE/bin/kube-apiserver.
#
# Debian ships no API server. The source package of its kubectl (Debian 11) holds the server and everything that it needs, and
# is built with the Go of that Debian, which is unpacked beside it and not installed. About four minutes and, meanwhile, 2 GB.
set -euo pipefail

cache=${BACKSTAY_CACHE:-$HOME/.cache/backstay}
[ -e "$cache/bin/kube-apiserver" ] && exit 0
echo "kube-apiserver.sh: building kube-apiserver once" >&2

pool=http://deb.debian.org/debian/pool/main
work=$cache/kube-apiserver.part
tree=$work/gopath/src/k8s.io/kubernetes
rm -rf "$work"
mkdir -p "$tree" "$cache/bin"
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

# fetch URL SHA256: into the folder of this build, believed only with this sum.
fetch() {
    curl -sSf --retry 3 -o "$work/${1##*/}" "$pool/$1"
    echo "$2  $work/${1##*/}" | sha256sum --check --quiet
}
fetch k/kubernetes/kubernetes_1.20.5+really1.20.2.orig.tar.gz b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc
fetch g/golang-1.15/golang-1.15-go_1.15.15-1%7edeb11u4_amd64.deb 33f6680406698b60370322aa5710be199006b3d66fbb0974b44da012de3aa82a
fetch g/golang-1.15/golang-1.15-src_1.15.15-1%7edeb11u4_amd64.deb e580f570f706d801191f9a17e55156736fc5979a6a878bab9304ca007ae29941
for package in "$work"/*.deb; do dpkg-deb --extract "$package" "$work/go"; done
tar -xf "$work"/kubernetes_*.tar.gz -C "$tree" --strip-components=1
cd "$tree"

export GOROOT=$work/go/usr/lib/go-1.15 GOPATH=$work/gopath GOCACHE=$work/gocache GO111MODULE=off CGO_ENABLED=0
export PATH=$GOROOT/bin:$PATH
go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen

# The one generated file that the package lacks: descriptions of all types.
mapfile -t packages < <(grep -Rl --include='*.go' '+k8s:openapi-gen=' cmd pkg plugin vendor/k8s.io/* | xargs -n1 dirname |
    LC_ALL=C sort -u | grep -v 'k8s.io/code-generator\|k8s.io/sample-apiserver\|kube-openapi\|k8s.io/gengo')
"$work/openapi-gen" --logtostderr -i "$(printf 'k8s.io/kubernetes/%s\n' "${packages[@]}" | paste -sd,)" \
    -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi --output-base "$GOPATH/src" \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/report" 2>"$work/log" || true
[ -s pkg/generated/openapi/zz_generated.openapi.go ] || { cat "$work/log" >&2; exit 1; }

go build -ldflags '-s -w' -o "$work/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
mv "$work/kube-apiserver" "$cache/bin/"
