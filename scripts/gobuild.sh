#!/usr/bin/env bash
# The one place that says how released binaries are built: gobuild.sh OUTPUT PACKAGE...
# GOOS, GOARCH and GOARM choose the target; VERSION is linked in; LDFLAGS are added.
set -euo pipefail

# Inlining is worth its bytes only where time is spent: everything else is built without it, which takes about a
# megabyte off the device's binary. `make bench` and `make size` show both sides.
hot=(
	runtime 'internal/runtime/...' internal/abi internal/bytealg internal/byteorder internal/poll internal/reflectlite
	internal/strconv internal/sync sync sync/atomic bytes strings strconv unicode/utf8 slices maps sort math math/bits
	bufio io errors context time syscall net net/http net/http/internal net/textproto net/url reflect
	encoding/binary encoding/base64 hash/crc32 'crypto/internal/...' crypto/subtle crypto/sha256
	'go.etcd.io/bbolt/...' 'github.com/tinylib/msgp/...'
	google.golang.org/grpc google.golang.org/grpc/internal/transport google.golang.org/grpc/mem 'google.golang.org/grpc/encoding/...'
	google.golang.org/protobuf/proto google.golang.org/protobuf/internal/impl google.golang.org/protobuf/encoding/protowire
	golang.org/x/net/http2/hpack 'github.com/edged-io/edged/...'
)
gcflags=(-gcflags=all=-l)
for package in "${hot[@]}"; do
	gcflags+=("-gcflags=$package=") # the last pattern that matches counts
done

ldflags="-s -w -X main.version=${VERSION:-0.0.0} ${LDFLAGS:-}"
if [ "${GOARCH:-}" = arm ]; then
	ldflags="$ldflags -R 4096" # segments need no more than a page on 32-bit ARM
fi

output=$1
shift
# -tags grpcnotrace keeps gRPC from reaching templates, and with them every method of every type.
CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -tags grpcnotrace "${gcflags[@]}" -ldflags "$ldflags" -o "$output" "$@"
