// What the tests share: clients, a namespace for each test, an App, waiting.

import { randomBytes } from 'node:crypto';
import * as k8s from '@kubernetes/client-node';

export const config = new k8s.KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);

export const core = config.makeApiClient(k8s.CoreV1Api);
export const custom = config.makeApiClient(k8s.CustomObjectsApi);
export const objects = k8s.KubernetesObjectApi.makeApiClient(config);

export const APPS = { group: 'appm.dev', version: 'v1', plural: 'apps' };

const pause = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));

/** Looks until `look` gives something true. */
export async function waitFor(what, look) {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    const found = await look();
    if (found) return found;
    await pause(20);
  }
  throw new Error(`gave up waiting for ${what}`);
}

/** A namespace that goes with the test. */
export async function namespaceFor(test) {
  const name = `node-${randomBytes(4).toString('hex')}`;
  await core.createNamespace({ body: { metadata: { name } } });
  test.after(() => core.deleteNamespace({ name }));
  return name;
}

/** An App; suspended, nothing of it runs. */
export function app(namespace, name, spec = {}) {
  return {
    apiVersion: 'appm.dev/v1',
    kind: 'App',
    metadata: { name, namespace, labels: { team: 'a' } },
    spec: { replicas: 2, suspend: true, process: { command: ['sleep', '1000'] }, ...spec },
  };
}

/** Expects a refusal with this code and reason; gives its Status. */
export async function refused(code, reason, doing) {
  try {
    await doing;
  } catch (error) {
    if (error.code !== code) throw error;
    const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    if (status.kind !== 'Status' || status.code !== code || status.reason !== reason) {
      throw new Error(`refused with ${JSON.stringify(status)} instead of ${reason}`);
    }
    return status;
  }
  throw new Error(`nothing was refused with ${reason}`);
}
