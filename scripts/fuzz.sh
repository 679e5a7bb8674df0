#!/usr/bin/env bash
# Runs every fuzz target of the main module for a while: fuzz.sh [TIME-PER-TARGET] [PACKAGE...]
# What a target finds is written to testdata/fuzz in its package: commit it, it is a test from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
shift || true
packages=("$@")
[ "${#packages[@]}" -gt 0 ] || packages=(./...)

status=0
while read -r package; do
	targets=$(go test -tags grpcnotrace -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	for target in $targets; do
		echo "fuzz  $package $target $time"
		# Minimizing each interesting input, which go does for a minute, would leave no time for finding any.
		go test -tags grpcnotrace -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$package" | tail -n 3 || status=1
	done
done < <(go list -tags grpcnotrace "${packages[@]}")
exit "$status"
