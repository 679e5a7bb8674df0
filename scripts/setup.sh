#!/usr/bin/env bash
# Installs what a part of this project needs and this machine lacks, by Debian package name:
#   setup.sh test          mosquitto, qemu (ARM binaries), a C compiler (race detector)
#   setup.sh sdk           Node.js, npm and Python for the SDK tests
#   setup.sh lint          shellcheck
# Nothing is downloaded when everything is there. No service is started: mosquitto's package would, and does not here.
set -euo pipefail

# need COMMAND PACKAGE: PACKAGE brings COMMAND.
packages=()
need() {
	command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

for part in "${@:-test}"; do
	case $part in
	test)
		PATH=$PATH:/usr/sbin need mosquitto mosquitto
		need mosquitto_pub mosquitto-clients
		need qemu-arm-static qemu-user-static
		need gcc gcc
		[ -e /usr/include/stdlib.h ] || packages+=(libc6-dev)
		;;
	sdk)
		need node nodejs
		need npm npm
		need python3 python3
		python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3-venv)
		;;
	lint) need shellcheck shellcheck ;;
	*)
		echo "setup.sh: there is no part $part (test, sdk, lint)" >&2
		exit 2
		;;
	esac
done
[ "${#packages[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup.sh: please install (Debian package names): ${packages[*]}" >&2
	exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "setup.sh: please install as root: apt-get install ${packages[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi

# Debian's way of saying that packages may not start their services now; an administrator's own policy stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '"${as_root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod 0755 "$policy"
fi

echo "setup.sh: installing ${packages[*]}"
install() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends "${packages[@]}" >/dev/null
}
if ! install 2>/dev/null; then # the package lists may be old, or not there at all
	"${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update
	install
fi
