"""Watches and the informer: what is told, from where, and how it goes on."""

import threading
import time

from kubernetes import client, watch
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

from world import GROUP, VERSION, Case, app, wait_for


class Watches(Case):
    def make(self, name):
        return self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": name}, "data": {"a": "1"}})

    def stream(self, **how):
        return watch.Watch().stream(self.core.list_namespaced_config_map, self.namespace, **how)

    def test_a_watch_resumes_where_it_was(self):
        start = self.core.list_namespaced_config_map(self.namespace).metadata.resource_version
        for n in range(5):
            self.make(f"map-{n}")
        self.core.delete_namespaced_config_map("map-0", self.namespace)
        whole = [(e["type"], e["object"].metadata.name) for e in self.stream(resource_version=start, timeout_seconds=1)]
        self.assertEqual(whole, [("ADDED", f"map-{n}") for n in range(5)] + [("DELETED", "map-0")])
        watching, seen, last = watch.Watch(), [], start
        while len(seen) < len(whole):
            # Two events at a time, then a new watch from the last one's revision.
            for count, event in enumerate(
                watching.stream(self.core.list_namespaced_config_map, self.namespace, resource_version=last, timeout_seconds=10), 1
            ):
                last = event["object"].metadata.resource_version
                seen.append((event["type"], event["object"].metadata.name))
                if count == 2:
                    watching.stop()
            watching = watch.Watch()
        self.assertEqual(seen, whole)

    def test_a_watch_without_a_revision_begins_with_what_is_there(self):
        self.make("one")
        events = []
        for event in self.stream(timeout_seconds=30):
            events.append((event["type"], event["object"].metadata.name))
            if len(events) == 1:
                self.make("two")
            if len(events) == 2:
                break
        self.assertEqual(events, [("ADDED", "one"), ("ADDED", "two")])

    def test_a_selector_turns_changes_into_arrivals_and_departures(self):
        start = self.core.list_namespaced_config_map(self.namespace).metadata.resource_version
        self.make("one")
        for value in ["yes", "no"]:
            self.core.patch_namespaced_config_map("one", self.namespace, {"metadata": {"labels": {"chosen": value}}})
        events = self.stream(resource_version=start, label_selector="chosen=yes", timeout_seconds=1)
        self.assertEqual([e["type"] for e in events], ["ADDED", "DELETED"])

    def test_a_watch_ends_when_its_time_is_over(self):
        began = time.monotonic()
        self.assertEqual(list(self.stream(timeout_seconds=1)), [])
        self.assertLess(time.monotonic() - began, 10)

    def test_an_app_is_followed_until_it_is_ready(self):
        self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, "apps", app("web", suspend=False))
        listing = self.custom.list_namespaced_custom_object
        for event in watch.Watch().stream(listing, GROUP, VERSION, self.namespace, "apps", timeout_seconds=60):
            status = event["object"].get("status", {})
            if {c["type"]: c["status"] for c in status.get("conditions", [])}.get("Ready") == "True":
                self.assertEqual(status["readyReplicas"], 2)
                return
        self.fail("the watch ended before the App was ready")


class Informer(Case):
    def test_the_informer_keeps_a_true_copy(self):
        listing = self.core.list_namespaced_config_map
        seen, lock = [], threading.Lock()

        def note(kind):
            def noted(thing):
                with lock:
                    seen.append((kind, thing.metadata.name))
            return noted

        self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": "first"}})
        informer = SharedInformer(list_func=listing, namespace=self.namespace)
        for kind in [ADDED, MODIFIED, DELETED]:
            informer.add_event_handler(kind, note(kind))
        informer.start()
        self.addCleanup(informer.stop)
        wait_for("the first object", lambda: informer.cache.list_keys() == [f"{self.namespace}/first"])
        self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": "second"}})
        self.core.patch_namespaced_config_map("first", self.namespace, {"data": {"a": "1"}})
        self.core.delete_namespaced_config_map("second", self.namespace)
        expected = {(ADDED, "first"), (ADDED, "second"), (MODIFIED, "first"), (DELETED, "second")}
        wait_for("all events", lambda: set(seen) == expected)
        self.assertEqual(len(seen), len(expected))
        self.assertEqual(informer.cache.get_by_key(f"{self.namespace}/first").data, {"a": "1"})
