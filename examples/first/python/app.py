"""A first application on edged with the official Dapr SDK for Python: it receives orders and keeps the latest in state.

Run it with: edged run --app-id orders-python --app-port 6003 --app-protocol grpc -- python3 first/python/app.py
"""

import json
import os

from cloudevents.sdk.event import v1
from dapr.clients import DaprClient
from dapr.ext.grpc import App

app = App()


@app.subscribe(pubsub_name="pubsub", topic="orders")
def on_order(event: v1.Event) -> None:
    order = json.loads(event.Data())
    with DaprClient(os.environ["DAPR_GRPC_ENDPOINT"]) as client:
        client.save_state("statestore", "latest", json.dumps(order))
    print(f"python: order {order['id']}, {order['item']}", flush=True)


app.run(int(os.environ["APP_PORT"]))
