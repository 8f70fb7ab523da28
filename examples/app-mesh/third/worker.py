"""Runs whatever Python it is sent, and gives back what that prints: a worker of App Mesh's third generation (and of 2.3)."""

import contextlib
import io

from appmesh import AppMeshWorker

worker = AppMeshWorker()
while True:
    payload = worker.fetch_task()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(payload, {})
    worker.send_task_result(printed.getvalue())
