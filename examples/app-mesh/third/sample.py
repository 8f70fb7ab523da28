"""Adds up on the server, one sum after the other: a client of App Mesh's third generation."""

import os

from appmesh import AppMeshClient

with AppMeshClient(bearer_token=os.environ["APPMESH_BEARER_TOKEN"]) as client:
    total = "0"
    for number in range(10):
        total = client.run_task("py-task", f"print({total} + {number}, end='')")
        print(total)
