"""Calls through another server (`forward_to`) by App Mesh's own SDK, over HTTPS and TCP."""

import json
import os
import subprocess
import tempfile
import unittest

import appmesh
from world import CA, NEW, URL, appm

BIN = os.environ["APPM_BIN"]


class Forwarding(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A server that has nothing but a peer: the one of all other tests.
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.data = os.path.join(folder.name, "data")
        home = URL.removeprefix("https://").removesuffix("/appmesh")
        peer = json.dumps({"name": "home", "address": home, "caFile": CA})
        words = [BIN, "server", "--data-dir", cls.data, "--listen", "127.0.0.1:0", "--tcp-listen", "127.0.0.1:0", "--peer", peer]
        cls.server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.stdout.close)
        cls.addClassCleanup(subprocess.run, [BIN, "--data-dir", cls.data, "server", "stop", "--apps"], stdout=subprocess.DEVNULL)
        said = {}
        for line in cls.server.stdout:
            word, _, rest = line.strip().partition(" ")
            said[word] = rest
            if word == "ready":
                break
        cls.url, cls.tcp = said["ready"], said["tcp"].split(":")
        cls.ca = os.path.join(cls.data, "pki", "ca.pem")

    def clients(self):
        if not NEW:
            yield appmesh.AppMeshClient(rest_url=self.url, rest_ssl_verify=self.ca)
            return
        yield appmesh.AppMeshClient(base_url=self.url, ssl_verify=self.ca)
        # The older one refuses to do it over TCP.
        yield appmesh.AppMeshClientTCP(tcp_address=(self.tcp[0], int(self.tcp[1])), ssl_verify=self.ca)

    def test_a_call_is_done_at_the_host_that_is_named_and_nowhere_else(self):
        for client in self.clients():
            with self.subTest(type(client).__name__):
                client.forward_to = "home"
                client.login("admin", "admin123")
                client.add_app(appmesh.App({"name": "far", "command": "sleep 1000"}))
                self.assertIn("far", appm("get", "apps"))
                code, said = client.run_app_sync(appmesh.App({"command": "echo from home", "shell": True}))
                self.assertEqual((code, said), (0, "from home\n"))
                client.delete_app("far")
                client.forward_to = "elsewhere"
                with self.assertRaises(Exception):
                    (client.list_apps if NEW else client.view_all_apps)()
