"""An operator over ConfigMaps: `kopf run wishes.py`. Each of its handlers leaves a mark that the test can see."""

import kopf

LABEL = {"watched": "yes"}


@kopf.on.startup()
def settle(settings, **_):
    settings.posting.enabled = True
    settings.persistence.finalizer = "test.appm.dev/kopf"


@kopf.on.create("configmaps", labels=LABEL)
def created(patch, body, retry, **_):
    # The first attempt fails for a while: kopf keeps its progress in annotations and comes back.
    if retry == 0:
        raise kopf.TemporaryError("not yet", delay=1)
    patch.setdefault("data", {})["created"] = f"after {retry} retry"
    kopf.info(body, reason="Created", message="seen by kopf")


@kopf.on.update("configmaps", labels=LABEL, field="data.wish")
def updated(old, new, patch, **_):
    patch.setdefault("data", {})["granted"] = f"{old} to {new}"


@kopf.on.delete("configmaps", labels=LABEL)
def deleted(name, namespace, memo, **_):
    print(f"deleted {namespace}/{name}", flush=True)


@kopf.on.create("appm.dev", "v1", "apps", labels=LABEL)
def app_created(spec, patch, **_):
    patch.status["kopf"] = "unknown fields are pruned"
    patch.meta.labels["replicas"] = str(spec["replicas"])


@kopf.on.field("appm.dev", "v1", "apps", labels=LABEL, field="spec.replicas")
def scaled(old, new, patch, **_):
    if old is not None:
        patch.meta.labels["replicas"] = str(new)


@kopf.on.delete("appm.dev", "v1", "apps", labels=LABEL)
def app_deleted(name, namespace, **_):
    print(f"deleted app {namespace}/{name}", flush=True)
