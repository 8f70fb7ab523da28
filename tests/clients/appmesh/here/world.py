"""What the tests of App Mesh's SDK share: where the server is, what appm itself says of it, and waiting."""

import json
import os
import subprocess
import time

APPM = [os.environ["APPM_BIN"], "--data-dir", os.environ["APPM_DATA_DIR"]]
URL, CA, SDK = os.environ["APPM_URL"] + "/appmesh", os.environ["APPM_CA"], os.environ["SDK"]
# The address of its TCP, which the older versions want as they are given it.
ADDRESS = (lambda host, port: (host, int(port)))(*os.environ["APPM_TCP"].split(":"))
# 2.x; before it calls and parameters have other names.
NEW = SDK == "new"


def appm(*words, **options):
    done = subprocess.run([*APPM, *words], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(kind, name):
    return json.loads(appm("get", kind, name, "-o", "json"))


def until(what, look):
    for _ in range(3000):
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"gave up waiting for {what}")
