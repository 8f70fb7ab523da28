"""Apps through the dynamic client and through CustomObjectsApi."""

import os
import tempfile

import yaml
from kubernetes import client, dynamic, utils

from world import GROUP, VERSION, Case, app, wait_for

MERGE = "application/merge-patch+json"


class Dynamic(Case):
    def setUp(self):
        super().setUp()
        self.apps = self.dynamic("App")

    def create(self, name, **spec):
        return self.apps.create(body=app(name, **spec), namespace=self.namespace)

    def test_discovery_knows_every_resource_of_every_group(self):
        found = dynamic.DynamicClient(self.api).resources
        kinds = {(r.group_version, r.kind) for r in found.search() if isinstance(r, dynamic.Resource)}
        for expected in [
            ("v1", "Namespace"), ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Pod"), ("v1", "Event"), ("v1", "Node"),
            ("appm.dev/v1", "App"), ("appm.dev/v1", "Instance"), ("coordination.k8s.io/v1", "Lease"),
            ("events.k8s.io/v1", "Event"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ]:
            self.assertIn(expected, kinds)
        self.assertIn("scale", self.apps.subresources)

    def test_objects_are_made_read_changed_and_deleted(self):
        made = self.create("web")
        self.assertEqual(made.metadata.generation, 1)
        got = self.apps.get(name="web", namespace=self.namespace)
        self.assertEqual(got.metadata.uid, made.metadata.uid)
        patched = self.apps.patch(
            body={"spec": {"replicas": 3}}, name="web", namespace=self.namespace, content_type=MERGE
        )
        self.assertEqual((patched.spec.replicas, patched.metadata.generation), (3, 2))
        steps = [{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "replace", "path": "/spec/replicas", "value": 4}]
        patched = self.apps.patch(body=steps, name="web", namespace=self.namespace, content_type="application/json-patch+json")
        self.assertEqual(patched.spec.replicas, 4)
        with self.refused(422, "Invalid"):
            self.apps.patch(body=steps, name="web", namespace=self.namespace, content_type="application/json-patch+json")
        with self.refused(415, "UnsupportedMediaType") as refused:
            self.apps.patch(body={"spec": {"replicas": 5}}, name="web", namespace=self.namespace)
        self.assertIn(MERGE, refused.status["message"])
        self.apps.delete(name="web", namespace=self.namespace)
        wait_for("the App to go", lambda: not self.apps.get(namespace=self.namespace).items)
        with self.refused(404, "NotFound"):
            self.apps.get(name="web", namespace=self.namespace)

    def test_a_stale_write_conflicts_and_a_second_create_too(self):
        self.create("web")
        with self.refused(409, "AlreadyExists"):
            self.create("web")
        stale = self.apps.get(name="web", namespace=self.namespace).to_dict()
        self.apps.patch(body={"metadata": {"labels": {"x": "y"}}}, name="web", namespace=self.namespace, content_type=MERGE)
        stale["spec"]["replicas"] = 9
        with self.refused(409, "Conflict"):
            self.apps.replace(body=stale, namespace=self.namespace)
        fresh = self.apps.get(name="web", namespace=self.namespace).to_dict()
        fresh["spec"]["replicas"] = 9
        # Its controller may write the status in between: then, and only then, there is one more conflict.
        self.assertEqual(self.replaced(fresh).spec.replicas, 9)

    def replaced(self, body):
        try:
            return self.apps.replace(body=body, namespace=self.namespace)
        except client.ApiException as error:
            self.assertEqual(error.status, 409)
            body["metadata"]["resourceVersion"] = self.apps.get(name=body["metadata"]["name"], namespace=self.namespace).metadata.resourceVersion
            return self.apps.replace(body=body, namespace=self.namespace)

    def test_selectors_choose_and_pages_belong_together(self):
        for n in range(5):
            self.create(f"web-{n}")
        self.apps.patch(body={"metadata": {"labels": {"team": "b"}}}, name="web-0", namespace=self.namespace, content_type=MERGE)
        names = lambda **how: [a.metadata.name for a in self.apps.get(namespace=self.namespace, **how).items]
        self.assertEqual(names(label_selector="team=b"), ["web-0"])
        self.assertEqual(names(label_selector="team notin (b),team"), ["web-1", "web-2", "web-3", "web-4"])
        self.assertEqual(names(field_selector="metadata.name=web-3"), ["web-3"])
        with self.refused(400, "BadRequest"):
            names(label_selector="team in (")
        first = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, "apps", limit=2)
        self.create("web-00")
        seen, page = [a["metadata"]["name"] for a in first["items"]], first
        while token := page["metadata"].get("continue"):
            page = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, "apps", limit=2, _continue=token)
            self.assertEqual(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"])
            seen += [a["metadata"]["name"] for a in page["items"]]
        self.assertEqual(seen, [f"web-{n}" for n in range(5)])

    def test_server_side_apply_names_the_owner_of_a_conflict(self):
        body = app("web")
        apply = lambda who, **how: self.apps.server_side_apply(body=body, name="web", namespace=self.namespace, field_manager=who, **how)
        made = apply("alice")
        self.assertEqual(apply("alice").metadata.generation, 1)
        body["spec"]["replicas"] = 7
        with self.refused(409, "Conflict") as refused:
            apply("bob")
        causes = refused.status["details"]["causes"]
        self.assertEqual([(c["reason"], c["field"]) for c in causes], [("FieldManagerConflict", ".spec.replicas")])
        self.assertIn("alice", causes[0]["message"])
        taken = apply("bob", force_conflicts=True)
        self.assertEqual((taken.spec.replicas, taken.metadata.uid), (7, made.metadata.uid))
        owners = {m["manager"] for m in taken.to_dict()["metadata"]["managedFields"] if "f:replicas" in m["fieldsV1"].get("f:spec", {})}
        self.assertEqual(owners, {"bob"})

    def test_a_dry_run_leaves_nothing(self):
        self.apps.create(body=app("web"), namespace=self.namespace, query_params=[("dryRun", "All")])
        with self.refused(404):
            self.apps.get(name="web", namespace=self.namespace)

    def test_every_violation_is_told(self):
        with self.refused(422, "Invalid") as refused:
            self.create("web", replicas=-1, terminationGracePeriodSeconds="soon")
        fields = {c["field"] for c in refused.status["details"]["causes"]}
        self.assertEqual(fields, {"spec.replicas", "spec.terminationGracePeriodSeconds"})


class CustomObjects(Case):
    def at(self, *name):
        return GROUP, VERSION, self.namespace, "apps", *name

    def test_objects_their_status_and_their_scale(self):
        self.custom.create_namespaced_custom_object(*self.at(), app("web"))
        scale = self.custom.get_namespaced_custom_object_scale(*self.at("web"))
        self.assertEqual((scale["kind"], scale["apiVersion"], scale["spec"]["replicas"]), ("Scale", "autoscaling/v1", 2))
        self.custom.patch_namespaced_custom_object_scale(*self.at("web"), {"spec": {"replicas": 6}})
        got = self.custom.get_namespaced_custom_object(*self.at("web"))
        self.assertEqual(got["spec"]["replicas"], 6)
        generation = got["metadata"]["generation"]
        condition = {"type": "Tested", "status": "True", "reason": "Here", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        told = self.custom.patch_namespaced_custom_object_status(
            *self.at("web"), {"spec": {"replicas": 1}, "status": {"conditions": [condition]}}
        )
        self.assertEqual((told["spec"]["replicas"], told["metadata"]["generation"]), (6, generation))
        # The App's own controller writes the conditions too: what this write made is in its answer.
        self.assertIn("Tested", [c["type"] for c in told["status"]["conditions"]])
        self.assertEqual(self.custom.get_namespaced_custom_object_status(*self.at("web"))["metadata"]["name"], "web")

    def test_a_collection_is_deleted_by_its_labels(self):
        for name, team in [("one", "a"), ("two", "b"), ("three", "b")]:
            body = app(name)
            body["metadata"]["labels"]["team"] = team
            self.custom.create_namespaced_custom_object(*self.at(), body)
        self.custom.delete_collection_namespaced_custom_object(*self.at(), label_selector="team=b")
        left = lambda: [a["metadata"]["name"] for a in self.custom.list_namespaced_custom_object(*self.at())["items"]]
        wait_for("two Apps to go", lambda: left() == ["one"])

    def test_files_are_created_and_applied(self):
        space = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "blue"}}
        with tempfile.TemporaryDirectory(dir=os.environ["APPM_TMP"]) as folder:
            path = os.path.join(folder, "all.yaml")
            with open(path, "w", encoding="utf-8") as file:
                yaml.safe_dump_all([space, app("web")], file)
            utils.create_from_yaml(self.api, path, namespace=self.namespace, apply=True)
            utils.create_from_yaml(self.api, path, namespace=self.namespace, apply=True)
        self.assertEqual(self.core.read_namespaced_config_map("settings", self.namespace).data, {"colour": "blue"})
        got = self.custom.get_namespaced_custom_object(*self.at("web"))
        self.assertEqual(got["metadata"]["generation"], 1)
        utils.create_from_dict(self.api, {**space, "metadata": {"name": "more"}}, namespace=self.namespace)
        with self.assertRaises(utils.FailToCreateError) as refused:
            utils.create_from_dict(self.api, {**space, "metadata": {"name": "more"}}, namespace=self.namespace)
        self.assertEqual(refused.exception.api_exceptions[0].status, 409)
