"""Gives back what it gets, but for a few words; by either version of the SDK."""

import os
import time

import appmesh

worker = appmesh.AppMeshServer() if hasattr(appmesh, "AppMeshServer") else appmesh.AppMeshWorker()
fetch = getattr(worker, "task_fetch", None) or worker.fetch_task
give = getattr(worker, "task_return", None) or worker.send_task_result

while True:
    payload = fetch()
    if payload == b"CRASH":
        os._exit(7)
    if payload.startswith(b"SLEEP "):
        time.sleep(float(payload.split()[1]))
    try:
        give(payload)
    except Exception as error:
        print(f"not taken: {error}")
