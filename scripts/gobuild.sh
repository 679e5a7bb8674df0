#!/usr/bin/env bash
# The one place that says how released binaries are built: gobuild.sh OUTPUT PACKAGE...
# GOOS, GOARCH and GOARM choose the target; VERSION is linked in; LDFLAGS are added.
set -euo pipefail

# Inlining is worth its bytes only where time is spent. These packages run seldom, or wait for a disk or a network: without
# it the device's binary is a megabyte smaller. Small packages that others call are not here, since -l would keep their
# functions from being inlined everywhere.
cold=(
	'crypto/tls' 'crypto/x509/...' crypto/hpke crypto/ecdsa crypto/rsa crypto/dsa crypto/elliptic encoding/asn1 encoding/pem math/big
	encoding/gob encoding/json encoding/csv 'regexp/...' 'compress/...' 'text/...' 'html/...' 'mime/...' fmt flag 'log/slog/...' os/exec
	os/user runtime/pprof runtime/trace internal/profile 'internal/trace/...' internal/fmtsort internal/godebug 'vendor/...'
	'golang.org/x/text/...' 'golang.org/x/crypto/...' golang.org/x/net/idna golang.org/x/net/http2 'golang.org/x/net/http/...'
	'google.golang.org/genproto/...' google.golang.org/protobuf/encoding/protojson google.golang.org/protobuf/encoding/prototext
	google.golang.org/protobuf/internal/filedesc google.golang.org/protobuf/internal/filetype
	'google.golang.org/protobuf/internal/encoding/...' 'google.golang.org/protobuf/reflect/...' 'google.golang.org/protobuf/types/...'
	'google.golang.org/grpc/balancer/...' 'google.golang.org/grpc/resolver/...' 'google.golang.org/grpc/credentials/...'
	'google.golang.org/grpc/reflection/...' 'google.golang.org/grpc/channelz/...' 'google.golang.org/grpc/internal/...'
	'github.com/dapr/dapr/...' 'go.yaml.in/...' 'github.com/nats-io/...' 'github.com/eclipse/...' 'github.com/gorilla/...'
	'github.com/klauspost/...' 'github.com/shirou/...' 'github.com/tklauser/...' 'github.com/coreos/...' 'github.com/fxamacker/...'
	'github.com/x448/...' 'github.com/VictoriaMetrics/...' 'github.com/valyala/...' 'go.opentelemetry.io/...'
	github.com/edged-io/edged/edge github.com/edged-io/edged/edge/admin github.com/edged-io/edged/edge/resource github.com/edged-io/edged/edge/pluggable
	github.com/edged-io/edged/edge/secret github.com/edged-io/edged/mqtt github.com/edged-io/edged/sync 'github.com/edged-io/edged/cmd/...'
)
gcflags=()
for package in "${cold[@]}"; do
	gcflags+=("-gcflags=$package=-l")
done
gcflags+=(-gcflags=google.golang.org/grpc/internal/transport=) # the last pattern that matches counts: this one is hot

ldflags="-s -w -X main.version=${VERSION:-0.0.0} ${LDFLAGS:-}"
if [ "${GOARCH:-}" = arm ]; then
	ldflags="$ldflags -R 4096" # segments need no more than a page on 32-bit ARM
fi

output=$1
shift
# -tags grpcnotrace keeps gRPC from reaching templates, and with them every method of every type.
CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -tags grpcnotrace "${gcflags[@]}" -ldflags "$ldflags" -o "$output" "$@"
