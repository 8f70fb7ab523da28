"""What the tests share: kubectl in a namespace of its own, Apps, waiting."""

import json
import os
import re
import subprocess
import tempfile
import time
import unittest
import uuid

KUBECTL = os.environ["KUBECTL"]
HOME = tempfile.mkdtemp(dir=os.environ["APPM_TMP"])
PATIENCE = 60


def version():
    told = subprocess.run([KUBECTL, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout
    major, minor = re.search(r'"gitVersion": "v(\d+)\.(\d+)', told).groups()
    return int(major), int(minor)


VERSION = version()


def since(minor):
    """A test of what this kubectl can do from 1.`minor` on."""
    return unittest.skipIf(VERSION < (1, minor), f"comes with kubectl 1.{minor}")


def wait_for(what, look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"gave up waiting for {what}")


class Case(unittest.TestCase):
    """A test with a namespace of its own, which goes afterwards without anyone waiting for it."""

    maxDiff = None

    def setUp(self):
        self.namespace = f"kubectl-{uuid.uuid4().hex[:8]}"
        self.ok("create", "namespace", self.namespace)
        self.addCleanup(self.ok, "delete", "namespace", self.namespace, "--wait=false")

    def command(self, *arguments):
        namespace = [] if {"-A", "--namespace"} & set(arguments) else ["--namespace", self.namespace]
        return [KUBECTL, *namespace, *arguments]

    def env(self, **more):
        return {**os.environ, "HOME": HOME, **more}

    def run_it(self, *arguments, stdin="", **env):
        """Exit code, standard output, standard error."""
        if not isinstance(stdin, str):
            several = {"apiVersion": "v1", "kind": "List", "items": stdin}
            stdin = json.dumps(several if isinstance(stdin, list) else stdin)
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, env=self.env(**env), timeout=PATIENCE * 2
        )
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments, **how):
        """What a command says that must succeed."""
        code, out, err = self.run_it(*arguments, **how)
        self.assertEqual(code, 0, f"kubectl {' '.join(arguments)}\n{out}{err}")
        return out

    def fails(self, *arguments, code=1, **how):
        """What a command says that must fail."""
        got, out, err = self.run_it(*arguments, **how)
        self.assertEqual(got, code, f"kubectl {' '.join(arguments)}\n{out}{err}")
        return out + err

    def says(self, expected, *arguments, **how):
        self.assertIn(expected, self.ok(*arguments, **how))

    def json(self, *arguments):
        return json.loads(self.ok(*arguments, "-o", "json"))

    def field(self, path, *what):
        return self.ok("get", *what, "-o", f"jsonpath={{{path}}}")

    def file(self, text):
        handle, path = tempfile.mkstemp(dir=os.environ["APPM_TMP"], suffix=".yaml")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))
        return path

    def spawn(self, *arguments, **env):
        process = subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.env(**env)
        )

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process


def app(name, **spec):
    """A suspended App: nothing runs."""
    return {
        "apiVersion": "appm.dev/v1",
        "kind": "App",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"replicas": 2, "suspend": True, "process": {"command": ["sleep", "1000"]}, **spec},
    }


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"team": "a"}}, "data": data}
