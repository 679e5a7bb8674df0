"""Drives edged with the official Python SDK over gRPC: state, publish, subscribe (callback and streaming), secrets,
metadata, health. Prints "ok" and exits 0, or says what differs and exits 1."""

import json
import os
import threading
import time

import grpc
from cloudevents.sdk.event import v1
from dapr.clients import DaprClient
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._state import Concurrency, StateOptions
from dapr.ext.grpc import App

STORE, PUBSUB = "statestore", "pubsub"
got = []
app = App()


@app.subscribe(pubsub_name=PUBSUB, topic="py-orders")
def on_order(event: v1.Event) -> None:
    got.append(json.loads(event.Data())["number"])


def eventually(what, check):
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.02)


def state(client):
    client.save_state(STORE, "k", json.dumps({"n": 1}))
    first = client.get_state(STORE, "k")
    assert json.loads(first.data) == {"n": 1} and first.etag, first
    once = StateOptions(concurrency=Concurrency.first_write)
    client.save_state(STORE, "k", json.dumps({"n": 2}), etag=first.etag, options=once)
    try:
        client.save_state(STORE, "k", json.dumps({"n": 3}), etag=first.etag, options=once)
        raise AssertionError("a stale etag was accepted")
    except grpc.RpcError as err:
        assert err.code() == grpc.StatusCode.ABORTED, err
    client.execute_state_transaction(
        STORE,
        operations=[
            TransactionalStateOperation(key="t1", data="1"),
            TransactionalStateOperation(key="k", operation_type=TransactionOperationType.delete),
        ],
    )
    items = {i.key: i.data for i in client.get_bulk_state(STORE, keys=["t1", "k"]).items}
    assert items == {"t1": b"1", "k": b""}, items
    client.delete_state(STORE, "t1")
    assert client.get_state(STORE, "t1").data == b""


def secrets(client):
    assert client.get_secret("secrets", "api-key").secret == {"api-key": "s3cret"}
    assert len(client.get_bulk_secret("secrets").secrets) == 2


def publish(client, topic, count):
    for number in range(count):
        client.publish_event(PUBSUB, topic, json.dumps({"number": number}), data_content_type="application/json")


def streaming(client):
    subscription = client.subscribe(pubsub_name=PUBSUB, topic="py-stream")
    publish(client, "py-stream", 10)
    seen = []
    for message in subscription:
        if message is None:
            continue
        seen.append(message.data()["number"])
        subscription.respond_success(message)
        if len(seen) == 10:
            break
    subscription.close()
    assert seen == list(range(10)), seen


def main():
    threading.Thread(target=lambda: app.run(int(os.environ["APP_PORT"])), daemon=True).start()
    with DaprClient(os.environ["DAPR_GRPC_ENDPOINT"]) as client:
        client.wait(5)
        state(client)
        secrets(client)
        publish(client, "py-orders", 20)
        eventually("20 events", lambda: len(got) >= 20)
        assert got == list(range(20)), got
        streaming(client)
        client.set_metadata("color", "green")
        metadata = client.get_metadata()
        assert metadata.application_id == os.environ["APP_ID"], metadata.application_id
        assert metadata.extended_metadata["color"] == "green"
    print("ok", flush=True)
    os._exit(0)


main()
