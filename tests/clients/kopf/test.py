"""Runs wishes.py with kopf and acts as the user whom it serves, over the Unix socket and without any library."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time

PATIENCE = 60
MAPS = "/api/v1/namespaces/default/configmaps"
APPS = "/apis/appm.dev/v1/namespaces/default/apps"


class Door(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.join(os.environ["APPM_DATA_DIR"], "appm.sock"))


def ask(method, path, body=None, content_type="application/json"):
    door = Door("localhost")
    door.request(method, path, json.dumps(body) if body is not None else None, {"content-type": content_type})
    answer = door.getresponse()
    text = answer.read()
    door.close()
    return answer.status, json.loads(text)


def must(method, path, body=None, **how):
    code, answer = ask(method, path, body, **how)
    assert code in (200, 201), (method, path, code, answer)
    return answer


def change(path, body):
    return must("PATCH", path, body, content_type="application/merge-patch+json")


def wait_for(what, look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        assert operator.poll() is None, "the operator ended"
        time.sleep(0.05)
    raise SystemExit(f"gave up waiting for {what}; the operator said:\n{open(log_path, encoding='utf-8').read()}")


def rest(path):
    """The object once nobody has written it for two seconds: an operator that never rests is a loop."""
    last, since = None, time.monotonic()

    def resting():
        nonlocal last, since
        now = must("GET", path)
        if last is None or now["metadata"]["resourceVersion"] != last["metadata"]["resourceVersion"]:
            last, since = now, time.monotonic()
        return now if time.monotonic() - since > 2 else None

    return wait_for(f"{path} to rest", resting)


log_path = os.path.join(os.environ["APPM_TMP"], "operator.log")
log = open(log_path, "w", encoding="utf-8")
operator = subprocess.Popen(
    [sys.executable, "-m", "kopf", "run", "--namespace", "default", "--standalone", "wishes.py"], stdout=log, stderr=log
)
said = lambda line: line in open(log_path, encoding="utf-8").read()
try:
    made = {"metadata": {"name": "wishes", "labels": {"watched": "yes"}}, "data": {"wish": "tea"}}
    must("POST", MAPS, made)
    data = lambda: must("GET", f"{MAPS}/wishes").get("data", {})
    wait_for("the creation to be handled", lambda: data().get("created") == "after 1 retry")
    settled = rest(f"{MAPS}/wishes")
    assert settled["metadata"]["finalizers"] == ["test.appm.dev/kopf"], settled
    assert any("kopf" in key for key in settled["metadata"]["annotations"]), settled

    change(f"{MAPS}/wishes", {"data": {"wish": "coffee"}})
    wait_for("the change to be handled", lambda: data().get("granted") == "tea to coffee")
    events = lambda: [e["message"] for e in must("GET", "/api/v1/namespaces/default/events")["items"]]
    wait_for("its Event", lambda: "seen by kopf" in events())

    assert must("DELETE", f"{MAPS}/wishes")["metadata"]["deletionTimestamp"]
    wait_for("the object to go", lambda: ask("GET", f"{MAPS}/wishes")[0] == 404)
    assert said("deleted default/wishes")

    process = {"command": ["sleep", "1000"]}
    must("POST", APPS, {
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web", "labels": {"watched": "yes"}},
        "spec": {"replicas": 2, "process": process},
    })
    label = lambda: must("GET", f"{APPS}/web")["metadata"]["labels"].get("replicas")
    wait_for("the App to be handled", lambda: label() == "2")
    change(f"{APPS}/web", {"spec": {"replicas": 3}})
    wait_for("the scaled App to be handled", lambda: label() == "3")
    ready = lambda: must("GET", f"{APPS}/web")["status"].get("readyReplicas") == 3
    wait_for("three ready replicas", ready)
    rest(f"{APPS}/web")
    must("DELETE", f"{APPS}/web")
    wait_for("the App to go", lambda: ask("GET", f"{APPS}/web")[0] == 404)
    assert said("deleted app default/web")
    text = open(log_path, encoding="utf-8").read()
    assert "Traceback" not in text, text
finally:
    operator.terminate()
    operator.wait(30)
