#!/usr/bin/env bash
# Builds the release for Linux: static binaries of edged and edged-hub, one tar.gz per architecture, and checksums, in dist/.
#   cross-build.sh [ARCH...]            armv6 armv7 arm64 amd64 riscv64 (default: all)
#   cross-build.sh --verify [ARCH...]   builds twice, in different folders and without caches, and compares every byte
# The same commit and Go version give the same bytes. VERSION and SOURCE_DATE_EPOCH come from git unless they are set.
set -euo pipefail
cd "$(dirname "$0")"

all=(armv6 armv7 arm64 amd64 riscv64)
verify=
if [ "${1:-}" = --verify ]; then
	verify=1
	shift
fi
archs=("$@")
[ "${#archs[@]}" -gt 0 ] || archs=("${all[@]}")

VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo 0.0.0)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export VERSION SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

# compile SOURCE ARCH OUTPUT-FOLDER: both binaries.
compile() {
	local source=$1 arch=$2 out=$3 goarch goarm=
	case $arch in
	armv6) goarch=arm goarm=6 ;;
	armv7) goarch=arm goarm=7 ;;
	arm64 | amd64 | riscv64) goarch=$arch ;;
	*)
		echo "cross-build.sh: there is no architecture $arch (${all[*]})" >&2
		exit 2
		;;
	esac
	mkdir -p "$out"
	out=$(cd "$out" && pwd)
	for command in edged edged-hub; do
		(
			cd "$source"
			# What a user's environment could change is set or unset here.
			env -u GOEXPERIMENT -u GO111MODULE -u GOWORK GOFLAGS=-mod=readonly GOOS=linux GOARCH="$goarch" GOARM="$goarm" \
				GOAMD64=v1 GOARM64=v8.0 GORISCV64=rva20u64 LDFLAGS=-buildid= scripts/gobuild.sh "$out/$command" "./cmd/$command"
		)
	done
}

# pack SOURCE ARCH BINARIES OUTPUT-FOLDER: the tar.gz, with nothing of this machine or moment in it.
pack() {
	local source=$1 arch=$2 binaries=$3 out=$4 name stage
	name=edged-$VERSION-linux-$arch
	stage=$(mktemp -d)
	mkdir -p "$stage/$name/configs"
	install -m 0755 "$binaries/edged" "$binaries/edged-hub" "$stage/$name/"
	for file in LICENSE README.md CHANGELOG.md; do
		[ ! -e "$source/$file" ] || install -m 0644 "$source/$file" "$stage/$name/"
	done
	cp -r "$source/configs/." "$stage/$name/configs/"
	find "$stage/$name/configs" -type d -exec chmod 0755 {} + -o -type f -exec chmod 0644 {} +
	mkdir -p "$out"
	tar --create --directory "$stage" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
		--numeric-owner "$name" | gzip --no-name --best >"$out/$name.tar.gz"
	rm -rf "$stage"
}

# release SOURCE WORK-FOLDER OUTPUT-FOLDER: everything.
release() {
	local source=$1 work=$2 out=$3 arch
	for arch in "${archs[@]}"; do
		compile "$source" "$arch" "$work/$arch"
		pack "$source" "$arch" "$work/$arch" "$out"
	done
	(cd "$out" && sha256sum -- *.tar.gz >SHA256SUMS)
}

if [ -z "$verify" ]; then
	rm -rf dist
	mkdir -p dist
	release . dist/bin dist
	ls -l dist/*.tar.gz
	cat dist/SHA256SUMS
	exit 0
fi

# Another folder with another name, and caches of its own: nothing of the first build can reach the second.
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
mkdir "$work/one"
git ls-files -z --cached --others --exclude-standard -- ':!conformance' ':!examples' |
	tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$work/one"
cp -a "$work/one" "$work/another-folder"
for copy in one another-folder; do
	echo "building in $copy"
	GOCACHE=$work/cache-$copy release "$work/$copy" "$work/bin-$copy" "$work/out-$copy"
done
if diff -r "$work/bin-one" "$work/bin-another-folder" && diff -r "$work/out-one" "$work/out-another-folder"; then
	cat "$work/out-one/SHA256SUMS"
	echo "two builds are byte-identical: ${archs[*]}"
	exit 0
fi
echo "cross-build.sh: two builds differ" >&2
exit 1
