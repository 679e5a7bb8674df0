#!/usr/bin/env bash
# Runs Dapr's own integration cases against bin/edged as daprd and prints how many passed.
#   run.sh                 the cases of cases.txt
#   run.sh REGEX           the cases whose name matches (name: folder under suite/ plus type)
# PARALLEL (default 2) is how many run at once; LOG is where the full output goes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache/conformance-dapr
log=${LOG:-$cache/output.log}
mkdir -p "$cache"

cd "$here"
go test -c -tags integration -o "$cache/suite.test" .
for tool in placement scheduler sentry; do
	go build -o "$cache/$tool" "github.com/dapr/dapr/cmd/$tool"
done

focus=${1:-"^($(grep -v '^#' cases.txt | paste -sd'|'))\$"}
run=$(mktemp -d "${TMPDIR:-/tmp}/edged-suite.XXXXXX")
trap 'rm -rf "$run"' EXIT

# Cases may run daprd without any environment, so its stand-in is told everything here.
sed -e "s|@EDGED@|${EDGED:-$root/bin/edged}|" -e "s|@DATA@|$run|" "$here/daprd.sh" >"$cache/daprd"
chmod 0755 "$cache/daprd"

export DAPR_INTEGRATION_DAPRD_PATH=$cache/daprd
for tool in PLACEMENT SCHEDULER SENTRY; do
	export "DAPR_INTEGRATION_${tool}_PATH=$cache/${tool,,}"
done
for unused in OPERATOR INJECTOR HELMTEMPLATE MCPSTDIOSERVER CONTROLLERGEN; do
	export "DAPR_INTEGRATION_${unused}_PATH=/bin/true"
done

# A network namespace of its own keeps multicast DNS on loopback and the ports free; outgoing connections keep away from
# the ports that the suite reserves.
inside=(bash -c 'ip link set lo up 2>/dev/null; echo "52000 60999" 2>/dev/null >/proc/sys/net/ipv4/ip_local_port_range; exec "$@"' inside)
if unshare -n true 2>/dev/null; then
	inside=(unshare -n "${inside[@]}")
fi
status=0
timeout 3000 "${inside[@]}" "$cache/suite.test" -test.v=test2json -focus "$focus" -integration-parallel=true \
	-test.parallel "${PARALLEL:-2}" -test.timeout 50m >"$log" 2>&1 || status=$?

# test2json frames its lines with a control character; a case is a test two levels deep.
tr -d '\026' <"$log" | grep -aE '^ *--- (PASS|FAIL|SKIP): Test_Integration/[^ ]+' | grep -avE '/run[ /]|/build_binaries' |
	sed -E 's/^ *--- ([A-Z]+): Test_Integration\/([^ ]+).*/\1 \2/' | awk -F/ '!/\/run(\/|$)/' | sort -u >"$cache/results.txt" || true
grep -a '^FAIL' "$cache/results.txt" || true
passed=$(grep -ac '^PASS' "$cache/results.txt" || true)
failed=$(grep -ac '^FAIL' "$cache/results.txt" || true)
echo "Dapr integration cases: full output in $log"
echo "$passed passed, $failed failed"
[ "$status" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
