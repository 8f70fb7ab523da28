"""Kubernetes' own kinds through the typed client, and an App's processes as Pods."""

import base64
import os
import signal
from datetime import datetime, timezone

from kubernetes import client

from world import GROUP, VERSION, Case, app, wait_for


class Core(Case):
    def test_a_namespace_goes_with_its_content(self):
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=f"{self.namespace}-b", labels={"a": "b"})))
        names = [n.metadata.name for n in self.core.list_namespace(label_selector="a=b").items]
        self.assertEqual(names, [f"{self.namespace}-b"])
        self.core.patch_namespace(f"{self.namespace}-b", {"metadata": {"labels": {"a": "c"}}})
        self.assertEqual(self.core.read_namespace(f"{self.namespace}-b").metadata.labels["a"], "c")
        self.core.create_namespaced_config_map(f"{self.namespace}-b", {"metadata": {"name": "inside"}, "data": {}})
        self.core.delete_namespace(f"{self.namespace}-b")
        there = lambda: [n for n in self.core.list_namespace().items if n.metadata.name == f"{self.namespace}-b"]
        wait_for("the namespace to go", lambda: not there())

    def test_config_maps_keep_text_and_bytes(self):
        body = client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name="settings"), data={"colour": "blue"},
            binary_data={"raw": base64.b64encode(b"\x00\xff").decode()},
        )
        self.core.create_namespaced_config_map(self.namespace, body)
        got = self.core.read_namespaced_config_map("settings", self.namespace)
        self.assertEqual((got.data, got.binary_data), ({"colour": "blue"}, {"raw": "AP8="}))
        got.data["colour"] = "red"
        replaced = self.core.replace_namespaced_config_map("settings", self.namespace, got)
        self.assertNotEqual(replaced.metadata.resource_version, got.metadata.resource_version)
        with self.refused(409, "Conflict"):
            got.data["colour"] = "green"
            self.core.replace_namespaced_config_map("settings", self.namespace, got)
        patched = self.core.patch_namespaced_config_map("settings", self.namespace, {"data": {"colour": None, "size": "7"}})
        self.assertEqual(patched.data, {"size": "7"})
        self.core.patch_namespaced_config_map("settings", self.namespace, {"immutable": True})
        with self.refused(422, "Invalid"):
            self.core.patch_namespaced_config_map("settings", self.namespace, {"data": {"size": "8"}})

    def test_secrets_take_text_and_give_base64(self):
        made = self.core.create_namespaced_secret(
            self.namespace, client.V1Secret(metadata=client.V1ObjectMeta(name="door"), string_data={"key": "1234"})
        )
        self.assertEqual((made.data, made.type, made.string_data), ({"key": "MTIzNA=="}, "Opaque", None))
        with self.refused(422, "Invalid") as refused:
            self.core.create_namespaced_secret(
                self.namespace, {"metadata": {"name": "login"}, "type": "kubernetes.io/tls", "data": {"tls.crt": "aGlkZGVuMQ=="}}
            )
        self.assertNotIn("aGlkZGVuMQ", str(refused.status))
        self.core.delete_namespaced_secret("door", self.namespace)
        with self.refused(404, "NotFound"):
            self.core.read_namespaced_secret("door", self.namespace)

    def test_events_are_seen_in_both_groups(self):
        body = client.CoreV1Event(
            metadata=client.V1ObjectMeta(name="web.1"), reason="Tested", message="it was tested", type="Normal", count=2,
            involved_object=client.V1ObjectReference(kind="App", api_version="appm.dev/v1", name="web", namespace=self.namespace),
            source=client.V1EventSource(component="python"),
            # Kubernetes' schema requires it in events.k8s.io, and this client reads no Event without it.
            event_time=datetime.now(timezone.utc), reporting_component="test.appm.dev/python", reporting_instance="one", action="Testing",
        )
        self.core.create_namespaced_event(self.namespace, body)
        events = self.core.list_namespaced_event(self.namespace, field_selector="involvedObject.name=web,reason=Tested").items
        self.assertEqual([(e.message, e.count) for e in events], [("it was tested", 2)])
        others = client.EventsV1Api(self.api).list_namespaced_event(self.namespace).items
        self.assertEqual([(e.note, e.regarding.name) for e in others if e.reason == "Tested"], [("it was tested", "web")])

    def test_there_is_one_node_and_it_is_ready(self):
        (node,) = self.core.list_node().items
        ready = {c.type: c.status for c in node.status.conditions}
        self.assertEqual(ready["Ready"], "True")

    def test_reviews_answer(self):
        auth = client.AuthorizationV1Api(self.api)
        ask = {"spec": {"resourceAttributes": {"verb": "create", "group": GROUP, "resource": "apps", "namespace": self.namespace}}}
        self.assertTrue(auth.create_self_subject_access_review(ask).status.allowed)
        rules = auth.create_self_subject_rules_review({"spec": {"namespace": self.namespace}}).status
        self.assertIn("*", rules.resource_rules[0].verbs)
        me = client.AuthenticationV1Api(self.api).create_self_subject_review({}).status.user_info
        self.assertEqual(me.username, "admin")

    def test_the_version_and_the_groups_are_told(self):
        self.assertIn("appm", client.VersionApi(self.api).get_code().git_version)
        groups = [g.name for g in client.ApisApi(self.api).get_api_versions().groups]
        self.assertIn(GROUP, groups)

    def test_custom_resource_definitions_describe_our_kinds(self):
        definitions = client.ApiextensionsV1Api(self.api).list_custom_resource_definition().items
        kinds = {d.metadata.name: d.spec.versions[0].schema.open_apiv3_schema for d in definitions}
        self.assertIn("replicas", kinds["apps.appm.dev"].properties["spec"].properties)


