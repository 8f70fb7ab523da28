"""Event subscriptions over TCP by App Mesh's own SDK: what is told, in which order, and how it ends. Versions before 2.1 have none."""

import threading
import unittest

import appmesh
from world import ADDRESS, CA, NEW, appm


class Heard:
    """What was told, in the order in which it came."""

    def __init__(self):
        self.events, self.more = [], threading.Condition()

    def __call__(self, event):
        with self.more:
            self.events.append(event)
            self.more.notify_all()

    def words(self):
        return [event.event_type for event in self.events]

    def output(self):
        return "".join(event.data["output"] for event in self.events if event.event_type == "STDOUT")

    def wait(self, look):
        with self.more:
            assert self.more.wait_for(lambda: look(self), 60), self.events


def client(user="admin", password="admin123"):
    made = appmesh.AppMeshClientTCP(tcp_address=ADDRESS, ssl_verify=CA)
    made.login(user, password)
    return made


@unittest.skipUnless(NEW, "this version of the SDK has no events")
class Events(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def remove(self, *apps):
        with_http = appmesh.AppMeshClient()
        with_http.login("admin", "admin123")
        [with_http.delete_app(app) for app in apps]

    def test_a_run_is_waited_for_with_all_of_its_output(self):
        for command, code in (("echo hi; exit 3", 3), ("for i in 1 2 3; do echo line $i; sleep 0.2; done", 0), ("no-such-program", 127)):
            parts = []
            run = self.client.run_app_async(appmesh.App({"command": command, "shell": True}), max_time=60, lifecycle=120)
            self.assertEqual(run.wait(lambda text, place: parts.append((place, text)), timeout=60), code, command)
            places = [place for place, _ in parts]
            self.assertEqual(places, sorted(places))
            if command.startswith("for"):
                self.assertEqual("".join(text for _, text in parts), "line 1\nline 2\nline 3\n")
        # More than a backfill holds, written before anybody listens; and letters of more than a byte.
        many = "python3 -c \"print('é世' * 400000, end='')\"; sleep 0.5"
        run, parts = self.client.run_app_async(appmesh.App({"command": many, "shell": True}), max_time=60, lifecycle=120), []
        self.assertEqual(run.wait(lambda text, place: parts.append(text), timeout=60), 0)
        self.assertEqual("".join(parts), "é世" * 400000)
        # Its time is over: killed, and told so.
        run = self.client.run_app_async(appmesh.App({"command": "sleep 1000"}), max_time=1, lifecycle=120)
        self.assertEqual(run.wait(timeout=60), 9)

    def test_start_output_and_end_come_in_order_and_removal_is_last(self):
        heard = Heard()
        app = self.client.add_app(
            appmesh.App({"name": "told", "command": "echo one; sleep 0.3; echo two", "shell": True, "behavior": {"exit": "standby"}}),
            subscribe_events=["START", "STDOUT", "EXIT", "REMOVED"], callback=heard)
        self.assertTrue(app.subscription_id)
        heard.wait(lambda heard: "EXIT" in heard.words())
        self.client.delete_app("told")
        heard.wait(lambda heard: "REMOVED" in heard.words())
        words = heard.words()
        self.assertEqual((words[0], words[-2:], set(words[1:-2])), ("START", ["EXIT", "REMOVED"], {"STDOUT"}))
        self.assertEqual(heard.output(), "one\ntwo\n")
        start, end = heard.events[0], heard.events[-2]
        self.assertTrue(start.data["process_uuid"])
        self.assertEqual((end.data["exit_code"], end.data["pid"]), (0, start.data["pid"]))
        sequence = [event.sequence for event in heard.events]
        self.assertEqual(sequence, sorted(set(sequence)))
        self.assertEqual({event.app_name for event in heard.events}, {"told"})

    def test_all_applications_can_be_listened_to_and_a_stop_comes_before_a_removal(self):
        heard = Heard()
        subscription = self.client.subscribe("*", ["START", "EXIT", "STATUS", "REMOVED"], heard)
        self.assertEqual((subscription.app_name, subscription.events), ("*", ["START", "EXIT", "STATUS", "REMOVED"]))
        self.client.add_app(appmesh.App({"name": "My_Told", "command": "sleep 1000"}))
        heard.wait(lambda heard: "START" in heard.words())
        self.client.disable_app("My_Told")
        heard.wait(lambda heard: {"STATUS", "EXIT"} <= set(heard.words()))
        status = next(event for event in heard.events if event.event_type == "STATUS")
        self.assertEqual(status.data, {"status": "disabled", "previous_status": "enabled"})
        self.client.enable_app("My_Told")
        heard.wait(lambda heard: heard.words().count("START") == 2)
        self.client.delete_app("My_Told")
        heard.wait(lambda heard: "REMOVED" in heard.words())
        self.assertEqual(heard.words()[-2:], ["EXIT", "REMOVED"])
        self.assertEqual({event.app_name for event in heard.events}, {"My_Told"})
        self.client.unsubscribe(subscription.subscription_id)
        with self.assertRaises(Exception):
            self.client.unsubscribe(subscription.subscription_id)
        with self.assertRaises(Exception):
            self.client.subscribe("*", ["NO_SUCH_EVENT"])
        with self.assertRaises(Exception):
            self.client.subscribe("no-such-app")

    def test_whoever_may_no_longer_listen_is_cut_off(self):
        appm("user", "add", "listener", "--role", "view", "--password-stdin", input="Listener-123")
        self.addCleanup(appm, "user", "rm", "listener")
        other, heard = client("listener", "Listener-123"), Heard()
        self.addCleanup(other.close)
        other.subscribe("*", ["START"], heard)
        self.client.add_app(appmesh.App({"name": "seen", "command": "sleep 1000"}))
        self.addCleanup(self.remove, "seen")
        heard.wait(lambda heard: "START" in heard.words())
        appm("user", "lock", "listener")
        heard.wait(lambda heard: heard.words()[-1] == "__disconnected__")

    def test_subscriptions_of_a_connection_are_bounded(self):
        self.client.add_app(appmesh.App({"name": "quiet", "command": "sleep 1000"}))
        self.addCleanup(self.remove, "quiet")
        other = client()
        self.addCleanup(other.close)
        ids = {other.subscribe("quiet", ["START"]).subscription_id for _ in range(64)}
        self.assertEqual(len(ids), 64)
        with self.assertRaises(Exception):
            other.subscribe("quiet", ["START"])
        other.unsubscribe(ids.pop())
        other.subscribe("quiet", ["START"])


if __name__ == "__main__":
    unittest.main()
