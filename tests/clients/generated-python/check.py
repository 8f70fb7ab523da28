"""A Python client that openapi-generator made, against a live server: an App from its creation to its end."""

import json
import os
import time

import appm_client
from appm_client import ApiException, App, AppSpec, AppWatchEvent, ObjectMeta, Process, Status

NAMESPACE = os.environ["APPM_NAMESPACE"]

configuration = appm_client.Configuration(
    host=os.environ["APPM_URL"], access_token=os.environ["APPM_TOKEN"], ssl_ca_cert=os.environ["APPM_CA"]
)


def app(replicas=None):
    spec = AppSpec(process=Process(command=["sleep", "1000000"]), replicas=replicas)
    return App(metadata=ObjectMeta(name="hello", labels={"made-by": "python"}), spec=spec)


def refused(call):
    """The Status of a request that must be refused."""
    try:
        call()
    except ApiException as error:
        return Status.from_json(error.body)
    raise AssertionError("this should have been refused")


with appm_client.ApiClient(configuration) as client:
    apps = appm_client.AppApi(client)

    made = apps.create_namespaced_app(NAMESPACE, app())
    assert made.metadata.uid and made.metadata.generation == 1, made
    assert made.spec.replicas is None, "a default that nobody wrote was sent"

    listed = apps.list_namespaced_app(NAMESPACE, label_selector="made-by=python")
    assert [a.metadata.name for a in listed.items] == ["hello"], listed

    # A watch: the raw answer, line by line, each one an event.
    stream = apps.watch_namespaced_app_without_preload_content(
        NAMESPACE, field_selector="metadata.name=hello", timeout_seconds=60
    )
    for line in stream:
        event = AppWatchEvent.from_json(line.decode())
        seen = event.object.actual_instance
        print(event.type, seen.metadata.resource_version)
        if seen.status and (seen.status.ready_replicas or 0) == 1:
            break
    else:
        raise AssertionError("it did not become ready")
    stream.release_conn()

    # Server-side apply: mine, then somebody else's against mine.
    applied = apps.patch_namespaced_app(NAMESPACE, "hello", app(replicas=2), field_manager="first")
    assert applied.spec.replicas == 2, applied
    status = refused(lambda: apps.patch_namespaced_app(NAMESPACE, "hello", app(replicas=3), field_manager="second"))
    assert (status.code, status.reason) == (409, "Conflict"), status
    assert [c.var_field for c in status.details.causes] == [".spec.replicas"], status
    taken = apps.patch_namespaced_app(NAMESPACE, "hello", app(replicas=3), field_manager="second", force=True)
    assert taken.spec.replicas == 3, taken

    scale = apps.read_namespaced_app_scale(NAMESPACE, "hello")
    assert scale.spec.replicas == 3, scale

    apps.delete_namespaced_app(NAMESPACE, "hello")
    deadline = time.monotonic() + 60
    while True:
        try:
            apps.read_namespaced_app(NAMESPACE, "hello")
        except ApiException as error:
            assert json.loads(error.body)["reason"] == "NotFound", error
            break
        assert time.monotonic() < deadline, "it is not gone"
        time.sleep(0.05)
print("python: all as it should be")
