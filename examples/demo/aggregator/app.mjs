// Subscribes to the sensor's readings with the official JavaScript SDK and keeps aggregates in edged's state. What it has
// counted survives a restart of edged, because it is saved before the event is acknowledged.
import { appendFileSync } from "node:fs";
import { CommunicationProtocolEnum, DaprClient, DaprServer } from "@dapr/dapr";

const store = "statestore";
const client = new DaprClient({
  daprHost: "127.0.0.1",
  daprPort: process.env.DAPR_HTTP_PORT,
  communicationProtocol: CommunicationProtocolEnum.HTTP,
});
const server = new DaprServer({
  serverHost: "127.0.0.1",
  serverPort: process.env.APP_PORT,
  communicationProtocol: CommunicationProtocolEnum.HTTP,
  clientOptions: { daprHost: "127.0.0.1", daprPort: process.env.DAPR_HTTP_PORT },
});

let total = { count: 0, cpuMax: 0, loadMax: 0, last: 0 };

await server.pubsub.subscribe("pubsub", "sensors/machine", async (reading) => {
  // Every delivery is written down first, so that the ledger sees duplicates too.
  appendFileSync(process.env.LEDGER, `${reading.number}\n`);
  if (reading.number <= total.last) return; // delivered again after a crash: counted once
  const next = {
    count: total.count + 1,
    cpuMax: Math.max(total.cpuMax, reading.cpuPercent),
    loadMax: Math.max(total.loadMax, reading.load1),
    last: reading.number,
  };
  await client.state.save(store, [{ key: "aggregate", value: next }]).then((r) => {
    if (r?.error) throw r.error; // an exception makes edged deliver the event again
  });
  total = next;
});
await server.start();
console.log("aggregator ready");
