// Watch and makeInformer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as k8s from '@kubernetes/client-node';
import { APPS, app, config, core, custom, namespaceFor, waitFor } from './world.js';

const mapsOf = (namespace) => `/api/v1/namespaces/${namespace}/configmaps`;
const make = (namespace, name) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: {} } });

test('a watch tells every change once, in order, and resumes', async (t) => {
  const namespace = await namespaceFor(t);
  const start = (await core.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
  for (const name of ['one', 'two', 'three']) await make(namespace, name);
  await core.deleteNamespacedConfigMap({ name: 'one', namespace });
  const watching = new k8s.Watch(config);
  const watched = (resourceVersion) =>
    new Promise((resolve, reject) => {
      const events = [];
      const note = (type, { metadata }) => events.push({ type, name: metadata.name, at: metadata.resourceVersion });
      const done = (error) => (error && error.name !== 'AbortError' ? reject(error) : resolve(events));
      watching.watch(mapsOf(namespace), { resourceVersion, timeoutSeconds: 1 }, note, done).catch(reject);
    });
  const whole = await watched(start);
  const told = whole.map((event) => `${event.type} ${event.name}`);
  assert.deepEqual(told, ['ADDED one', 'ADDED two', 'ADDED three', 'DELETED one']);
  assert.deepEqual(await watched(whole[1].at), whole.slice(2));
});

test('the informer keeps a true copy, also after its connection was lost', async (t) => {
  const namespace = await namespaceFor(t);
  await make(namespace, 'first');
  const informer = k8s.makeInformer(config, mapsOf(namespace), () => core.listNamespacedConfigMap({ namespace }));
  const seen = [];
  for (const verb of ['add', 'update', 'delete']) informer.on(verb, (map) => seen.push(`${verb} ${map.metadata.name}`));
  // Its own end comes as an error too.
  informer.on('error', (error) => error?.name === 'AbortError' || assert.fail(error));
  await informer.start();
  t.after(() => informer.stop());
  await waitFor('the first object', () => informer.get('first', namespace));
  await make(namespace, 'second');
  const map = await core.readNamespacedConfigMap({ name: 'first', namespace });
  await core.replaceNamespacedConfigMap({ name: 'first', namespace, body: { ...map, data: { a: '1' } } });
  await core.deleteNamespacedConfigMap({ name: 'second', namespace });
  await waitFor('all changes', () => seen.length === 4);
  assert.deepEqual(seen, ['add first', 'add second', 'update first', 'delete second']);

  await informer.stop();
  await make(namespace, 'third');
  await core.deleteNamespacedConfigMap({ name: 'first', namespace });
  await informer.start();
  await waitFor('what happened meanwhile', () => informer.get('third', namespace) && !informer.get('first', namespace));
});

test('an App is followed until it is ready', async (t) => {
  const namespace = await namespaceFor(t);
  const path = `/apis/appm.dev/v1/namespaces/${namespace}/apps`;
  const informer = k8s.makeInformer(config, path, () => custom.listNamespacedCustomObject({ ...APPS, namespace }));
  await informer.start();
  t.after(() => informer.stop());
  await custom.createNamespacedCustomObject({ ...APPS, namespace, body: app(namespace, 'web', { suspend: false }) });
  const ready = () =>
    informer.get('web', namespace)?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
  await waitFor('the App to be ready', ready);
  assert.equal(informer.get('web', namespace).status.readyReplicas, 2);
});
