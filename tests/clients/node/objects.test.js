// KubernetesObjectApi, CustomObjectsApi and CoreV1Api.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PatchStrategy } from '@kubernetes/client-node';
import { APPS, app, core, custom, namespaceFor, objects, refused, waitFor } from './world.js';

test('any object is made, read, patched in every way, and deleted', async (t) => {
  const namespace = await namespaceFor(t);
  const web = app(namespace, 'web');
  const made = await objects.create(web);
  assert.equal(made.metadata.generation, 1);
  await refused(409, 'AlreadyExists', objects.create(web));
  const got = await objects.read(web);
  assert.equal(got.metadata.uid, made.metadata.uid);

  const patch = (spec, how) => objects.patch({ ...web, spec }, undefined, undefined, undefined, undefined, how);
  assert.equal((await patch({ replicas: 3 }, PatchStrategy.MergePatch)).spec.replicas, 3);
  await refused(415, 'UnsupportedMediaType', patch({ replicas: 4 }, PatchStrategy.StrategicMergePatch));
  const listed = await objects.list('appm.dev/v1', 'App', namespace, undefined, undefined, undefined, undefined, 'team=a');
  assert.deepEqual(listed.items.map((item) => item.metadata.name), ['web']);

  await objects.delete(web);
  await waitFor('the App to go', async () => (await objects.list('appm.dev/v1', 'App', namespace)).items.length === 0);
  await refused(404, 'NotFound', objects.read(web));
});

test('server-side apply names the owner of a conflict', async (t) => {
  const namespace = await namespaceFor(t);
  const apply = (body, manager, force) =>
    objects.patch(body, undefined, undefined, manager, force, PatchStrategy.ServerSideApply);
  const made = await apply(app(namespace, 'web'), 'alice');
  const wish = app(namespace, 'web', { replicas: 7 });
  const status = await refused(409, 'Conflict', apply(wish, 'bob'));
  assert.deepEqual(status.details.causes.map((cause) => cause.field), ['.spec.replicas']);
  assert.match(status.details.causes[0].message, /alice/);
  const taken = await apply(wish, 'bob', true);
  assert.equal(taken.spec.replicas, 7);
  assert.equal(taken.metadata.uid, made.metadata.uid);
});

test('an update of an old reading conflicts', async (t) => {
  const namespace = await namespaceFor(t);
  const body = { metadata: { name: 'settings' }, data: { colour: 'blue' } };
  const old = await core.createNamespacedConfigMap({ namespace, body });
  const replace = (map) => core.replaceNamespacedConfigMap({ name: 'settings', namespace, body: map });
  const now = await replace({ ...old, data: { colour: 'red' } });
  assert.notEqual(now.metadata.resourceVersion, old.metadata.resourceVersion);
  await refused(409, 'Conflict', replace({ ...old, data: { colour: 'green' } }));
  assert.equal((await core.readNamespacedConfigMap({ name: 'settings', namespace })).data.colour, 'red');
});

test('JSON patches, status and scale of an App', async (t) => {
  const namespace = await namespaceFor(t);
  const at = { ...APPS, namespace, name: 'web' };
  await custom.createNamespacedCustomObject({ ...at, body: app(namespace, 'web') });
  const body = [{ op: 'replace', path: '/spec/replicas', value: 5 }];
  assert.equal((await custom.patchNamespacedCustomObject({ ...at, body })).spec.replicas, 5);
  const scale = await custom.getNamespacedCustomObjectScale(at);
  assert.equal(scale.kind, 'Scale');
  assert.equal(scale.spec.replicas, 5);
  const status = await custom.getNamespacedCustomObjectStatus(at);
  assert.equal(status.metadata.name, 'web');
});

test('a secret takes text and gives base64', async (t) => {
  const namespace = await namespaceFor(t);
  const body = { metadata: { name: 'door' }, stringData: { key: '1234' } };
  const made = await core.createNamespacedSecret({ namespace, body });
  assert.equal(made.type, 'Opaque');
  assert.equal(made.data.key, 'MTIzNA==');
  assert.equal(made.stringData, undefined);
});

test('what runs is seen as Pods with logs', async (t) => {
  const namespace = await namespaceFor(t);
  const script = 'echo "hello from $APPM_INSTANCE"; exec sleep 1000';
  const body = app(namespace, 'web', { suspend: false, replicas: 1, process: { script } });
  await custom.createNamespacedCustomObject({ ...APPS, namespace, body });
  const pod = await waitFor('a running Pod', async () => {
    const { items } = await core.listNamespacedPod({ namespace });
    return items.find((item) => item.status.phase === 'Running');
  });
  const at = { name: pod.metadata.name, namespace };
  const text = await waitFor('its output', () => core.readNamespacedPodLog(at));
  assert.equal(text, `hello from ${pod.metadata.name}\n`);
});
