"""Makes some objects to ask for, and writes the server's document, closed: a field of an answer that it does not name is then a
mistake, which it is not for clients of an older release."""

import json
import os
import ssl
import sys
import urllib.request

trusting = ssl.create_default_context(cafile=os.environ["APPM_CA"])


def call(method, path, body=None):
    request = urllib.request.Request(os.environ["APPM_URL"] + path, method=method)
    request.add_header("Authorization", "Bearer " + os.environ["APPM_TOKEN"])
    if body is not None:
        request.add_header("Content-Type", "application/apply-patch+json")
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request, context=trusting) as answer:
        return json.load(answer)


def closed(schema):
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


for group, plural, kind, more in [
    ("apis/appm.dev/v1", "apps", "App", {"spec": {"process": {"command": ["sleep", "1000000"]}}}),
    ("api/v1", "configmaps", "ConfigMap", {"data": {"a": "b"}}),
    ("api/v1", "secrets", "Secret", {"stringData": {"a": "b"}}),
    ("apis/coordination.k8s.io/v1", "leases", "Lease", {"spec": {"holderIdentity": "me"}}),
]:
    version = group.removeprefix("apis/").removeprefix("api/")
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "seed"}, **more}
    call("PATCH", f"/{group}/namespaces/default/{plural}/seed?fieldManager=seed", body)

document = call("GET", "/openapi.json")
document["components"]["schemas"] = closed(document["components"]["schemas"])
with open(sys.argv[1], "w", encoding="utf-8") as out:
    json.dump(document, out)
