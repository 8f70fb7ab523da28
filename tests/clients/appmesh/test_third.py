"""App Mesh's SDK of the third generation (3.0, what `pip install appmesh` gives), with a bearer token, over HTTPS, TCP, WebSocket, and HTTPS on the WebSocket's port."""

import os
import subprocess
import sys
import tempfile
import threading
import unittest

import appmesh
from appmesh import App
from world import ADDRESS, CA, appm, until

TOKEN = os.environ["APPMESH_BEARER_TOKEN"]
WSS = (lambda host, port: (host, int(port)))(*os.environ["APPM_WSS"].split(":"))
EXAMPLES = os.environ["EXAMPLES"] + "/third"
# What points a worker's defaults at the test's server.
HOME = {name: os.environ[name] for name in ("PYTHONPATH", "APPM_URL", "APPM_CA")}


class Calls:
    """What every transport can do."""

    def setUp(self):
        self.client = self.connect(bearer_token=TOKEN)
        self.addCleanup(self.client.close)

    def add(self, name, **fields):
        fields = {"command": "sleep 1000", **fields}
        self.addCleanup(self.other().delete_app, name)
        return self.client.add_app(App({"name": name, **fields}))

    def other(self):
        return appmesh.AppMeshClient(bearer_token=TOKEN)

    def test_who_asks_is_a_principal_and_who_shows_nothing_is_nobody(self):
        nobody = self.connect()
        self.addCleanup(nobody.close)
        config = nobody.get_auth_config()
        self.assertLessEqual({"issuer", "audience", "public_client_id", "flows", "scopes"}, set(config))
        with self.assertRaises(appmesh.AppMeshAuthError):
            nobody.list_apps()
        principal = self.client.get_current_principal()
        self.assertEqual((principal["principal_id"], principal["kind"], principal["status"]), ("admin", "user", "active"))
        self.assertIn("admin", self.client.list_principals())
        self.assertLessEqual({"permission-list", "app-subscribe"}, set(self.client.get_principal_permissions()))
        for role in ("sdk_test_role", "Plain"):
            self.client.update_role(role, ["app-control"])
            self.assertEqual(self.client.list_roles()[role], ["app-control"])
            self.client.delete_role(role)
            self.assertNotIn(role, self.client.list_roles())
        with self.assertRaises(Exception):
            self.client.delete_principal("oidc:nobody")

    def test_whoever_may_not_is_told_403(self):
        # Somebody by an issuer's word, with a token of ours beside it.
        self.client.update_principal("guest", {"issuer": "https://sso.example", "subject": "guest", "roles": []})
        token = appm("auth", "token", "create", "--user", "guest").strip()
        guest = self.connect(bearer_token=token)
        self.addCleanup(guest.close)
        for call in (guest.list_principals, lambda: guest.add_app(App({"name": "mine", "command": "true"}))):
            with self.assertRaises(appmesh.AppMeshAuthError) as refused:
                call()
            self.assertEqual(refused.exception.status_code, 403)

    def test_an_application_comes_and_goes_by_the_new_names(self):
        name = f"New_{self.transport}"
        app = self.add(name, shell=True, enabled=False, stop_grace_period="PT7S", stdout_backup_count=2, secret_env={"S": "1"},
                       behavior={"exit": "restart", "exit_code_actions": {"3": "standby"}}, command="echo $S; exit 3")
        self.assertIs(app.enabled, False)
        self.assertEqual((app.stop_grace_period, app.stdout_backup_count, app.owner_principal_id), ("7", 2, "admin"))
        self.assertEqual(app.behavior.exit_code_actions, {"3": "standby"})
        self.client.enable_app(name)
        ended = until("its end", lambda: (lambda app: app if app.return_code == 3 else None)(self.client.get_app(name)))
        self.assertIs(ended.enabled, True)
        self.assertIn("1", self.client.get_app_output(name).output)
        again = self.client.add_app(ended)
        self.assertEqual(again.starts, ended.starts)
        self.client.disable_app(name)
        self.assertTrue(self.client.delete_app(name))
        self.assertFalse(self.client.delete_app(name))

    def test_whom_an_application_waits_for_is_told(self):
        first, second = f"DEP_{self.transport}", f"APP_{self.transport}"
        with self.assertRaises(appmesh.AppMeshRequestError):
            self.add(second, depends_on=[second])
        self.add(first, enabled=False)
        held = self.add(second, depends_on=[first])
        self.assertEqual((held.pid, held.waiting_for), (None, [first]))
        self.client.enable_app(first)
        until("its start", lambda: self.client.get_app(second).pid)
        self.assertIsNone(self.client.get_app(second).waiting_for)
        # One that goes holds the next start, and ends nobody.
        self.client.disable_app(first)
        survivor = self.client.get_app(second)
        self.assertEqual((survivor.pid is not None, survivor.waiting_for), (True, [first]))

    def test_something_runs_once(self):
        self.assertEqual(self.client.run_app_sync(App({"command": "cat; exit 3", "shell": True, "metadata": "héllo"})), (3, "héllo"))
        heard = []
        run = self.client.run_app_async("echo one; sleep 0.3; echo two; exit 4")
        self.assertEqual(run.wait(stdout_handler=lambda text, place: heard.append(text), timeout=60), 4)
        self.assertEqual("".join(heard), "one\ntwo\n")
        code, _ = self.client.run_app_sync(App({"command": "sleep 100"}), max_time=1)
        self.assertNotEqual(code, 0)

    def test_tasks_go_to_a_worker_of_this_transport(self):
        name = f"worker-{self.transport}"
        self.add(name, command=f"{sys.executable} -c \"$PROGRAM\"", shell=True, behavior={"exit": "restart"}, env={"PROGRAM": self.worker, **HOME})
        for text in ("ping", "héllo 世界", "", "x" * 3_000_000):
            self.assertEqual(self.client.run_task(name, text, 60), text)
        self.assertFalse(self.client.cancel_task(name))

    def test_a_file_goes_up_and_comes_down(self):
        with tempfile.TemporaryDirectory() as folder:
            there, back, data = f"{folder}/there", f"{folder}/back", os.urandom(700_000)
            name = f"third {self.transport}.bin"
            with open(there, "wb") as file:
                file.write(data)
            os.chmod(there, 0o640)
            self.client.upload_file(there, name, preserve_permissions=True)
            self.client.download_file(name, back, preserve_permissions=True)
            with open(back, "rb") as file:
                self.assertEqual(file.read(), data)
            self.assertEqual(os.stat(back).st_mode & 0o777, 0o640)
            for call in (lambda: self.client.upload_file(there, name), lambda: self.client.download_file("../worker.key", back)):
                with self.assertRaises(Exception):
                    call()

    def test_the_machine_is_told_of(self):
        machine = self.client.get_host_resources()
        self.assertEqual(machine["schema_version"], 3)
        for field in ("cpu_effective_processors", "mem_available_bytes", "swap_source", "collector_errors", "net", "fs", "fd_daemon"):
            self.assertIn(field, machine)
        self.assertIn("appmesh_metrics_scrapes_total", self.client.get_metrics())
        self.assertEqual([self.client.set_log_level(level) for level in ("DEBUG", "INFO")], ["DEBUG", "INFO"])
        self.assertIn("REST", self.client.get_config())
        label = f"third-{self.transport}"
        self.client.add_label(label, "yes")
        self.assertEqual(self.client.list_labels()[label], "yes")
        self.client.delete_label(label)
        self.assertNotIn(label, self.client.list_labels())


