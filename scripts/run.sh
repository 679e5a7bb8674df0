#!/usr/bin/env bash
# Starts edged-hub and edged (configs/local.yaml) for trying them out, on loopback, with data in .cache/run. Ctrl-C stops
# both.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.cache/run
mkdir -p "$dir"

pids=()
stop() {
	trap - EXIT INT TERM
	[ "${#pids[@]}" -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
	wait || true
	echo "edged and edged-hub have stopped; the data stays in $dir"
}
trap stop EXIT
trap 'exit 0' INT TERM

# The children are in process groups of their own (set -m): Ctrl-C reaches this script, which stops them in order.
set -m
bin/edged-hub --data "$dir/hub" --mqtt 127.0.0.1:1883 >"$dir/hub.log" 2>&1 &
pids+=($!)
bin/edged serve --config configs/local.yaml >"$dir/edged.log" 2>&1 &
pids+=($!)
set +m

alive() {
	local pid
	for pid in "${pids[@]}"; do
		kill -0 "$pid" 2>/dev/null || return 1
	done
}

answers() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
for port in 4222 4223 1883 3500 50001; do
	for ((i = 0; ; i++)); do
		if ! alive || [ "$i" -ge 150 ]; then
			echo "edged or edged-hub did not start; the end of their logs:" >&2
			tail -n 5 "$dir/hub.log" "$dir/edged.log" >&2
			exit 1
		fi
		answers "$port" && break
		sleep 0.1
	done
done

cat <<TEXT
edged serves the application "app":
  HTTP      127.0.0.1:3500    gRPC  127.0.0.1:50001    both on  $PWD/$dir/app.sock
edged-hub, a local upstream:
  NATS      127.0.0.1:4222    WebSocket  127.0.0.1:4223    MQTT  127.0.0.1:1883
Logs: $dir/edged.log, $dir/hub.log

Try, in another terminal, from $PWD:
  curl -X POST 127.0.0.1:3500/v1.0/state/statestore -H 'content-type: application/json' -d '[{"key":"greeting","value":"hello"}]'
  curl 127.0.0.1:3500/v1.0/state/statestore/greeting
  curl -X POST 127.0.0.1:3500/v1.0/publish/pubsub/orders -H 'content-type: application/json' -d '{"order":1}'
  bin/edged status --config configs/local.yaml
  kill -9 ${pids[1]}    # edged, as a power cut would; then make run again: nothing is lost

Ctrl-C stops both.
TEXT
wait -n "${pids[@]}" || true
echo "one of the two has ended; the end of the logs:" >&2
tail -n 5 "$dir/hub.log" "$dir/edged.log" >&2
exit 1
