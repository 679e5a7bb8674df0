// A first application on edged with the official Dapr SDK for JavaScript: it receives orders and keeps the latest in state.
// Run it with: edged run --app-id orders-js --app-port 6002 -- node first/js/app.mjs
import { DaprClient, DaprServer } from "@dapr/dapr";

const dapr = { daprHost: "127.0.0.1", daprPort: process.env.DAPR_HTTP_PORT };
const client = new DaprClient(dapr);
const server = new DaprServer({ serverHost: "127.0.0.1", serverPort: process.env.APP_PORT, clientOptions: dapr });

await server.pubsub.subscribe("pubsub", "orders", async (order) => {
  await client.state.save("statestore", [{ key: "latest", value: order }]);
  console.log(`js: order ${order.id}, ${order.item}`);
});
await server.start();
