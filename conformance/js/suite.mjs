// Drives edged with the official JavaScript SDK. Usage: node suite.mjs http|grpc
// Both the client and the server speak that protocol. Prints "ok" and exits 0, or says what differs and exits 1.
import assert from "node:assert/strict";
import { CommunicationProtocolEnum, DaprClient, DaprServer } from "@dapr/dapr";

const protocol = process.argv[2];
const grpc = protocol === "grpc";
const communicationProtocol = grpc ? CommunicationProtocolEnum.GRPC : CommunicationProtocolEnum.HTTP;
const daprPort = grpc ? process.env.DAPR_GRPC_PORT : process.env.DAPR_HTTP_PORT;
const clientOptions = { daprHost: "127.0.0.1", daprPort, communicationProtocol };

const waitFor = async (what, check) => {
  for (const end = Date.now() + 20000; Date.now() < end; ) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`not in time: ${what}`);
};

const state = async (client) => {
  const store = "statestore";
  await client.state.save(store, [
    { key: "a", value: { n: 1 } },
    { key: "b", value: "text" },
    { key: "c", value: [1, 2, 3] },
  ]);
  assert.deepEqual(await client.state.get(store, "a"), { n: 1 });
  const bulk = await client.state.getBulk(store, ["a", "b", "none"]);
  assert.equal(bulk.find((e) => e.key === "a").data.n, 1);
  await client.state.transaction(store, [
    // The SDK's gRPC client takes text only here.
    { operation: "upsert", request: { key: "a", value: grpc ? JSON.stringify({ n: 2 }) : { n: 2 } } },
    { operation: "delete", request: { key: "b" } },
  ]);
  assert.deepEqual(await client.state.get(store, "a"), { n: 2 });
  assert.equal(await client.state.get(store, "b"), "");
  await client.state.delete(store, "c");
  assert.equal(await client.state.get(store, "c"), "");
};

const secrets = async (client) => {
  assert.equal((await client.secret.get("secrets", "api-key"))["api-key"], "s3cret");
  const all = await client.secret.getBulk("secrets");
  assert.equal(Object.keys(all).length, 2);
};

const pubsub = async (client, server, got) => {
  for (let i = 0; i < 30; i++) await client.pubsub.publish("pubsub", "js-orders", { number: i });
  await client.pubsub.publishBulk("pubsub", "js-orders", [{ number: 30 }, { number: 31 }]);
  await waitFor("32 events", () => got.length >= 32);
  assert.deepEqual(got.map((e) => e.number), Array.from({ length: 32 }, (_, i) => i));
};

const got = [];
const server = new DaprServer({
  serverHost: "127.0.0.1",
  serverPort: process.env.APP_PORT,
  communicationProtocol,
  clientOptions,
});
await server.pubsub.subscribe("pubsub", "js-orders", async (data) => {
  got.push(data);
});
await server.start();

const client = new DaprClient(clientOptions);
assert.ok(await client.health.isHealthy(), "health");
await state(client);
await secrets(client);
await pubsub(client, server, got);
const metadata = await client.metadata.get();
assert.equal(metadata.id, process.env.APP_ID);
console.log("ok");
process.exit(0);
