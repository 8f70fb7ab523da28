"""Other people's systems, for `bench/task`: a payload into a process and back, as each of them is meant to be used.

A peer brings its servers and workers up in `start`, which says why if it cannot; `call` in a process of its own makes the call.
"""

import os
import subprocess
import sys
import time

HERE = os.path.abspath(__file__)


class Peer:
    """What runs of it, in a folder of its own."""

    name = ""

    def __init__(self, python, folder):
        self.python, self.folder, self.began, self.env = python, folder, [], {}
        os.makedirs(folder)

    def run(self, *words, env=None):
        log = open(f"{self.folder}/log", "ab")
        process = subprocess.Popen(words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.env, **(env or {})})
        self.began.append(process)
        return process

    def lacks(self, *modules):
        """What of these cannot be imported."""
        code = f"import {', '.join(modules)}"
        return subprocess.run([self.python, "-c", code], capture_output=True).returncode and f"no {' '.join(modules)} in {self.python}"

    def until(self, path, seconds=60):
        for _ in range(seconds * 50):
            if os.path.exists(path):
                return None
            if any(process.poll() is not None for process in self.began):
                break
            time.sleep(0.02)
        return "it did not start: " + open(f"{self.folder}/log").read()[-300:].strip().replace("\n", " | ")

    def pids(self):
        return [self.began[0].pid]

    def stop(self):
        for process in reversed(self.began):
            process.terminate()
        for process in self.began:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Grpc(Peer):
    """One server with bytes for messages: no code is generated, nothing stands between caller and handler."""

    name = "gRPC-Python"

    def start(self, env):
        self.env["PEER_SOCKET"] = f"unix:{self.folder}/socket"
        return self.lacks("grpc") or (self.run(self.python, HERE, "work", self.name) and self.until(f"{self.folder}/socket"))

    @staticmethod
    def work():
        import grpc
        from concurrent.futures import ThreadPoolExecutor

        handler = grpc.method_handlers_generic_handler("bench", {"Echo": grpc.unary_unary_rpc_method_handler(lambda data, _: data)})
        server = grpc.server(ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(os.environ["PEER_SOCKET"])
        server.start()
        server.wait_for_termination()

    @staticmethod
    def call():
        import grpc

        return grpc.insecure_channel(os.environ["PEER_SOCKET"]).unary_unary("/bench/Echo")


class Redis(Peer):
    """Two lists: the task's, and one for each caller's results."""

    name = "Redis lists"

    def start(self, env):
        return self.lacks("redis") or self.redis() or (self.run(self.python, HERE, "work", self.name) and None)

    def redis(self):
        self.env["PEER_SOCKET"] = f"{self.folder}/redis"
        try:
            self.run("redis-server", "--port", "0", "--unixsocket", self.env["PEER_SOCKET"], "--save", "", "--appendonly", "no")
        except FileNotFoundError:
            return "no redis-server on the path"
        return self.until(self.env["PEER_SOCKET"])

    @staticmethod
    def work():
        import redis

        server = redis.Redis(unix_socket_path=os.environ["PEER_SOCKET"])
        while True:
            name, data = server.brpop("tasks")[1].split(b" ", 1)
            server.lpush(name, data)

    @staticmethod
    def call():
        import redis

        server, own = redis.Redis(unix_socket_path=os.environ["PEER_SOCKET"]), b"results-%d" % os.getpid()

        def call(data):
            server.lpush("tasks", own + b" " + data)
            return server.brpop(own)[1]

        return call


def celery_app():
    import celery

    at = "redis+socket://" + os.environ["PEER_SOCKET"]
    app = celery.Celery("bench", broker=at, backend=at)
    app.conf.update(task_serializer="pickle", result_serializer="pickle", accept_content=["pickle"], worker_hijack_root_logger=False)

    @app.task(name="echo")
    def echo(data):
        return data

    return app, echo


class Celery(Redis):
    """One worker process over Redis, which keeps its results, too."""

    name = "Celery"

    def start(self, env):
        why = self.lacks("celery", "redis") or self.redis()
        return why or (self.run(self.python, HERE, "work", self.name, env={"C_FORCE_ROOT": "1"}) and None)

    @staticmethod
    def work():
        app, _ = celery_app()
        app.worker_main(["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"])

    @staticmethod
    def call():
        _, echo = celery_app()
        return lambda data: echo.delay(data).get(timeout=60, interval=0.001)


class Ray(Peer):
    """An actor on one node; callers are drivers of the same cluster."""

    name = "Ray"

    def start(self, env):
        self.env.update(RAY_TMPDIR=self.folder, RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", RAY_AUTH_MODE="disabled", PEER_READY=f"{self.folder}/ready")
        return self.lacks("ray") or (self.run(self.python, HERE, "work", self.name) and self.until(f"{self.folder}/ready", 120))

    def pids(self):
        return []

    @staticmethod
    def work():
        import ray

        ray.init(num_cpus=2, _node_ip_address="127.0.0.1", include_dashboard=False, _temp_dir=os.environ["RAY_TMPDIR"] + "/ray", log_to_driver=False)

        @ray.remote
        class Echo:
            def echo(self, data):
                return data

        kept = Echo.options(name="echo", namespace="bench", lifetime="detached", num_cpus=0, max_concurrency=8).remote()
        ray.get(kept.echo.remote(b""))
        with open(os.environ["PEER_READY"], "w") as file:
            file.write(ray.get_runtime_context().gcs_address)
        while True:
            time.sleep(1000)

    @staticmethod
    def call():
        import ray

        ray.init(address=open(os.environ["PEER_READY"]).read(), namespace="bench", log_to_driver=False, logging_level="ERROR")
        actor = ray.get_actor("echo")
        return lambda data: ray.get(actor.echo.remote(data))


ALL = [Grpc, Redis, Celery, Ray]

if __name__ == "__main__":
    peer = next(peer for peer in ALL if peer.name == sys.argv[2])
    if sys.argv[1] == "work":
        peer.work()
    else:
        # `task` has no ending by which it could be imported.
        import importlib.machinery
        import importlib.util

        loader = importlib.machinery.SourceFileLoader("bench_task", os.path.join(os.path.dirname(HERE), "task"))
        task = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_task", loader))
        loader.exec_module(task)
        task.measure(peer.call(), int(sys.argv[3]), float(sys.argv[4]))
