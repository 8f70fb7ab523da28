"""App Mesh's TCP by its own SDK: the same calls, tasks, workers, and files between the frames."""

import os
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import unittest

import appmesh
import msgpack

APPM = [os.environ["APPM_BIN"], "--data-dir", os.environ["APPM_DATA_DIR"]]
HERE, SDK = os.environ["APPM_HERE"], os.environ["SDK"]
CA, (HOST, PORT) = os.environ["APPM_CA"], os.environ["APPM_TCP"].split(":")
NEW = SDK == "new"
ADDRESS = (HOST, int(PORT))


def client():
    name = "ssl_verify" if NEW else "rest_ssl_verify"
    made = appmesh.AppMeshClientTCP(tcp_address=ADDRESS, **{name: CA})
    made.login("admin", "admin123")
    return made


class Tcp(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def test_the_calls_are_those_of_http(self):
        get, everything = (self.client.get_app, self.client.list_apps) if NEW else (self.client.view_app, self.client.view_all_apps)
        with self.assertRaises(Exception):
            get("nope")
        self.client.add_app(appmesh.App({"name": "by-tcp", "command": "sleep 1000"}))
        self.addCleanup(self.client.delete_app, "by-tcp")
        self.assertEqual(get("by-tcp").command, "sleep 1000")
        self.assertIn("by-tcp", [app.name for app in everything()])
        self.assertEqual(self.client.run_app_sync(appmesh.App({"command": "echo hi; exit 3", "shell": True})), (3, "hi\n"))
        self.client.renew_token()
        self.assertIn("by-tcp", [app.name for app in everything()])

    def test_tasks_go_both_ways(self):
        program = (
            "import os, appmesh\n"
            f"kind = appmesh.AppMeshWorkerTCP if {NEW} else appmesh.AppMeshServerTCP\n"
            f"verify = {{'{'ssl_verify' if NEW else 'rest_ssl_verify'}': '{CA}'}}\n"
            f"worker = kind(tcp_address={ADDRESS!r}, **verify)\n"
            "while True:\n"
            f"    task = worker.{'fetch_task' if NEW else 'task_fetch'}()\n"
            f"    worker.{'send_task_result' if NEW else 'task_return'}(task)\n"
        )
        python = os.environ["APPM_CACHE"] + f"/{SDK}/bin/python"
        app = appmesh.App({"name": "tcp-echo", "command": f"{python} -c \"$PROGRAM\"", "shell": True,
                           "behavior": {"exit": "restart"}, "env": {"PROGRAM": program}})
        self.client.add_app(app)
        self.addCleanup(self.client.delete_app, "tcp-echo")
        for text in ("ping", "héllo 世界", "", "x" * 3_000_000):
            self.assertEqual(self.client.run_task("tcp-echo", text, 60), text)
        results = {}

        def call(n):
            other = client()
            results[n] = [other.run_task("tcp-echo", f"{n}-{i}", 60) for i in range(10)]
            other.close()

        threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(results, {n: [f"{n}-{i}" for i in range(10)] for n in range(4)})

    def test_files_go_between_the_frames(self):
        with tempfile.TemporaryDirectory() as folder:
            there, back = f"{folder}/there", f"{folder}/back"
            data = os.urandom(1_000_000)
            with open(there, "wb") as file:
                file.write(data)
            self.client.upload_file(there, f"{SDK}-tcp.bin")
            self.client.download_file(f"{SDK}-tcp.bin", back)
            with open(back, "rb") as file:
                self.assertEqual(file.read(), data)
            for call in (lambda: self.client.download_file("../worker.key", back), lambda: self.client.upload_file(there, "../x")):
                with self.assertRaises(Exception):
                    call()
            # And the connection is good for the next call.
            self.assertTrue(self.client.get_metrics())

    def test_what_is_no_frame_ends_the_connection(self):
        frame = lambda body: struct.pack("!II", 0x07C707F8, len(body)) + body
        context = ssl.create_default_context(cafile=CA)
        for sent in (b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 0x07C707F8, 0xFFFFFFFF), frame(b"junk"), frame(b"")):
            with context.wrap_socket(socket.create_connection(ADDRESS), server_hostname=HOST) as stream:
                stream.settimeout(30)
                stream.sendall(sent)
                self.assertEqual(stream.recv(1), b"", sent)
        with context.wrap_socket(socket.create_connection(ADDRESS), server_hostname=HOST) as stream:
            stream.settimeout(30)
            for uuid, path in (("1", "/appmesh/applications"), ("2", "/nothing")):
                stream.sendall(frame(msgpack.packb({"uuid": uuid, "request_uri": path, "http_method": "GET", "body": b"", "headers": {}, "query": {}})))
            found = {}
            while len(found) < 2:
                head = b""
                while len(head) < 8:
                    head += stream.recv(8 - len(head))
                body = b""
                while len(body) < struct.unpack("!II", head)[1]:
                    body += stream.recv(65536)
                reply = msgpack.unpackb(body)
                found[reply["uuid"]] = reply["http_status"]
            self.assertEqual(found, {"1": 401, "2": 404})


if __name__ == "__main__":
    unittest.main()
