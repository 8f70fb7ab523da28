"""The library against a live server."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

from appm import AsyncClient, Client, ConnectionLost, Refused, serve
from appm.lines import read_line, said

SOCKET = os.path.join(os.environ["APPM_DATA_DIR"], "appm.sock")
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")


def ask(method, path, body=None):
    request = urllib.request.Request(os.environ["APPM_URL"] + path, method=method, data=body and json.dumps(body).encode())
    request.add_header("Authorization", "Bearer " + os.environ["APPM_TOKEN"])
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=os.environ["APPM_CA"])) as answer:
        return json.load(answer)


def apps():
    return "/apis/appm.dev/v1/namespaces/default/apps"


def declare(name, kind, mode):
    spec = {
        "process": {"command": [sys.executable, "-u", WORKER, kind]},
        "env": [{"name": "PYTHONPATH", "value": os.environ["PYTHONPATH"]}],
        "task": {"mode": mode, "concurrency": 1 if kind == "sync" else 8, "timeout": "60s"},
        "restart": {"backoff": {"initial": "100ms"}},
    }
    ask("POST", apps(), {"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})


def output(name):
    return subprocess.run([os.environ["APPM_BIN"], "logs", name], capture_output=True, text=True, check=True).stdout


class Library(unittest.TestCase):
    """Every kind of worker does the same, whichever way its tasks come."""

    def each(self, kind, check):
        for mode in ("Requests", "Lines"):
            name = f"{kind}-{mode.lower()}"
            with self.subTest(app=name), Client() as client:
                declare(name, kind, mode)
                self.check(name, client)
                check(name, client)

    def check(self, name, client):
        self.assertEqual(client.run(name, b"hello"), b"olleh")
        self.assertEqual(client.run(name, "nothing"), b"")
        large = os.urandom(3_000_000)
        self.assertEqual(client.run(name, large), large[::-1])
        with self.assertRaises(Refused) as refused:
            client.run(name, "fail")
        self.assertIn("ValueError: not this one", str(refused.exception))
        self.assertEqual((refused.exception.code, refused.exception.may_have_begun), (500, True))
        # What is no result is told as one, and not taken for so many zeros.
        with self.assertRaises(Refused) as refused:
            client.run(name, "number")
        self.assertIn("TypeError: expected bytes, str or None, and not int", str(refused.exception))
        with self.assertRaises(Refused) as refused:
            client.run(name, "sleep 5", timeout=0.2)
        self.assertEqual(refused.exception.code, 504)

    def test_one_at_a_time(self):
        def check(name, client):
            # What it prints is in its log, by lines too; and of what it raised, where.
            log = output(name)
            self.assertIn("got hello", log)
            self.assertIn("ValueError: not this one", log)
            told = list(client.stream(name, b"parts so it goes"))
            self.assertEqual((b"".join(told), told[0]), (b"soitgoes", b"so"))
            self.assertEqual(client.run(name, b"parts so it goes"), b"soitgoes")
            with self.assertRaises(Refused) as refused:
                client.run(name, "die")
            self.assertEqual(refused.exception.causes["Signal"], "SIGKILL")
            self.assertEqual(client.run(name, b"again"), b"niaga")

        self.each("sync", check)

    def test_many_at_a_time(self):
        def check(name, client):
            began, results = time.monotonic(), []
            callers = [threading.Thread(target=lambda: results.append(client.run(name, "sleep 1"))) for _ in range(6)]
            [caller.start() for caller in callers]
            [caller.join() for caller in callers]
            self.assertEqual(results, [b"slept"] * 6)
            self.assertLess(time.monotonic() - began, 4)

            if name.startswith("threads"):
                # In a thread it ends nothing but the task.
                with self.assertRaises(Refused) as refused:
                    client.run(name, "exit")
                self.assertIn("SystemExit: enough", str(refused.exception))

        self.each("threads", check)
        self.each("loop", check)

    def test_callers_of_one_loop_share_a_connection(self):
        declare("shared", "loop", "Requests")

        async def all_at_once():
            async with AsyncClient() as client:
                results = await asyncio.gather(*(client.run("shared", f"number {i}") for i in range(100)))
                self.assertEqual(results, [f"number {i}".encode()[::-1] for i in range(100)])
                self.assertEqual([part async for part in client.stream("shared", "whole")], [b"elohw"])
                with self.assertRaises(Refused) as refused:
                    await client.run("nobody", "x")
                self.assertEqual((refused.exception.code, refused.exception.may_have_begun), (404, False))
                # One that is given up is over.
                given_up = asyncio.create_task(client.run("shared", "sleep 30"))
                await asyncio.sleep(0.3)
                given_up.cancel()
                await asyncio.gather(given_up, return_exceptions=True)
                while ask("GET", apps() + "/shared/task")["items"]:
                    await asyncio.sleep(0.05)
                # The process is told, and stops working on it: as many as it takes at a time stand in nobody's way.
                for _ in range(8):
                    with self.assertRaises(Refused):
                        await client.run("shared", "sleep 30", timeout=0.1)
                self.assertEqual(await asyncio.wait_for(client.run("shared", "next"), 10), b"txen")

        asyncio.run(asyncio.wait_for(all_at_once(), 60))

    def test_a_worker_ends_when_there_is_nothing_more_for_it(self):
        declare("going", "sync", "Requests")
        with Client() as client:
            client.run("going", "x")
        ask("DELETE", apps() + "/going")

    def test_somebody_else_at_the_socket_is_no_server(self):
        path = os.path.join(os.environ["APPM_TMP"], "other.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(path)
            other.listen(1)

            def answer():
                connection = other.accept()[0]
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(1)

            threading.Thread(target=answer).start()
            with self.assertRaisesRegex(ConnectionLost, "no appm server: it speaks otherwise"):
                Client(socket=path).run("x")

    def test_lines_say_what_any_reader_of_json_reads(self):
        texts = [b"", b"hello", "é\U0001f600\u2028".encode(), b'"\\"', b'"}', bytes(range(128)), b"\\u0041", b'","id":8,"data":"x']
        for text in texts:
            self.assertEqual(json.loads(said(7, "data", text)), {"id": 7, "data": text.decode()})
            self.assertEqual(said(7, "part", text).count(b"\n"), 1)
            for separators in ((",", ":"), (", ", ": ")):
                for is_ascii in (True, False):
                    line = json.dumps({"id": 7, "data": text.decode()}, separators=separators, ensure_ascii=is_ascii)
                    self.assertEqual(read_line(line.encode() + b"\n"), (7, text))
        self.assertEqual(json.loads(said(7, "part", b"\xff")), {"id": 7, "partBase64": "/w=="})
        self.assertEqual(read_line(b'{"id":7,"base64":"/w=="}\n'), (7, b"\xff"))
        for none in (b"\n", b'{"id":7,"data":"cut off\n', b'cut off"}\n', b'{"id":7}\n', b'{"id":"7","data":"x"}\n', b'{"id":7,"data":"x","a":"b"\n'):
            self.assertIsNone(read_line(none), none)

    def test_mistakes_are_told_at_once(self):
        with self.assertRaisesRegex(ConnectionLost, "there is no .*none: does the server run"):
            Client(socket=SOCKET + ".none").run("x")
        for wrong in (5, {"a": 1}, [1, 2]):
            with self.assertRaisesRegex(TypeError, "expected bytes, str or None"):
                Client().run("x", wrong)
        for wrong in (0, -1, float("nan"), float("inf")):
            with self.assertRaisesRegex(ValueError, "how many seconds"):
                Client().run("x", b"", timeout=wrong)
        with self.assertRaisesRegex(ValueError, "more than one task"):
            Client().run("x", bytes((64 << 20) + 1))
        with self.assertRaisesRegex(ValueError, "slots"):
            serve(lambda data: data, slots=0)
        with self.assertRaisesRegex(TypeError, "a function of bytes"):
            serve("handler")
        with self.assertRaisesRegex(SystemExit, "no process of an App"):
            serve(lambda data: data)


if __name__ == "__main__":
    unittest.main()
