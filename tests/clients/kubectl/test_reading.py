"""get, describe, explain, wait, logs, events: whatever looks and changes nothing."""

import json
import subprocess
import urllib.request

from world import VERSION, Case, app, config_map, since, wait_for


class Get(Case):
    def setUp(self):
        super().setUp()
        for name, replicas in [("one", 3), ("two", 1), ("three", 2)]:
            self.ok("create", "-f", "-", stdin=app(name, replicas=replicas))
        self.ok("label", "app", "two", "team=b", "--overwrite")

    def names(self, *how):
        return self.ok("get", "apps", "-o", "name", *how).split()

    def test_tables(self):
        lines = self.ok("get", "apps").splitlines()
        self.assertRegex(lines[0], r"^NAME +READY +.*AGE$")
        self.assertEqual([line.split()[0] for line in lines[1:]], ["one", "three", "two"])
        wide = self.ok("get", "app", "-o", "wide", "--show-labels", "-L", "team").splitlines()
        self.assertGreater(len(wide[0]), len(lines[0]))
        self.assertIn("team=b", wide[3])
        self.assertNotIn("NAME", self.ok("get", "apps", "--no-headers"))
        self.assertIn(self.namespace, self.ok("get", "apps", "-A"))
        self.says("app.appm.dev/one", "get", "all")
        self.assertEqual(self.fails("get", "app", "absent"), 'Error from server (NotFound): apps.appm.dev "absent" not found\n')
        self.assertEqual(self.ok("get", "app", "absent", "--ignore-not-found"), "")
        self.says("default", "get", "ns")
        self.says("Ready", "get", "nodes")

    def test_outputs(self):
        self.assertEqual(self.json("get", "app", "one")["spec"]["replicas"], 3)
        self.says("replicas: 3", "get", "app", "one", "-o", "yaml")
        self.assertEqual(self.field(".items[*].spec.replicas", "apps"), "3 2 1")
        columns = self.ok("get", "apps", "-o", "custom-columns=N:.metadata.name,R:.spec.replicas", "--no-headers").split()
        self.assertEqual(columns, ["one", "3", "three", "2", "two", "1"])
        template = self.ok("get", "apps", "-o", "go-template={{range .items}}{{.metadata.name}};{{end}}")
        self.assertEqual(template, "one;three;two;")
        by_replicas = self.ok("get", "apps", "--sort-by=.spec.replicas", "--no-headers").splitlines()
        self.assertEqual([line.split()[0] for line in by_replicas], ["two", "three", "one"])
        self.assertEqual(self.names("--chunk-size=1"), [f"app.appm.dev/{n}" for n in ["one", "three", "two"]])
        if VERSION >= (1, 21):
            self.assertNotIn("managedFields", self.ok("get", "app", "one", "-o", "yaml"))
            self.says("managedFields", "get", "app", "one", "-o", "yaml", "--show-managed-fields")

    def test_selectors(self):
        self.assertEqual(self.names("-l", "team=b"), ["app.appm.dev/two"])
        self.assertEqual(self.names("-l", "team in (b,c)"), ["app.appm.dev/two"])
        self.assertEqual(self.names("-l", "team!=b"), ["app.appm.dev/one", "app.appm.dev/three"])
        self.assertEqual(self.names("--field-selector", "metadata.name=three"), ["app.appm.dev/three"])
        self.assertIn("field label not supported", self.fails("get", "apps", "--field-selector", "spec.x=1"))

    def test_watches(self):
        watching = self.spawn("get", "apps", "-w", "--output-watch-events")
        self.assertEqual(watching.stdout.readline().split()[:2], ["EVENT", "NAME"])
        told = [watching.stdout.readline().split()[:2] for _ in range(3)]
        self.assertEqual(told, [["ADDED", name] for name in ["one", "three", "two"]])
        self.ok("delete", "app", "two", "--wait=false")
        while (line := watching.stdout.readline().split()[:2]) != ["DELETED", "two"]:
            self.assertEqual(line[0], "MODIFIED")

    def test_describe(self):
        told = self.ok("describe", "app", "one")
        for expected in ["Name:         one", "Replicas:", "Kind:         App"]:
            self.assertIn(expected, told)
        self.says("Name:", "describe", "node")
        self.says("Status:       Active", "describe", "namespace", "default")

    def test_raw_and_proxy(self):
        path = f"/apis/appm.dev/v1/namespaces/{self.namespace}/apps"
        self.assertEqual(len(json.loads(self.ok("get", "--raw", path))["items"]), 3)
        self.assertEqual(self.ok("get", "--raw", "/readyz"), "ok")
        proxy = self.spawn("proxy", "--port=0")
        address = proxy.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"http://{address}{path}/one") as answer:
            self.assertEqual(json.load(answer)["spec"]["replicas"], 3)


