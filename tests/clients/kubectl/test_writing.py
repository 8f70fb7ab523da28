"""create, apply, edit, patch, replace, scale, label, annotate, delete: whatever changes something."""

import json

from world import VERSION, Case, app, config_map, since, wait_for


class Create(Case):
    def test_objects_and_generators(self):
        self.assertEqual(self.ok("create", "-f", "-", stdin=app("web")), "app.appm.dev/web created\n")
        self.assertIn("AlreadyExists", self.fails("create", "-f", "-", stdin=app("web")))
        self.says("created (server dry run)", "create", "-f", "-", "--dry-run=server", stdin=app("other"))
        self.says("kind: App", "create", "-f", "-", "--dry-run=client", "-o", "yaml", stdin=app("other"))
        self.assertEqual(self.ok("get", "app", "other", "--ignore-not-found"), "")
        generated = app("x")
        generated["metadata"] = {"generateName": "many-"}
        for _ in range(2):
            self.says("app.appm.dev/many-", "create", "-f", "-", stdin=generated)

        self.ok("create", "configmap", "settings", "--from-literal=colour=blue", f"--from-file=file={self.file('text')}")
        self.assertEqual(self.json("get", "cm", "settings")["data"], {"colour": "blue", "file": "text"})
        self.ok("create", "secret", "generic", "door", "--from-literal=key=1234")
        self.assertEqual(self.field(".data.key", "secret", "door"), "MTIzNA==")
        self.ok("create", "secret", "docker-registry", "pull", "--docker-server=example.com", "--docker-username=a", "--docker-password=b")
        self.assertEqual(self.field(".type", "secret", "pull"), "kubernetes.io/dockerconfigjson")
        shown = self.ok("get", "secrets") + self.ok("describe", "secret", "door")
        self.assertNotIn("1234", shown)
        self.assertNotIn("MTIzNA", shown)

    def test_mistakes_are_told(self):
        wrong = app("web", replicas=-1, terminationGracePeriodSeconds="soon")
        told = self.fails("create", "--validate=false", "-f", "-", stdin=wrong)
        self.assertIn("spec.replicas", told)
        self.assertIn("spec.terminationGracePeriodSeconds", told)
        self.assertIn("replica", self.fails("create", "-f", "-", stdin=app("web", replica=1)))
        if VERSION >= (1, 25):
            self.assertIn('unknown field "spec.replica"', self.fails("create", "--validate=strict", "-f", "-", stdin=app("web", replica=1)))
            code, out, err = self.run_it("create", "--validate=warn", "-f", "-", stdin=app("web", replica=1))
            self.assertEqual((code, out), (0, "app.appm.dev/web created\n"), err)
            self.assertIn('Warning: unknown field "spec.replica"', err)
            self.assertIsNone(self.json("get", "app", "web")["spec"].get("replica"))


