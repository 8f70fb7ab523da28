"""What the tests share: a client, a namespace for each test, an App, waiting."""

import subprocess
import time
import unittest
import uuid

from kubernetes import client, config, dynamic

GROUP, VERSION = "appm.dev", "v1"
PATIENCE = 60


def wait_for(what, look):
    """Looks until `look` returns something true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"gave up waiting for {what}")


def app(name, **spec):
    """A suspended App: nothing runs, so nobody else writes it once its controller has seen it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "App",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"replicas": 2, "suspend": True, "process": {"command": ["sleep", "1000"]}, **spec},
    }


def end(process):
    """Ends a process of ours as a crash does."""
    process.kill()
    process.wait()


class Case(unittest.TestCase):
    """A test with a namespace of its own."""

    @classmethod
    def setUpClass(cls):
        config.load_kube_config()

    def setUp(self):
        self.api = client.ApiClient()
        self.addCleanup(self.api.close)
        self.core = client.CoreV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)
        self.namespace = f"test-{uuid.uuid4().hex[:8]}"
        self.core.create_namespace({"metadata": {"name": self.namespace}})
        self.addCleanup(self.core.delete_namespace, self.namespace)

    def dynamic(self, kind, api_version=f"{GROUP}/{VERSION}"):
        return dynamic.DynamicClient(self.api).resources.get(api_version=api_version, kind=kind)

    def refused(self, code, reason=None):
        """Expects an ApiException of this code; the exception is the context's `.exception`."""
        return Refused(self, code, reason)

    def spawn(self, *command, **options):
        process = subprocess.Popen(command, **options)
        self.addCleanup(end, process)
        return process


class Refused:
    """Catches a refusal, whichever of the client's parts raises it."""

    def __init__(self, case, code, reason):
        self.case, self.code, self.reason, self.status = case, code, reason, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, client.ApiException):
            self.case.assertIsNone(error)
            self.case.fail(f"nothing was refused with {self.code}")
        self.case.assertEqual(error.status, self.code, error.body)
        if isinstance(error.body, (str, bytes)) and error.body:
            import json

            self.status = json.loads(error.body)
            self.case.assertEqual(self.status["kind"], "Status")
            self.case.assertEqual(self.status["code"], self.code)
            if self.reason:
                self.case.assertEqual(self.status["reason"], self.reason)
        return True
