// A TypeScript client made of types that openapi-typescript generated, against a live server: an App from its creation to its end.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./appm.d.ts";

type App = components["schemas"]["App"];
type AppWatchEvent = components["schemas"]["AppWatchEvent"];

const { APPM_URL, APPM_TOKEN, APPM_NAMESPACE: namespace = "default" } = process.env;
// The answers are also there as tables and as metadata alone; this client asks for the objects.
const client = createClient<paths, "application/json">({ baseUrl: APPM_URL, headers: { Authorization: `Bearer ${APPM_TOKEN}` } });

const collection = "/apis/appm.dev/v1/namespaces/{namespace}/apps";
const one = "/apis/appm.dev/v1/namespaces/{namespace}/apps/{name}";
const hello = { namespace, name: "hello" };

function app(replicas?: number): App {
  return {
    apiVersion: "appm.dev/v1",
    kind: "App",
    metadata: { name: "hello", labels: { "made-by": "typescript" } },
    spec: { replicas, process: { command: ["sleep", "1000000"] } },
  };
}

function apply(replicas: number, fieldManager: string, force = false) {
  return client.PATCH(one, {
    params: { path: hello, query: { fieldManager, force } },
    headers: { "Content-Type": "application/apply-patch+json" },
    body: app(replicas),
  });
}

// Events of a watch, one a line.
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<AppWatchEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line);
  }
}

const made = await client.POST(collection, { params: { path: { namespace } }, body: app() });
assert.equal(made.response.status, 201);
assert.equal(made.data?.metadata.generation, 1);

const listed = await client.GET(collection, {
  params: { path: { namespace }, query: { labelSelector: "made-by=typescript" } },
});
assert.deepEqual(listed.data?.items.map((a) => a.metadata.name), ["hello"]);

const watch = await client.GET("/apis/appm.dev/v1/watch/namespaces/{namespace}/apps", {
  params: { path: { namespace }, query: { fieldSelector: "metadata.name=hello", timeoutSeconds: 60 } },
  parseAs: "stream",
});
let ready = false;
for await (const event of events(watch.data!)) {
  if (event.object.kind === "App" && "spec" in event.object) {
    console.log(event.type, event.object.metadata.resourceVersion);
    ready = event.object.status?.readyReplicas === 1;
    if (ready) break;
  }
}
assert.ok(ready, "it did not become ready");

assert.equal((await apply(2, "first")).data?.spec.replicas, 2);
const refused = await apply(3, "second");
assert.equal(refused.error?.reason, "Conflict");
assert.deepEqual(refused.error?.details?.causes?.map((c) => c.field), [".spec.replicas"]);
assert.equal((await apply(3, "second", true)).data?.spec.replicas, 3);

await client.DELETE(one, { params: { path: hello } });
for (const deadline = Date.now() + 60_000; ; await pause(50)) {
  const gone = await client.GET(one, { params: { path: hello } });
  if (gone.error?.reason === "NotFound") break;
  assert.ok(Date.now() < deadline, "it is not gone");
}
console.log("typescript: all as it should be");