class Processes(Case):
    SCRIPT = 'echo "hello from $APPM_INSTANCE, attempt $APPM_ATTEMPT"; exec sleep 1000'

    def pods(self):
        return self.core.list_namespaced_pod(self.namespace).items

    def ready(self):
        return [p for p in self.pods() if {c.type: c.status for c in p.status.conditions or []}.get("Ready") == "True"]

    def test_what_runs_is_seen_as_pods_with_logs(self):
        body = app("web", suspend=False, process={"script": self.SCRIPT})
        self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, "apps", body)
        ready = wait_for("two ready Pods", lambda: len(found := self.ready()) == 2 and found)
        first = ready[0]
        self.assertEqual(first.status.phase, "Running")
        self.assertEqual(first.metadata.owner_references[0].kind, "App")
        name = first.metadata.name
        said = lambda **how: self.core.read_namespaced_pod_log(name, self.namespace, **how)
        self.assertEqual(wait_for("output", said), f"hello from {name}, attempt 1\n")
        self.assertRegex(said(timestamps=True), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z hello")
        with self.refused(405):
            self.core.patch_namespaced_pod(name, self.namespace, {"metadata": {"labels": {"a": "b"}}})

        instances = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, "instances")["items"]
        pid = next(i["status"]["state"]["running"]["pid"] for i in instances if i["metadata"]["name"] == name)
        os.kill(pid, signal.SIGKILL)
        again = f"hello from {name}, attempt 2\n"
        wait_for("the next attempt's output", lambda: said() == again)
        self.assertEqual(said(previous=True), f"hello from {name}, attempt 1\n")
        restarts = lambda: self.core.read_namespaced_pod(name, self.namespace).status.container_statuses[0].restart_count
        wait_for("a restart that was counted", lambda: restarts() == 1)

        self.core.delete_namespaced_pod(name, self.namespace)
        gone = lambda: first.metadata.uid not in [p.metadata.uid for p in self.ready()]
        wait_for("another Pod in its place", lambda: gone() and len(self.ready()) == 2)
