"""Tasks by App Mesh's own SDK: as caller, and as worker of this version and of the other."""

import json
import os
import subprocess
import sys
import threading
import time
import unittest

import appmesh
import requests

APPM = [os.environ["APPM_BIN"], "--data-dir", os.environ["APPM_DATA_DIR"]]
HERE, CACHE, SDK = os.environ["APPM_HERE"], os.environ["APPM_CACHE"], os.environ["SDK"]


def appm(*words, **options):
    done = subprocess.run([*APPM, *words], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(version):
    return f"{CACHE}/{version}/bin/python"


def app(name, version, program):
    names = ["PYTHONPATH", "APPM_URL", "APPM_CA", "PYTHONDONTWRITEBYTECODE"]
    spec = {
        "process": {"command": [python(version), program]},
        "env": [{"name": name, "value": os.environ[name]} for name in names],
        "restart": {"backoff": {"initial": "100ms", "max": "300ms"}},
    }
    manifest = {"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec}
    appm("apply", "-f", "-", input=json.dumps(manifest))


def until(what, look):
    for _ in range(3000):
        if look():
            return
        time.sleep(0.01)
    raise AssertionError(f"gave up waiting for {what}")


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for version in ("old", "new"):
            app(f"echo-{version}", version, f"{HERE}/worker.py")

    @classmethod
    def tearDownClass(cls):
        appm("delete", "app", "echo-old", "echo-new")

    def setUp(self):
        self.client = appmesh.AppMeshClient()
        self.client.login("admin", "admin123")

    def fails(self, code, sentence, call):
        """The code with which a call is refused; the exceptions of 1.6 say the sentence in its place."""
        with self.assertRaises(Exception) as caught:
            call()
        self.assertIn(str(code) if SDK == "new" else sentence, str(caught.exception))

    def test_what_is_sent_comes_back_whoever_works(self):
        for name in ("echo-old", "echo-new"):
            for text in ("ping", "héllo 世界", "", "x" * 1_000_000):
                self.assertEqual(self.client.run_task(name, text, 60), text, name)

    def test_a_dictionary_is_sent_as_json(self):
        self.assertEqual(json.loads(self.client.run_task("echo-new", {"a": [1]}, 60)), {"a": [1]})

    def test_refusals_have_app_meshs_codes(self):
        self.client.run_task("echo-new", "warm", 60)
        self.fails(408, "still has it", lambda: self.client.run_task("echo-new", "SLEEP 3", 1))
        self.fails(404, "No such application", lambda: self.client.run_task("absent", "x", 1))
        self.fails(417, "exit code 7", lambda: self.client.run_task("echo-new", "CRASH", 60))
        # Its successor works.
        self.assertEqual(self.client.run_task("echo-new", "alive", 60), "alive")

    def test_what_is_at_work_can_be_cancelled(self):
        self.assertFalse(self.client.cancel_task("echo-old"))
        self.client.run_task("echo-old", "warm", 60)
        caught = []

        def call():
            other = appmesh.AppMeshClient()
            other.login("admin", "admin123")
            try:
                other.run_task("echo-old", "SLEEP 2", 60)
            except Exception as error:
                caught.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        until("the task to be at work", lambda: "Working" in appm("task", "ls", "echo-old"))
        self.assertTrue(self.client.cancel_task("echo-old"))
        thread.join()
        self.assertIn("417" if SDK == "new" else "cancelled", caught[0])

    def test_many_callers_at_once(self):
        def call(n):
            other = appmesh.AppMeshClient()
            other.login("admin", "admin123")
            results[n] = [other.run_task("echo-new", f"{n}-{i}", 60) for i in range(20)]

        results = {}
        threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(results, {n: [f"{n}-{i}" for i in range(20)] for n in range(4)})

    def test_a_token_ends_with_logging_off(self):
        with self.assertRaises(Exception):
            appmesh.AppMeshClient().login("admin", "wrong")
        url, verify = os.environ["APPM_URL"] + "/appmesh", os.environ["APPM_CA"]
        given = requests.post(f"{url}/login", auth=("admin", "admin123"), headers={"X-Set-Cookie": "true"}, verify=verify)
        token, bearer = given.json()["access_token"], {"Authorization": f"Bearer {given.json()['access_token']}"}
        self.assertEqual((given.json()["expires_in"], given.cookies["appmesh_auth_token"]), (604800, token))

        def code(headers, permission=None):
            more = {"X-Permission": permission} if permission else {}
            return requests.post(f"{url}/auth", headers={**headers, **more}, verify=verify).status_code

        cookie = {"Cookie": f"appmesh_auth_token={token}"}
        self.assertEqual([code(h) for h in (bearer, {"Authorization": token}, cookie, {})], [200, 200, 200, 401])
        self.assertEqual([code(bearer, p) for p in ("app-run-task", "no-such-permission")], [200, 400])
        self.assertEqual(code({**cookie, "Origin": "https://evil.example"}), 403)
        self.assertEqual(requests.post(f"{url}/self/logoff", headers=bearer, verify=verify).status_code, 200)
        self.assertEqual(code(bearer), 401)

    @unittest.skipUnless(SDK == "old", "the printed programs are of the older SDK")
    def test_the_printed_programs_run_as_printed(self):
        app("pytask", "old", f"{os.environ['EXAMPLES']}/py_task.py")
        self.addCleanup(appm, "delete", "app", "pytask")
        done = subprocess.run([sys.executable, f"{os.environ['EXAMPLES']}/sample.py"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.split(), "0 1 3 6 10 15 21 28 36 45".split(), done.stderr)


if __name__ == "__main__":
    unittest.main()
