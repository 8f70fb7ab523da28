import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { before, test } from "node:test";

import { AppMeshClient } from "appmesh";

const folder = process.env.APPM_TMP;
let client;

before(async () => {
  client = new AppMeshClient(process.env.APPM_URL);
  await client.login("admin", "admin123");
});

test("applications are put, seen, turned off and removed", async () => {
  const app = await client.add_app("js", { name: "js", command: "sleep 1000", behavior: { exit: "restart" } });
  assert.equal(app.command, "sleep 1000");
  assert.equal(await client.check_app_health("js"), true);
  assert.deepEqual((await client.list_apps()).map((app) => app.name), ["js"]);
  // What it was shown it sends back whole, and nothing is replaced.
  const again = await client.add_app("js", await client.get_app("js"));
  assert.equal(again.pid, app.pid);
  await client.disable_app("js");
  assert.equal((await client.get_app("js")).status, 0);
  assert.equal(await client.delete_app("js"), true);
  assert.equal(await client.delete_app("js"), false);
});

test("something is run, waited for and followed", async () => {
  const printed = [];
  const keep = (text) => printed.push(text);
  assert.equal(await client.run_app_sync({ command: "echo hi; exit 3", shell: true }, keep), 3);
  const run = await client.run_app_async({ command: "echo one; sleep 1; echo two", shell: true });
  assert.equal(await run.wait(keep), 0);
  assert.equal(printed.join(""), "hi\none\ntwo\n");
});

test("files go up and down", async () => {
  const [there, back] = [`${folder}/there`, `${folder}/back`];
  writeFileSync(there, Buffer.alloc(300_000, "a\r\n--\0"));
  await client.upload_file(there, "js file.bin");
  await client.download_file("js file.bin", back);
  assert.deepEqual(readFileSync(back), readFileSync(there));
  await assert.rejects(client.download_file("../worker.key", back));
});

test("labels, people, settings and tokens", async () => {
  await client.add_label("js-label", "v1");
  assert.equal((await client.list_labels())["js-label"], "v1");
  await client.delete_label("js-label");
  await client.add_user("jsuser", { key: "Wire_123456", name: "jsuser", group: "user", roles: ["view"], locked: false });
  assert.deepEqual((await client.list_users()).jsuser.roles, ["view"]);
  await client.delete_user("jsuser");
  assert.ok((await client.list_permissions()).includes("app-view"));
  assert.equal((await client.get_config()).REST.RestListenAddress, "127.0.0.1");
  assert.equal((await client.get_current_user()).name, "admin");
  await client.renew_token();
  await client.list_apps();
  await client.logout();
  await assert.rejects(client.list_apps());
});