class Pushed:
    """What a connection that stays can do beside that."""

    def test_what_happens_is_told_in_order_while_applications_come_and_go(self):
        heard, ended = {}, threading.Event()
        names = [f"Storm_{self.transport}_{n}" for n in range(5)]

        def told(event):
            heard.setdefault(event.app_name, []).append(event)
            if all(any(e.event_type == "REMOVED" for e in heard.get(name, [])) for name in names):
                ended.set()

        lines = 2000
        for name in names:
            app = App({"name": name, "command": f"seq 1 {lines}; exit 3", "shell": True})
            self.assertTrue(self.client.add_app(app, ["START", "STDOUT", "EXIT", "REMOVED"], told).subscription_id)
        # Calls are answered meanwhile, on the same connection.
        for name in names:
            until("its end", lambda: self.client.get_app(name).return_code == 3)
            self.client.delete_app(name)
        self.assertTrue(ended.wait(60), heard)
        for name in names:
            events = heard[name]
            words = [event.event_type for event in events]
            self.assertEqual((words[0], words[-2:]), ("START", ["EXIT", "REMOVED"]))
            self.assertEqual(set(words[1:-2]), {"STDOUT"})
            output, places = "", []
            for event in events[1:-2]:
                self.assertEqual(event.data["position"], len(output))
                output += event.data["output"]
            self.assertEqual(output, "".join(f"{n}\n" for n in range(1, lines + 1)))
            sequence = [event.sequence for event in events]
            self.assertEqual(sequence, sorted(set(sequence)))

    def test_a_subscription_ends_when_it_is_to_and_with_its_connection(self):
        client, heard = self.connect(bearer_token=TOKEN), []
        subscribed = client.subscribe("*", ["START"], heard.append)
        client.unsubscribe(subscribed.subscription_id)
        self.add(f"quiet-{self.transport}")
        client.list_apps()
        self.assertEqual(heard, [])
        client.close()
        self.assertTrue(self.client.list_apps())