class Apply(Case):
    def test_on_the_client(self):
        web = app("web", terminationGracePeriodSeconds=5)
        self.says("web created", "apply", "-f", "-", stdin=web)
        self.says("web unchanged", "apply", "-f", "-", stdin=web)
        revision = self.field(".metadata.resourceVersion", "app", "web")
        self.says("web unchanged", "apply", "-f", "-", stdin=web)
        web["spec"]["replicas"] = 4
        del web["spec"]["terminationGracePeriodSeconds"]
        code, out, err = self.run_it("diff", "-f", "-", stdin=web)
        self.assertEqual(code, 1, err)
        self.assertIn("+  replicas: 4", out)
        self.assertIn("-  terminationGracePeriodSeconds: 5", out)
        self.says("web configured (server dry run)", "apply", "--dry-run=server", "-f", "-", stdin=web)
        self.says("web configured", "apply", "-f", "-", stdin=web)
        now = self.json("get", "app", "web")
        self.assertEqual(now["spec"]["replicas"], 4)
        self.assertNotIn("terminationGracePeriodSeconds", now["spec"])
        self.assertGreater(int(now["metadata"]["resourceVersion"]), int(revision))
        self.assertEqual(self.ok("diff", "-f", "-", stdin=web), "")
        self.says("replicas", "apply", "view-last-applied", "app/web")

    def test_on_the_server(self):
        web = app("web")
        self.says("serverside-applied", "apply", "--server-side", "-f", "-", stdin=web)
        revision = self.settled("web")
        self.says("serverside-applied", "apply", "--server-side", "-f", "-", stdin=web)
        self.assertEqual(self.field(".metadata.resourceVersion", "app", "web"), revision)
        web["spec"]["replicas"] = 4
        told = self.fails("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=web)
        self.assertIn('conflict with "kubectl"', told)
        self.assertIn(".spec.replicas", told)
        self.ok("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=web)
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "4")
        # What both own stays when one of them lets go of it; what only one owns goes.
        del web["spec"]["replicas"]
        self.ok("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=web)
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "")

    def settled(self, name):
        """The revision of an App that its controller has looked at."""
        wait_for("the controller", lambda: self.field(".status.observedGeneration", "app", name) == "1")
        return self.field(".metadata.resourceVersion", "app", name)

    def test_from_the_client_to_the_server_and_back(self):
        web = app("web", terminationGracePeriodSeconds=5)
        self.ok("apply", "-f", "-", stdin=web)
        self.says("serverside-applied", "apply", "--server-side", "-f", "-", stdin=web)
        del web["spec"]["terminationGracePeriodSeconds"]
        web["spec"]["replicas"] = 6
        # Older ones leave what the client applied in the client's name, and conflict with themselves.
        force = [] if VERSION >= (1, 26) else ["--force-conflicts"]
        self.says("serverside-applied", "apply", "--server-side", *force, "-f", "-", stdin=web)
        spec = self.json("get", "app", "web")["spec"]
        if VERSION >= (1, 26):
            self.assertNotIn("terminationGracePeriodSeconds", spec)
        self.assertEqual(spec["replicas"], 6)
        web["spec"]["replicas"] = 7
        self.ok("apply", "-f", "-", stdin=web)
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "7")

    def test_pruning(self):
        both = [app("one"), app("two")]
        self.ok("apply", "-f", "-", stdin=both)
        flag = "--prune-allowlist" if VERSION >= (1, 26) else "--prune-whitelist"
        told = self.ok("apply", "--prune", "-l", "team=a", f"{flag}=appm.dev/v1/App", "-f", "-", stdin=both[:1])
        self.assertIn("two pruned", told)
        self.assertEqual(self.field(".items[*].metadata.name", "apps"), "one")

    def test_kubernetes_own_kinds(self):
        self.says("settings created", "apply", "-f", "-", stdin=config_map("settings", a="1", b="2"))
        self.says("settings configured", "apply", "-f", "-", stdin=config_map("settings", a="1", c="3"))
        self.assertEqual(self.json("get", "cm", "settings")["data"], {"a": "1", "c": "3"})
        self.says("settings serverside-applied", "apply", "--server-side", "-f", "-", stdin=config_map("settings", a="1"))


class Change(Case):
    def setUp(self):
        super().setUp()
        self.ok("create", "-f", "-", stdin=app("web"))

    def test_patches(self):
        self.says("patched", "patch", "app", "web", "--type=merge", "-p", '{"spec":{"replicas":3}}')
        steps = [{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "replace", "path": "/spec/replicas", "value": 4}]
        self.says("patched", "patch", "app", "web", "--type=json", "-p", json.dumps(steps))
        self.assertIn("invalid", self.fails("patch", "app", "web", "--type=json", "-p", json.dumps(steps)).lower())
        self.assertIn("application/merge-patch+json", self.fails("patch", "app", "web", "-p", '{"spec":{"replicas":5}}'))
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "4")
        self.says("no change", "patch", "app", "web", "--type=merge", "-p", '{"spec":{"replicas":4}}')
        self.ok("create", "configmap", "settings", "--from-literal=a=1")
        self.says("patched", "patch", "configmap", "settings", "-p", '{"data":{"b":"2"}}')
        self.assertEqual(self.json("get", "cm", "settings")["data"], {"a": "1", "b": "2"})

    @since(24)
    def test_patches_of_the_status(self):
        patch = {"spec": {"replicas": 9}, "status": {"conditions": [
            {"type": "Tested", "status": "True", "reason": "Here", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ]}}
        # The App's own controller writes the conditions too: what this write made is in its answer.
        got = json.loads(self.ok("patch", "app", "web", "--subresource=status", "--type=merge", "-p", json.dumps(patch), "-o", "json"))
        self.assertIn("Tested", [c["type"] for c in got["status"]["conditions"]])
        self.assertEqual(got["spec"]["replicas"], 2)
        self.says("web", "get", "app", "web", "--subresource=status", "-o", "name")

    def test_replacing(self):
        self.says("replaced", "replace", "-f", "-", stdin=app("web", replicas=5))
        uid = self.field(".metadata.uid", "app", "web")
        self.says("replaced", "replace", "--force", "-f", "-", stdin=app("web", replicas=6))
        now = self.json("get", "app", "web")
        self.assertEqual(now["spec"]["replicas"], 6)
        self.assertNotEqual(now["metadata"]["uid"], uid)
        now["metadata"]["resourceVersion"] = "1"
        self.assertIn("Conflict", self.fails("replace", "-f", "-", stdin=now))

    def test_editing(self):
        editor = self.file('sed -i "s/replicas: 2/replicas: 8/" "$1"\n')
        self.says("edited", "edit", "app", "web", KUBE_EDITOR=f"sh {editor}")
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "8")
        self.ok("create", "configmap", "settings", "--from-literal=colour=blue")
        editor = self.file('sed -i "s/colour: blue/colour: red/" "$1"\n')
        self.says("edited", "edit", "configmap", "settings", KUBE_EDITOR=f"sh {editor}")
        self.assertEqual(self.field(".data.colour", "cm", "settings"), "red")

    def test_scaling(self):
        self.says("scaled", "scale", "app", "web", "--replicas=5")
        self.assertIn("replicas", self.fails("scale", "app", "web", "--current-replicas=2", "--replicas=6"))
        self.says("scaled", "scale", "app", "web", "--current-replicas=5", "--replicas=6")
        self.assertEqual(self.field(".spec.replicas", "app", "web"), "6")

    def test_labels_and_annotations(self):
        self.says("labeled", "label", "app", "web", "tier=front")
        self.assertIn("overwrite", self.fails("label", "app", "web", "tier=back"))
        self.says("labeled", "label", "app", "web", "tier=back", "--overwrite")
        self.says("tier=back", "label", "app", "web", "--list")
        self.says("labeled", "label", "apps", "--all", "everywhere=yes")
        self.ok("label", "app", "web", "tier-")
        self.says("annotate", "annotate", "app", "web", "note=hello")
        metadata = self.json("get", "app", "web")["metadata"]
        self.assertEqual(metadata["labels"], {"team": "a", "everywhere": "yes"})
        self.assertEqual(metadata["annotations"]["note"], "hello")
        self.says("labeled", "label", "namespace", self.namespace, "purpose=test")
        self.says("annotate", "annotate", "namespace", self.namespace, "purpose=test")

    def test_default_set_verbs_refuse_what_is_not_theirs(self):
        for verb in [["rollout", "status"], ["expose"]]:
            self.fails(*verb, "app", "web")


