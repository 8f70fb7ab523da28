"""App Mesh's workflow engine, as its own programs speak to it: by tasks for the application `workflow`."""

import json
import time
import unittest

import appmesh

BODY = """
name: greet
on: {manual: {inputs: {who: {type: string, default: nobody, description: whom}}}}
jobs:
  first:
    steps:
      - {name: say, env: {WHO: "${{ inputs.who }}"}, command: 'echo "hello $WHO"'}
  second:
    needs: [first]
    steps:
      - {name: fail, command: exit 3}
"""


class Workflows(unittest.TestCase):
    def setUp(self):
        self.client = appmesh.AppMeshClient()
        self.client.login("admin", "admin123")

    def ask(self, action, **fields):
        answer = json.loads(self.client.run_task("workflow", json.dumps({"action": action, **fields}), 60))
        self.assertEqual(set(answer), {"status", "message", "data"})
        return answer

    def data(self, action, **fields):
        answer = self.ask(action, **fields)
        self.assertEqual(answer["status"], "ok", answer)
        return answer["data"]

    def ended(self, run):
        for _ in range(3000):
            detail = self.data("run_detail", workflow="greet", run_id=run)
            if detail["status"] not in ("pending", "running"):
                return detail
            time.sleep(0.01)
        raise AssertionError(f"gave up waiting for {run}")

    def test_a_workflow_is_added_run_looked_at_and_removed(self):
        self.assertEqual(self.ask("workflow_add", workflow="other", content=BODY)["status"], "error")
        self.assertEqual(self.ask("workflow_add", workflow="greet", content=BODY)["message"], "workflow registered")
        self.assertIn("hello $WHO", self.data("workflow_get", workflow="greet"))
        listed = {entry["name"]: entry["owner"] for entry in self.data("workflow_list")}
        self.assertEqual(listed["greet"], "admin")
        inputs = self.data("workflow_inputs", workflow="greet")
        who = {"Type": "string", "Required": False, "Default": "nobody", "Description": "whom"}
        self.assertEqual(inputs, {"who": who})
        run = self.data("run", workflow="greet", inputs={"who": "ada"})["run_id"]
        detail = self.ended(run)
        self.assertEqual((detail["status"], detail["actor"], detail["inputs"]), ("failure", "admin", {"who": "ada"}))
        say, fail = detail["jobs"]["first"]["steps"]["say"], detail["jobs"]["second"]["steps"]["fail"]
        self.assertEqual((say["stdout"], say["exit_code"], say["status"]), ("hello ada\n", 0, "success"))
        self.assertEqual((fail["exit_code"], fail["status"]), (3, "failure"))
        log = self.data("log", workflow="greet", run_id=run)
        self.assertIn(f"WORKFLOW greet RUN {run} STARTED", log)
        self.assertIn("STEP second/fail FAILURE exit_code=3", log)
        step = {"workflow": "greet", "run_id": run, "job": "first", "step": "say"}
        self.assertEqual(self.data("step_log", **step), "hello ada\n")
        again = self.data("rerun", workflow="greet", run_id=run)["run_id"]
        self.ended(again)
        self.assertEqual({entry["run_id"] for entry in self.data("runs", workflow="greet")}, {again, run})
        self.assertEqual(self.ask("cancel", run_id=run)["status"], "error")
        self.assertEqual(self.ask("workflow_rm", workflow="greet")["message"], "workflow removed")
        self.assertEqual(self.ask("workflow_get", workflow="greet")["status"], "error")

    def test_whoever_has_no_good_token_and_asks_for_nothing_that_is_there_is_told(self):
        self.assertEqual(self.ask("workflow_list", token="x.y.z")["status"], "error")
        self.assertIn("unknown action", self.ask("dance")["message"])
        self.assertEqual(self.ask("run", workflow="absent")["status"], "error")


if __name__ == "__main__":
    unittest.main()
