#!/usr/bin/env bash
# The footprint budget (ARCHITECTURE.md): binary sizes, dead-method elimination, and what a running edged costs here.
# Exits 1 if a gate is crossed. SIZE_ONLY=1 leaves the measurements of the running program out.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.cache/size
mkdir -p "$out"
gate=16000000 goal=12000000
status=0

build() { # GOARCH GOARM OUTPUT [LDFLAGS]
	GOOS=linux GOARCH=$1 GOARM=$2 LDFLAGS=${4:-} scripts/gobuild.sh "$3" ./cmd/edged
}

for target in armv7 arm64 amd64; do
	case $target in
	armv7) build arm 7 "$out/edged-$target" ;;
	*) build "$target" '' "$out/edged-$target" ;;
	esac
	bytes=$(stat -c %s "$out/edged-$target")
	verdict=ok
	if [ "$bytes" -le "$goal" ]; then
		verdict='goal reached'
	elif [ "$bytes" -gt "$gate" ]; then
		verdict='OVER THE GATE'
		# The budget is for the devices; amd64 is printed for comparison.
		[ "$target" = amd64 ] && verdict='(no gate)' || status=1
	fi
	awk -v name="binary, $target" -v b="$bytes" -v gate="$gate" -v goal="$goal" -v verdict="$verdict" \
		'BEGIN { printf "%-36s %8.2f MB   gate %.1f, goal %.1f: %s\n", name, b / 1e6, gate / 1e6, goal / 1e6, verdict }'
done

# With one method reached by name the linker keeps every exported method of every reachable type.
kept=$(build amd64 '' /dev/null -dumpdep 2>&1 | grep ReflectMethod || true)
if [ -n "$kept" ]; then
	echo "dead methods are kept in the binary because of:"
	head -n 5 <<<"$kept"
	status=1
else
	printf '%-36s %8d\n' 'methods reached by name' 0
fi

if [ -z "${SIZE_ONLY:-}" ]; then
	go build -o "$out/footprint" scripts/footprint.go
	"$out/footprint" -edged "$out/edged-amd64" || status=1
fi
exit "$status"