class Delete(Case):
    def test_by_name_label_file_and_all(self):
        for name in ["one", "two", "three", "four"]:
            self.ok("create", "-f", "-", stdin=app(name))
        self.ok("label", "app", "two", "team=b", "--overwrite")
        self.says('"one" deleted', "delete", "app", "one")
        self.assertIn("deleted (server dry run)", self.ok("delete", "app", "two", "--dry-run=server"))
        self.says('"two" deleted', "delete", "apps", "-l", "team=b")
        self.says('"three" deleted', "delete", "-f", "-", stdin=app("three"))
        self.says('"four" deleted', "delete", "apps", "--all")
        self.assertEqual(self.ok("get", "apps", "-o", "name"), "")
        self.assertIn("NotFound", self.fails("delete", "app", "one"))
        self.assertEqual(self.ok("delete", "app", "one", "--ignore-not-found"), "")

    def test_dependents(self):
        for cascade, left in [("background", 0), ("foreground", 0), ("orphan", 1)]:
            name = f"owner-{cascade}"
            self.ok("create", "configmap", name)
            uid = self.field(".metadata.uid", "configmap", name)
            child = config_map(f"child-{cascade}")
            child["metadata"]["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": True}
            ]
            self.ok("create", "-f", "-", stdin=child)
            self.ok("delete", "configmap", name, f"--cascade={cascade}")
            children = lambda: len(self.ok("get", "cm", f"child-{cascade}", "--ignore-not-found", "-o", "name").split())
            wait_for(f"{left} children", lambda: children() == left)
        self.assertEqual(self.field(".metadata.ownerReferences", "cm", "child-orphan"), "")

    def test_what_runs_ends_with_its_app(self):
        self.ok("create", "-f", "-", stdin=app("web", suspend=False))
        self.ok("wait", "--for=condition=Ready", "app/web", "--timeout=60s")
        self.says('"web"', "delete", "app", "web", "--cascade=foreground", "--timeout=60s")
        self.assertEqual(self.ok("get", "instances", "-o", "name"), "")
        self.ok("create", "-f", "-", stdin=app("web", suspend=False))
        self.ok("delete", "app", "web", "--force", "--grace-period=0")

    def test_finalizers_hold_and_delete_waits(self):
        held = config_map("held")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        self.ok("create", "-f", "-", stdin=held)
        deleting = self.spawn("delete", "configmap", "held", "--timeout=60s")
        wait_for("its mark", lambda: self.field(".metadata.deletionTimestamp", "cm", "held"))
        self.assertIsNone(deleting.poll())
        self.ok("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        self.assertIn('"held" deleted', deleting.communicate(timeout=60)[0])
        self.assertEqual(deleting.returncode, 0)

    def test_a_namespace_goes_with_its_content(self):
        other = f"{self.namespace}-b"
        self.ok("create", "namespace", other)
        self.ok("create", "configmap", "inside", "--namespace", other)
        self.says("deleted", "delete", "namespace", other, "--timeout=60s")
        self.assertEqual(self.ok("get", "namespace", other, "--ignore-not-found"), "")
