#!/usr/bin/env bash
# Installs the official SDKs that the conformance tests and the demo use, exactly as their lock files say, into folders
# of this project. Nothing is done while the lock files stay the same.
set -euo pipefail
cd "$(dirname "$0")/.."

# changed STAMP FILE...: reports whether the files differ from when STAMP was made.
changed() {
	local stamp=$1
	shift
	[ "$(sha256sum "$@")" != "$(cat "$stamp" 2>/dev/null)" ]
}

for dir in conformance/js examples; do
	[ -e "$dir/package-lock.json" ] || continue
	if changed "$dir/node_modules/.installed" "$dir/package-lock.json"; then
		echo "sdk.sh: npm packages of $dir"
		(cd "$dir" && npm ci --no-audit --no-fund --loglevel=error)
		sha256sum "$dir/package-lock.json" >"$dir/node_modules/.installed"
	fi
done

dir=conformance/python
if [ -e "$dir/requirements.txt" ] && changed "$dir/.venv/.installed" "$dir/requirements.txt"; then
	echo "sdk.sh: Python packages of $dir"
	python3 -m venv --clear "$dir/.venv"
	"$dir/.venv/bin/pip" install --quiet --disable-pip-version-check --no-input --requirement "$dir/requirements.txt"
	sha256sum "$dir/requirements.txt" >"$dir/.venv/.installed"
fi
