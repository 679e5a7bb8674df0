#!/bin/sh
# A first application on edged with curl alone: it publishes an order and reads and writes state, over the Unix socket.
# Run it with: edged run --app-id orders-curl -- first/curl/app.sh
set -eu
api() { curl --silent --show-error --fail --unix-socket "$EDGED_SOCKET" "$@"; }

api -X POST -H 'Content-Type: application/json' -d '{"id": 1, "item": "lamp"}' http://edged/v1.0/publish/pubsub/orders
api -X POST -H 'Content-Type: application/json' -d '[{"key": "latest", "value": {"id": 1, "item": "lamp"}}]' http://edged/v1.0/state/statestore
printf 'curl: published order 1; state holds %s\n' "$(api http://edged/v1.0/state/statestore/latest)"