class Knowing(Case):
    def test_what_there_is(self):
        names = self.ok("api-resources", "-o", "name").split()
        for expected in ["apps.appm.dev", "configmaps", "secrets", "pods", "leases.coordination.k8s.io", "namespaces"]:
            self.assertIn(expected, names)
        self.assertEqual(len(names), len(set(names)))
        self.assertNotIn("nodes", self.ok("api-resources", "--namespaced=true", "-o", "name").split())
        self.says("App", "api-resources", "--api-group=appm.dev", "--verbs=list,watch", "-o", "wide")
        versions = self.ok("api-versions").split()
        self.assertTrue({"v1", "appm.dev/v1", "coordination.k8s.io/v1", "events.k8s.io/v1"} <= set(versions))
        self.says("+appm", "version")

    def test_explanations(self):
        self.says("replicas", "explain", "app.spec.replicas")
        self.says("command", "explain", "apps.spec.process.command", "--api-version=appm.dev/v1")
        self.says("restartPolicy", "explain", "app", "--recursive")
        self.says("data", "explain", "configmap")
        self.assertIn("does not exist", self.fails("explain", "app.spec.nonsense"))

    @since(27)
    def test_explanations_by_the_older_document(self):
        self.says("replicas", "explain", "app.spec.replicas", "--output=plaintext-openapiv2")

    def test_who_may_what(self):
        self.assertEqual(self.ok("auth", "can-i", "create", "apps.appm.dev"), "yes\n")
        self.assertEqual(self.ok("auth", "can-i", "get", "/healthz"), "yes\n")
        self.says("*.*", "auth", "can-i", "--list")
        self.assertIn("orbidden", self.fails("get", "apps", "--as=bob"))
        self.assertIn("nauthorized", self.fails("get", "apps", "--token=nonsense", "--kubeconfig", self.without_token()))

    def without_token(self):
        with open(self.env()["KUBECONFIG"], encoding="utf-8") as file:
            return self.file("".join(line for line in file if "token:" not in line))

    @since(28)
    def test_who_am_i(self):
        self.says("admin", "auth", "whoami")


class Running(Case):
    SCRIPT = 'echo "hello from $APPM_INSTANCE"; echo "second line"; exec sleep 1000'

    def setUp(self):
        super().setUp()
        self.ok("apply", "-f", "-", stdin=app("web", suspend=False, process={"script": self.SCRIPT}))
        self.says("condition met", "wait", "--for=condition=Ready", "app/web", "--timeout=60s")

    def test_what_runs_is_seen_as_pods_with_logs(self):
        lines = self.ok("get", "pods").splitlines()
        self.assertRegex(lines[0], r"^NAME +READY +STATUS +RESTARTS +AGE")
        self.assertEqual(len(lines), 3)
        pod = lines[1].split()[0]
        self.assertEqual(lines[1].split()[1:3], ["1/1", "Running"])
        expected = [f"hello from {pod}", "second line"]
        wait_for("its output", lambda: self.ok("logs", pod).splitlines() == expected)
        self.assertEqual(self.ok("logs", pod, "--tail=1"), "second line\n")
        self.assertRegex(self.ok("logs", f"pod/{pod}", "--timestamps", "--since=1h"), r"^\d{4}-\S+Z hello")
        following = self.spawn("logs", "-f", pod)
        self.assertEqual([following.stdout.readline().strip() for _ in range(2)], expected)
        self.says("Node:", "describe", "pod", pod)
        self.says("Running", "get", "pod", pod, "-o", "wide")
        self.assertEqual(self.field(".status.phase", "pod", pod), "Running")
        uid = self.field(".metadata.uid", "pod", pod)
        # Another one takes its place under the same name, at once: kubectl, which looks for that name in what it has listed and watched, may
        # take it for the one that it waits for. So it is not asked to wait.
        self.says("deleted", "delete", "pod", pod, "--wait=false")
        wait_for("another Pod", lambda: self.ok("get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}") not in ["", uid])

    def test_scaling_and_waiting(self):
        waiting = self.spawn("get", "app", "web", "-w", "-o", "jsonpath={.status.readyReplicas}{\"\\n\"}")
        self.ok("scale", "app", "web", "--replicas=3")
        while waiting.stdout.readline().strip() != "3":
            self.assertIsNone(waiting.poll())

    @since(23)
    def test_waiting_for_a_value(self):
        for streamed in ["false", "true"]:
            self.ok("wait", "--for=jsonpath={.status.readyReplicas}=2", "app/web", "--timeout=60s", KUBE_FEATURE_WatchListClient=streamed)

    @since(31)
    def test_waiting_for_a_creation(self):
        waiting = self.spawn("wait", "--for=create", "configmap/late", "--timeout=60s")
        self.ok("create", "-f", "-", stdin=config_map("late"))
        self.assertIn("condition met", waiting.communicate(timeout=60)[0])

    def test_events(self):
        (instance, *_) = self.ok("get", "instances", "-o", "name").split()
        name = instance.split("/")[1]
        wait_for("its events", lambda: f"instance/{name}" in self.ok("get", "events"))
        self.says("Started", "describe", "instance", name)
        if VERSION >= (1, 27):
            self.says(f"Instance/{name}", "events", "--for", f"instance/{name}")
