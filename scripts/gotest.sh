#!/usr/bin/env bash
# Runs `go test -json` with the given arguments in the given module and counts real results:
#   gotest.sh MODULE-FOLDER [go test arguments]
# It prints one line per package and the whole output of what failed. Counts are added up in .cache/test-counts.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$root/.cache"
summary=$root/.cache/testsummary
if [ ! -x "$summary" ] || [ "$root/scripts/testsummary.go" -nt "$summary" ]; then
	(cd "$root" && go build -o "$summary" scripts/testsummary.go)
fi
module=$1
shift
cd "$root/$module"
go test -json "$@" | "$summary" "$root/.cache/test-counts"
