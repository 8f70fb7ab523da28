"""What keeps made-up requests harmless and to the point."""

import random
import re

import schemathesis

# No process is started from made-up commands, and what was put there to be read stays.
DRY = re.compile(r"/(apps|instances|revisions|runs|schedules|transactions|namespaces|nodes|pods)\b")
seen = random.Random(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    path, query = case.operation.path, case.query if isinstance(case.query, dict) else {}
    if case.method.upper() in ("POST", "PUT", "PATCH", "DELETE"):
        whole = case.method.upper() == "DELETE" and not path.endswith("{name}")
        # A task cannot be tried: it is done or not sent.
        if (whole or DRY.search(path.replace("/namespaces/{namespace}/", "/"))) and not path.endswith("/task"):
            query["dryRun"] = "All"
    # A list is a list: its schema cannot depend on a parameter. (Watches are left out: their answers do not end.)
    query.pop("watch", None)
    # A revision that is still to come is waited for, and then answered with 504.
    if "resourceVersion" in query:
        query["resourceVersion"] = "0"
    if path.endswith(("/log", "/audit")):
        query.pop("follow", None)
    case.query = query
    # Most names that one can think of name nothing: every other request is about something that is there.
    places = case.path_parameters if isinstance(case.path_parameters, dict) else {}
    if seen.random() < 0.5:
        if "namespace" in places:
            places["namespace"] = "default"
        if "name" in places:
            places["name"] = "default" if "/namespaces/{name}" in path else "seed"
        if "group" in places:
            places.update({"group": "appm.dev", **({"version": "v1"} if "version" in places else {})})
    # A task is waited for, and here is nobody who does it; a name may have been learnt from an answer, too.
    if "/task" in path and places.get("name") == "seed":
        places["name"] = "absent"