class Http(Calls, unittest.TestCase):
    transport = "http"
    worker = "import appmesh\nworker = appmesh.AppMeshWorker()\nwhile True: worker.send_task_result(worker.fetch_task())"

    def connect(self, **who):
        return appmesh.AppMeshClient(**who)

    def test_the_examples_run_as_printed(self):
        self.add("py-task", command=f"{sys.executable} {EXAMPLES}/worker.py", env=HOME)
        done = subprocess.run([sys.executable, f"{EXAMPLES}/sample.py"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.split(), "0 1 3 6 10 15 21 28 36 45".split(), done.stderr)

    def test_a_password_is_changed_into_tokens_here(self):
        provider = appmesh.PasswordGrantProvider(f"{os.environ['APPM_URL']}/auth/v1/token", "admin", password="admin123", ssl_verify=CA)
        with appmesh.AppMeshClient(token_provider=provider) as client:
            self.assertEqual(client.get_current_principal()["principal_id"], "admin")
        wrong = appmesh.PasswordGrantProvider(f"{os.environ['APPM_URL']}/auth/v1/token", "admin", password="no", ssl_verify=CA)
        with self.assertRaises(appmesh.AppMeshAuthError):
            wrong.get_access_token()


class OverWssPort(Calls, unittest.TestCase):
    transport = "rest"
    worker = Http.worker

    def connect(self, **who):
        return appmesh.AppMeshClient(base_url=f"https://{WSS[0]}:{WSS[1]}", **who)


class Tcp(Calls, Pushed, unittest.TestCase):
    transport = "tcp"
    worker = (f"import appmesh\nworker = appmesh.AppMeshWorkerTCP(tcp_address={ADDRESS!r}, ssl_verify={CA!r})\n"
              "while True: worker.send_task_result(worker.fetch_task())")

    def connect(self, **who):
        return appmesh.AppMeshClientTCP(tcp_address=ADDRESS, ssl_verify=CA, **who)


class WebSocket(Calls, Pushed, unittest.TestCase):
    transport = "wss"
    worker = (f"import appmesh\nworker = appmesh.AppMeshWorkerWSS(wss_address={WSS!r}, ssl_verify={CA!r})\n"
              "while True: worker.send_task_result(worker.fetch_task())")

    def connect(self, **who):
        return appmesh.AppMeshClientWSS(wss_address=WSS, ssl_verify=CA, **who)

    def test_a_token_that_is_none_opens_no_connection(self):
        client = self.connect(bearer_token="none")
        with self.assertRaises(Exception) as refused:
            client.list_apps()
        self.assertIn("401", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
