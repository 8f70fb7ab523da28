"""App Mesh's WebSocket by its second generation's SDK, which logs in over it and shows its token in each message."""

import os
import tempfile
import unittest

import appmesh

from world import CA, NEW

ADDRESS = (lambda host, port: (host, int(port)))(*os.environ["APPM_WSS"].split(":"))


@unittest.skipUnless(NEW, "the older SDK has none")
class WebSocket(unittest.TestCase):
    def setUp(self):
        self.client = appmesh.AppMeshClientWSS(wss_address=ADDRESS, ssl_verify=CA)
        self.addCleanup(self.client.close)
        self.client.login("admin", "admin123")

    def test_the_calls_are_those_of_http(self):
        self.client.add_app(appmesh.App({"name": "by-wss", "command": "sleep 1000"}))
        self.addCleanup(self.client.delete_app, "by-wss")
        self.assertIn("by-wss", [app.name for app in self.client.list_apps()])
        self.assertEqual(self.client.run_app_sync(appmesh.App({"command": "echo hi; exit 3", "shell": True})), (3, "hi\n"))
        heard = []
        run = self.client.run_app_async(appmesh.App({"command": "echo one; sleep 0.2; echo two; exit 4", "shell": True}))
        self.assertEqual(run.wait(stdout_handler=lambda text, place: heard.append(text), timeout=30), 4)
        self.assertEqual("".join(heard), "one\ntwo\n")
        self.client.renew_token()
        self.assertTrue(self.client.get_metrics())

    def test_files_go_beside_it(self):
        with tempfile.TemporaryDirectory() as folder:
            there, back, data = f"{folder}/there", f"{folder}/back", os.urandom(1_000_000)
            with open(there, "wb") as file:
                file.write(data)
            self.client.upload_file(there, "new-wss.bin")
            self.client.download_file("new-wss.bin", back)
            with open(back, "rb") as file:
                self.assertEqual(file.read(), data)
            for call in (lambda: self.client.download_file("../worker.key", back), lambda: self.client.upload_file(there, "../x"),
                         lambda: self.client.upload_file(there, "new-wss.bin")):
                with self.assertRaises(Exception):
                    call()
            self.assertTrue(self.client.list_labels() is not None)


if __name__ == "__main__":
    unittest.main()
