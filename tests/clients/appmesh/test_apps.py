"""Applications, their output and the run API by App Mesh's own SDK; kubectl's view of the same objects beside it."""

import json
import time
import unittest

import appmesh
import requests
from world import CA, NEW, SDK, URL, appm, stored, until


def place(output):
    return output.output_position if NEW else output.out_position


class Apps(unittest.TestCase):
    def setUp(self):
        self.client = appmesh.AppMeshClient()
        self.client.login("admin", "admin123")
        # The two versions have other names for the same calls.
        c = self.client
        self.get, self.list = (c.get_app, c.list_apps) if NEW else (c.view_app, c.view_all_apps)

    def add(self, **said):
        self.addCleanup(self.client.delete_app, said["name"])
        return self.client.add_app(appmesh.App(said))

    def code(self, method, path, **options):
        token = requests.post(f"{URL}/login", auth=("admin", "admin123"), verify=CA).json()["access_token"]
        return requests.request(method, URL + path, headers={"Authorization": f"Bearer {token}"}, verify=CA, **options)

    def test_an_application_is_an_app_and_the_other_way_round(self):
        app = self.add(
            name="both", command="echo hello; exec sleep 1000", shell=True, description="a word", permission=33,
            metadata={"k": [1, 2]}, env={"E1": "v1"}, sec_env={"S1": "hidden"}, behavior={"exit": "restart"},
        )
        self.assertEqual((app.name, app.status, app.owner, app.env, app.sec_env), ("both", 1, "admin", {"E1": "v1"}, {}))
        self.assertGreater(app.pid, 1)
        self.assertTrue(self.client.check_app_health("both"))
        spec = stored("app", "both")["spec"]
        self.assertEqual(spec["sharing"], {"group": "ReadWrite", "others": "ReadWrite"})
        self.assertEqual(spec["process"]["stdin"], '{"k":[1,2]}')
        with open(f"/proc/{app.pid}/environ", "rb") as environ:
            self.assertIn(b"S1=hidden", environ.read())
        self.assertNotIn("hidden", json.dumps(stored("app", "both")) + self.code("GET", "/app/both").text)
        # What it sends back as it was shown replaces nothing.
        again = self.client.add_app(app)
        self.assertEqual((again.pid, stored("app", "both")["spec"]), (app.pid, spec))
        # What an old SDK cannot say stays when it changes something.
        change = json.dumps({"spec": {"livenessProbe": {"exec": {"command": ["true"]}}, "task": {"concurrency": 3}}})
        appm("patch", "app", "both", "--type", "merge", "-p", change)
        app = self.get("both")
        app.description = "another"
        self.client.add_app(app)
        spec = stored("app", "both")["spec"]
        self.assertEqual((spec["task"]["concurrency"], spec["livenessProbe"]["exec"]["command"]), (3, ["true"]))
        # What is made elsewhere is seen here.
        manifest = {"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "other"}}
        appm("apply", "-f", "-", input=json.dumps({**manifest, "spec": {"process": {"command": ["sleep", "1 000"]}}}))
        self.addCleanup(appm, "delete", "app", "other")
        self.assertEqual(self.get("other").command, "sleep '1 000'")
        self.assertLessEqual({"both", "other"}, {app.name for app in self.list()})

    def test_it_is_turned_off_and_on_and_removed(self):
        app = self.add(name="Turned_Off", command="sleep 1000")
        self.client.disable_app("Turned_Off")
        off = self.get("Turned_Off")
        self.assertEqual((off.status, off.pid, off.name), (0, None, "Turned_Off"))
        self.assertFalse(self.client.check_app_health("Turned_Off"))
        self.client.enable_app("Turned_Off")
        on = until("it to run again", lambda: (app := self.get("Turned_Off")).pid and app)
        self.assertEqual((on.status, on.pid != app.pid), (1, True))
        self.assertEqual([self.client.delete_app("Turned_Off"), self.client.delete_app("Turned_Off")], [True, False])
        self.assertNotIn("Turned_Off", {app.name for app in self.list()})
        self.assertEqual(self.code("GET", "/app/Turned_Off").json(), {"message": "No such application"})

    def test_refusals_are_words(self):
        for said, word in [
            ({"name": "bad", "command": "true", "behavior": {"exit": "bogus"}}, "invalid action input"),
            ({"name": "bad"}, "no command line provide"),
            ({"name": "a b", "command": "true"}, "letters"),
            ({"name": "bad", "command": "true", "start_interval_seconds": "soon"}, "seconds"),
        ]:
            answer = self.code("PUT", "/app/bad", json=said)
            self.assertEqual(answer.status_code, 400, answer.text)
            self.assertIn(word, answer.json()["message"])
        self.assertEqual(self.code("PUT", "/app/bad", data="x").status_code, 400)
        self.assertEqual(self.code("GET", "/nothing").status_code, 404)

    def test_what_runs_by_time_is_a_schedule(self):
        interval = "start_interval_seconds" if NEW else "interval"
        app = self.add(name="timed", command="date", stdout_cache_num=2, **{interval: "PT1H" if NEW else 3600})
        self.assertEqual((str(getattr(app, interval)), app.behavior.exit), ("3600", "standby"))
        spec = stored("schedule", "timed")["spec"]
        self.assertEqual((spec["every"]["interval"], spec["run"]["process"]["command"]), ("1h", ["date"]))
        # Its first time is now.
        output = until("its first run", lambda: (out := self.client.get_app_output("timed")).exit_code is not None and out)
        self.assertEqual((output.exit_code, place(output)), (0, len(output.output)))
        if not NEW:
            return  # Its App takes numbers only.
        cron = self.add(name="cron", command="date", start_interval_seconds="0 */5 * * * *", cron=True)
        self.assertEqual((cron.start_interval_seconds, cron.cron), ("0 */5 * * * *", True))
        # The same name, and it runs all the time.
        self.client.add_app(appmesh.App({"name": "cron", "command": "sleep 1000"}))
        self.assertEqual(stored("app", "cron")["spec"]["process"]["command"], ["sleep", "1000"])

    def test_output_is_read_from_a_place_on(self):
        self.add(name="out", command="echo hello; echo bye >&2; exit 3", shell=True)
        until("its end", lambda: self.client.get_app_output("out").exit_code == 3)
        read = self.client.get_app_output
        self.assertEqual((read("out").output, place(read("out"))), ("hello\nbye\n", 10))
        rest = read("out", 3)
        self.assertEqual((rest.output, rest.exit_code), ("lo\nbye\n", 3))
        self.assertEqual(read("out", 10).output, "")
        self.assertEqual(read("out", stdout_index=9).status_code, 417)
        self.assertEqual(self.code("GET", "/app/out/output?process_uuid=other").status_code, 417)
        lines = self.code("GET", "/app/out/output?json=1").json()
        self.assertEqual(lines, [{"index": 0, "stdout": "hello"}, {"index": 0, "stdout": "bye"}])
        self.assertIn("<pre>hello", self.code("GET", "/app/out/output?html=1").text)
        self.assertEqual(self.get("out").return_code, 3)

    def test_something_is_run_and_waited_for(self):
        run = self.client.run_app_sync
        self.assertEqual(run(appmesh.App({"command": "echo hi", "shell": True})), (0, "hi\n"))
        self.assertEqual(run(appmesh.App({"command": "echo oops; exit 3", "shell": True})), (3, "oops\n"))
        self.assertEqual(run(appmesh.App({"command": "cat", "metadata": "stdin-text"})), (0, "stdin-text"))
        self.assertEqual(run(appmesh.App({"command": "echo $S", "shell": True, "sec_env": {"S": "seen"}})), (0, "seen\n"))
        late = {"max_time" if NEW else "max_time_seconds": 1, "lifecycle" if NEW else "life_cycle_seconds": 5}
        self.assertEqual(run(appmesh.App({"command": "echo a; exec sleep 30", "shell": True}), **late), (9, "a\n"))
        self.assertEqual([app.name for app in self.list() if app.status == 2], [])
        # A copy of one that is there, with another standard input.
        self.add(name="cats", command="cat", status=0)
        self.assertEqual(run(appmesh.App({"name": "cats", "metadata": "meow"})), (0, "meow"))
        refused = self.code("POST", "/app/syncrun", json={"name": "cats", "command": "true"})
        self.assertEqual(refused.status_code, 400, refused.text)

    def test_something_is_run_and_followed(self):
        printed = []
        said = appmesh.App({"name": "Followed", "command": "for i in 1 2 3; do echo line$i; sleep 0.3; done; exit 4", "shell": True})
        run = self.client.run_app_async(said)
        self.assertEqual(self.get("Followed").status, 2)
        if NEW:
            self.assertEqual(run.wait(lambda text, position: printed.append(text)), 4)
            self.assertEqual("".join(printed), "line1\nline2\nline3\n")
        else:
            self.assertEqual(run.wait(stdout_print=False), 4)
        self.assertNotIn("Followed", {app.name for app in self.list()})


if __name__ == "__main__":
    unittest.main()
