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


WAITS = """
name: waits
on:
  manual:
    inputs:
      mode: {type: choice, options: [fast, slow], default: slow}
      level: {type: number, required: true}
jobs:
  long:
    steps:
      - {name: begin, command: 'echo begun; echo "at=4" >> "$APPM_OUTPUT"'}
      - {name: wait, command: sleep 300}
      - {name: never, command: echo never}
    finally:
      - {name: after, command: echo bye}
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

    def until(self, workflow, run, holds):
        for _ in range(3000):
            detail = self.data("run_detail", workflow=workflow, run_id=run)
            if holds(detail):
                return detail
            time.sleep(0.01)
        raise AssertionError(f"gave up waiting for {run}: {detail}")

    def ended(self, run, workflow="greet"):
        return self.until(workflow, run, lambda detail: detail["status"] not in ("pending", "running"))

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

    def test_a_run_that_goes_on_is_seen_cancelled_and_done_again(self):
        self.assertEqual(self.ask("workflow_add", workflow="waits", content=WAITS)["status"], "ok")
        inputs = self.data("workflow_inputs", workflow="waits")
        self.assertEqual({name: (told["Type"], told["Required"], told["Default"]) for name, told in inputs.items()},
                         {"mode": ("choice", False, "slow"), "level": ("number", True, "")})
        self.assertIn("level", self.ask("run", workflow="waits")["message"])
        self.assertIn("mode", self.ask("run", workflow="waits", inputs={"mode": "none", "level": 1})["message"])
        started = self.ask("run", workflow="waits", inputs={"level": "3"})
        run = started["data"]["run_id"]
        self.assertEqual((started["status"], started["message"]), ("ok", "pending"))
        steps = lambda detail: detail["jobs"].get("long", {}).get("steps", {})
        detail = self.until("waits", run, lambda detail: steps(detail).get("wait", {}).get("status") == "running")
        self.assertEqual((detail["status"], detail["inputs"]), ("running", {"mode": "slow", "level": "3"}))
        self.assertEqual((steps(detail)["begin"]["stdout"], steps(detail)["begin"]["outputs"]), ("begun\n", {"at": "4"}))
        self.assertIn("STEP long/wait STARTED", self.data("log", workflow="waits", run_id=run))
        self.assertEqual([entry["status"] for entry in self.data("runs", workflow="waits")], ["running"])
        self.assertEqual(self.ask("rerun", workflow="waits", run_id=run)["status"], "error")
        self.assertEqual(self.ask("cancel", workflow="waits", run_id=run)["message"], "cancelled")
        detail = self.ended(run, "waits")
        self.assertEqual(detail["status"], "cancelled")
        self.assertEqual({name: step["status"] for name, step in steps(detail).items()},
                         {"begin": "success", "wait": "cancelled", "never": "cancelled", "after": "success"})
        self.assertIn("not active", self.ask("cancel", workflow="waits", run_id=run)["message"])
        self.assertEqual(self.data("step_log", workflow="waits", run_id=run, job="long", step="after"), "bye\n")
        self.assertIn("no step", self.ask("step_log", workflow="waits", run_id=run, job="long", step="absent")["message"])
        self.assertIn("no job", self.ask("step_log", workflow="waits", run_id=run, job="absent", step="x")["message"])
        self.assertEqual(self.ask("run_detail", workflow="greet", run_id=run)["status"], "error")
        again = self.data("rerun", workflow="waits", run_id=run)["run_id"]
        self.until("waits", again, lambda detail: steps(detail).get("wait", {}).get("status") == "running")
        self.assertEqual(self.data("run_detail", workflow="waits", run_id=again)["inputs"], detail["inputs"])
        self.assertEqual(self.ask("cancel", run_id=again)["status"], "ok")
        self.ended(again, "waits")
        self.assertEqual(self.ask("workflow_rm", workflow="waits")["status"], "ok")

    def test_whoever_has_no_good_token_and_asks_for_nothing_that_is_there_is_told(self):
        self.assertEqual(self.ask("workflow_list", token="x.y.z")["status"], "error")
        self.assertIn("unknown action", self.ask("dance")["message"])
        self.assertEqual(self.ask("run", workflow="absent")["status"], "error")


if __name__ == "__main__":
    unittest.main()
