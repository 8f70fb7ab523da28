"""Logins, users, roles, labels, settings, figures and files by App Mesh's own SDK."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

import appmesh
import requests
from world import APPM, CA, NEW, SDK, URL, appm


def code_of(secret, ahead=0):
    key = base64.b32decode(secret)
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30 + ahead), hashlib.sha1).digest()
    place = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[place:place + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


class Server(unittest.TestCase):
    def setUp(self):
        self.client = self.logged_in("admin", "admin123")

    def logged_in(self, user, password):
        client = appmesh.AppMeshClient()
        client.login(user, password)
        return client

    def token(self, user="admin", password="admin123", **headers):
        return requests.post(f"{URL}/login", auth=(user, password), headers=headers, verify=CA)

    def ask(self, method, path, token, **options):
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return requests.request(method, URL + path, headers=headers, verify=CA, **options)

    def user(self, name, **more):
        self.client.add_user(name, {"key": "Wire_123456", "name": name, "group": "user", "locked": False, **more})
        self.addCleanup(self.client.delete_user, name)

    def test_a_token_is_renewed_and_the_old_one_is_good_no_more(self):
        self.client.renew_token()
        self.assertIsNotNone(self.client.get_app if NEW else self.client.view_app)
        given = self.token(**{"X-Refresh-Token-Request": "true"}).json()
        old = given["access_token"]
        new = self.ask("POST", "/token/renew", old, headers={"X-Expire-Seconds": "60"}).json()
        self.assertEqual((new["expires_in"], new["access_token"] != old), (60, True))
        codes = [self.ask("POST", "/auth", token).status_code for token in (old, new["access_token"])]
        self.assertEqual(codes, [401, 200])
        # The refresh token of the old one went with it; that of another login rotates.
        refresh = lambda token: requests.post(f"{URL}/token/renew", headers={"X-Refresh-Token": token, "X-Refresh-Token-Request": "true"}, verify=CA)
        self.assertEqual(refresh(given["refresh_token"]).status_code, 401)
        other = self.token(**{"X-Refresh-Token-Request": "true"}).json()["refresh_token"]
        again = refresh(other)
        self.assertEqual((again.status_code, again.json()["refresh_token"] != other), (200, True))

    def test_a_token_for_another_service_is_good_for_that_one_alone(self):
        given = self.token(**{"X-Audience": "your-service-api", "X-Refresh-Token-Request": "true"}).json()
        token = given["access_token"]
        self.assertNotIn("refresh_token", given)
        # The other service asks whether it is good, and for what, by its own name.
        asked = lambda audience, **more: self.ask("POST", "/auth", token, headers={"X-Audience": audience, **more}).status_code
        self.assertEqual([asked("your-service-api"), asked("your-service-api", **{"X-Permission": "app-view"})], [200, 200])
        self.assertEqual([asked("another"), asked("appmesh-service"), asked(""), asked("appmesh-refresh")], [401, 401, 401, 400])
        self.assertEqual([self.ask("GET", path, token).status_code for path in ("/applications", "/user/self")], [401, 401])
        own = self.token().json()["access_token"]
        self.assertEqual(self.ask("POST", "/auth", own, headers={"X-Audience": "your-service-api"}).status_code, 401)
        client = appmesh.AppMeshClient()
        if NEW:
            self.assertEqual(client.authenticate(token, audience="your-service-api")[0], True)
            self.assertEqual(client.authenticate(token)[0], False)
        # A lock ends it there, too.
        self.user("guest")
        theirs = self.token("guest", "Wire_123456", **{"X-Audience": "your-service-api"}).json()["access_token"]
        is_good = lambda: self.ask("POST", "/auth", theirs, headers={"X-Audience": "your-service-api"}).status_code
        self.assertEqual(is_good(), 200)
        self.client.lock_user("guest")
        self.assertEqual(is_good(), 401)

    def test_a_second_factor_is_asked_for_by_a_challenge(self):
        self.user("totpuser", roles=["view"])
        client = self.logged_in("totpuser", "Wire_123456")
        secret = client.get_totp_secret()
        with self.assertRaises(Exception):
            (client.enable_totp if NEW else client.setup_totp)("000000")
        (client.enable_totp if NEW else client.setup_totp)(code_of(secret))
        asked = self.token("totpuser", "Wire_123456")
        self.assertEqual((asked.status_code, asked.json()["status"]), (428, "TOTP_CHALLENGE_REQUIRED"))
        challenge = asked.json()["totp_challenge"]
        self.assertEqual(self.token("totpuser", "wrong").status_code, 401)

        def validate(challenge, code, user="totpuser"):
            body = {"user_name": user, "totp_code": code, "totp_challenge": challenge, "expire_seconds": 600}
            return requests.post(f"{URL}/totp/validate", json=body, verify=CA)

        self.assertEqual(validate(challenge, "000000").status_code, 401)
        self.assertEqual(validate("1" + challenge, code_of(secret, 1)).status_code, 401)
        self.assertEqual(validate(challenge, code_of(secret, 1), "admin").status_code, 401)
        good = validate(challenge, code_of(secret, 1))
        self.assertEqual((good.status_code, good.json().get("expires_in")), (200, 600), good.text)
        # A code is good once.
        self.assertEqual(validate(challenge, code_of(secret, 1)).status_code, 401)
        self.client.disable_totp("totpuser")
        self.assertEqual(self.token("totpuser", "Wire_123456").status_code, 200)

    def test_users_and_roles_are_those_of_everybody(self):
        self.client.update_role("wire-role", ["app-run-task", "app-view", "app-view-all"])
        self.addCleanup(self.client.delete_role, "wire-role")
        self.user("wireuser", roles=["wire-role"], email="w@x", exec_user="root")
        users = (self.client.list_users if NEW else self.client.view_users)()
        expected = {"name": "wireuser", "email": "w@x", "group": "user", "exec_user": "root", "locked": False,
                    "mfa_enabled": False, "roles": ["wire-role"]}
        self.assertEqual(users["wireuser"], expected)
        self.assertNotIn("Wire_123456", json.dumps(users) + appm("get", "user", "wireuser", "-o", "json"))
        roles = (self.client.list_roles if NEW else self.client.view_roles)()
        self.assertEqual(roles["wire-role"], ["app-run-task", "app-view", "app-view-all"])
        self.assertIn("user", (self.client.list_groups if NEW else self.client.view_groups)())
        with self.assertRaises(Exception):
            self.client.update_role("bad", ["no-such"])
        other = self.logged_in("wireuser", "Wire_123456")
        own = (other.get_user_permissions if NEW else other.view_user_permissions)()
        self.assertLessEqual({"app-view", "app-run-task", "passwd-change-self"}, set(own))
        self.assertNotIn("app-reg", own)
        self.assertEqual(((other.get_current_user if NEW else other.view_self)())["name"], "wireuser")
        with self.assertRaises(Exception):
            other.add_app(appmesh.App({"name": "no", "command": "true"}))
        token = self.token("wireuser", "Wire_123456").json()["access_token"]
        for method, path in [("PUT", "/app/no"), ("GET", "/users"), ("GET", "/config"), ("POST", "/app/run"),
                             ("GET", "/file/download"), ("POST", "/file/upload"), ("GET", "/metrics"), ("PUT", "/label/a?value=b")]:
            body = {"json": {"name": "no", "command": "true"}} if "app" in path else {}
            answer = self.ask(method, path, token, headers={"X-File-Path": "x"}, **body)
            self.assertEqual(answer.status_code, 403, f"{method} {path}: {answer.text}")
        self.client.lock_user("wireuser")
        self.assertEqual(self.token("wireuser", "Wire_123456").status_code, 401)
        self.client.unlock_user("wireuser")
        again = self.logged_in("wireuser", "Wire_123456")
        (again.update_password if NEW else again.update_user_password)("Wire_123456", "Wire_654321")
        codes = [self.token("wireuser", word).status_code for word in ("Wire_123456", "Wire_654321")]
        self.assertEqual(codes, [401, 200])

    def test_labels_settings_and_figures(self):
        c = self.client
        (c.add_label if NEW else c.add_tag)("wire-label", "v1")
        labels = (c.list_labels if NEW else c.view_tags)()
        self.assertEqual(labels["wire-label"], "v1")
        self.assertIn("wire-label", appm("get", "nodes", "-o", "json"))
        (c.delete_label if NEW else c.delete_tag)("wire-label")
        self.assertNotIn("wire-label", (c.list_labels if NEW else c.view_tags)())
        config = (c.get_config if NEW else c.view_config)()
        self.assertEqual(config["REST"]["RestListenAddress"], "127.0.0.1")
        before = config["BaseConfig"]["LogLevel"]
        self.assertEqual([c.set_log_level(level) for level in ("DEBUG", "WARN", before)], ["DEBUG", "WARN", before])
        with self.assertRaises(Exception):
            c.set_log_level("LOUD")
        with self.assertRaises(Exception):
            c.set_config({"REST": {"RestListenPort": 1}})
        self.assertNotIn("Salt", json.dumps(config))
        resources = (c.get_host_resources if NEW else c.view_host_resources)()
        self.assertGreater(resources["mem_total_bytes"], 1 << 20)
        self.assertIn("appm_", c.get_metrics())

    def test_files_go_up_and_down_and_nowhere_else(self):
        with tempfile.TemporaryDirectory() as folder:
            there, back = f"{folder}/there.bin", f"{folder}/back.bin"
            data = b"line1\n\xff\x00bin\r\n--" * 200_000
            with open(there, "wb") as file:
                file.write(data)
            os.chmod(there, 0o640)
            up = lambda name: self.client.upload_file(there, name)
            inside = os.environ["APPM_DATA_DIR"] + "/files"
            shutil.rmtree(inside, ignore_errors=True)  # what the other version's run left
            up("a b.bin")
            self.client.download_file("a b.bin", back)
            with open(back, "rb") as file:
                self.assertEqual(file.read(), data)
            self.assertEqual(os.stat(back).st_mode & 0o777, 0o640)
            self.assertEqual(os.listdir(inside), ["a b.bin"])
            self.client.download_file(f"{inside}/a b.bin", back)
            token = self.token().json()["access_token"]
            get = lambda path: self.ask("GET", "/file/download", token, headers={"X-File-Path": path}).status_code
            self.assertEqual([get(p) for p in ("none", "../worker.key", f"{inside}/../worker.key", "/etc/passwd", "")], [404, 403, 403, 403, 400])
            for name in ("a b.bin", "../out.bin", "/tmp/out.bin"):
                with self.assertRaises(Exception):
                    up(name)
            # What breaks off leaves nothing behind.
            half = self.ask("POST", "/file/upload", token, data=b"--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhalf",
                            headers={"X-File-Path": "half", "Content-Type": "multipart/form-data; boundary=B"})
            self.assertEqual((half.status_code, os.listdir(inside)), (400, ["a b.bin"]))
            raw = self.ask("POST", "/file/upload", token, data=b"raw", headers={"X-File-Path": "raw%20one"})
            self.assertEqual(raw.status_code, 200, raw.text)
            with open(f"{inside}/raw one", "rb") as file:
                self.assertEqual(file.read(), b"raw")


if __name__ == "__main__":
    unittest.main()
