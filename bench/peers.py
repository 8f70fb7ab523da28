"""Other supervisors, measured as bench/supervise measures appm, in the same run: Supervisor (PyPI) and pm2 (npm).

Each is installed into the run's temporary directory by its own package manager, with a pinned version.
"""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time

SUPERVISOR, PM2 = "supervisor==4.3.0", "pm2@6.0.8"


class Peer:
    """A supervisor in a directory of its own; its daemon's pid is `self.pid`."""

    def __init__(self, root, tools):
        self.tools = tools
        self.root = os.path.join(root, type(self).__name__.lower())
        os.makedirs(self.root)
        self.pid = None

    def sleeping(self):
        return sum(1 for pid in self.tools.children(self.pid) if self.tools.comm(pid) == "sleep")

    def pids(self):
        """All its own processes."""
        return [self.pid]


class Supervisor(Peer):
    name = SUPERVISOR.replace("==", " ")

    def install(self):
        env = os.path.join(self.root, "env")
        subprocess.run([sys.executable, "-m", "venv", env], check=True, stdout=sys.stderr)
        subprocess.run([f"{env}/bin/pip", "install", "-q", "--disable-pip-version-check", SUPERVISOR, "setuptools<81"],
                       check=True, stdout=sys.stderr)
        self.daemon = f"{env}/bin/supervisord"

    def run(self, command, count, log=None):
        """Starts the daemon with so many copies; returns when it has forked."""
        conf = os.path.join(self.root, "conf")
        words = " ".join(f'"{word}"'.replace("%", "%%") for word in command)
        output = f"stdout_logfile={log}\nstdout_logfile_maxbytes=0\n" if log else "stdout_logfile=NONE\n"
        with open(conf, "w") as f:
            f.write(f"[supervisord]\nnodaemon=true\nlogfile={self.root}/daemon.log\npidfile={self.root}/pid\n"
                    f"childlogdir={self.root}\nminfds={4 * count + 1000}\n"
                    f"[program:one]\ncommand={words}\nprocess_name=%(program_name)s_%(process_num)d\nnumprocs={count}\n"
                    f"startsecs=0\nautorestart={'false' if log else 'true'}\nstderr_logfile=NONE\n{output}")
        self.process = subprocess.Popen([self.daemon, "-c", conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.pid = self.process.pid

    def stop(self):
        if self.pid:
            left = self.tools.children(self.pid)
            self.process.kill()
            self.process.wait()
            for pid in left:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.pid = None


class Pm2(Peer):
    name = PM2.replace("@", " ")

    def install(self):
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", self.root, PM2], check=True,
                       stdout=sys.stderr)
        self.env = {**os.environ, "PM2_HOME": os.path.join(self.root, "home"), "PM2_DISABLE_VERSION_CHECK": "true"}
        self.cli = os.path.join(self.root, "node_modules/.bin/pm2")

    def call(self, *words):
        return subprocess.run([self.cli, *words], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def run(self, command, count, log=None):
        # The daemon first: its own start is not what is measured.
        self.call("ping")
        with open(os.path.join(self.root, "home/pm2.pid")) as f:
            self.pid = int(f.read())
        app = {"name": "one", "script": command[0], "args": command[1:], "interpreter": "none", "exec_mode": "fork",
               "instances": count, "autorestart": not log, "merge_logs": True, "min_uptime": 0, "max_restarts": 1000000,
               "out_file": log or "/dev/null", "error_file": "/dev/null"}
        path = os.path.join(self.root, "one.config.json")
        with open(path, "w") as f:
            json.dump({"apps": [app]}, f)
        self.starting = subprocess.Popen([self.cli, "start", path], env=self.env, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if not self.pid:
            return
        self.starting.wait()
        left = self.tools.children(self.pid)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for pid in left:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.tools.wait_for("pm2 to end", lambda: not self.tools.comm(self.pid))
        self.pid = None


def measure(peer, tools, options):
    """The figures of one peer: start, restart p50 and p99, idle share, memory, log rate and rate per CPU second."""
    figures = {}
    try:
        peer.install()
        begin = time.monotonic()
        peer.run([tools.SLEEP, "100000"], options.apps)
        # A thousand take some of them minutes, and each look costs the machine something.
        tools.wait_for(f"{options.apps} processes of {peer.name}", lambda: peer.sleeping() >= options.apps, 0.02, 900)
        figures["start"] = time.monotonic() - begin
        time.sleep(10)
        before, begin = [tools.cpu_seconds(pid) for pid in peer.pids()], time.monotonic()
        time.sleep(options.idle_seconds)
        used = sum(tools.cpu_seconds(pid) for pid in peer.pids()) - sum(before)
        figures["idle"] = 100 * used / (time.monotonic() - begin)
        figures["memory"] = sum(tools.pss_mib(pid) for pid in peer.pids())
        peer.stop()
        figures["p50"], figures["p99"] = restarts(peer, tools, options.kills)
        peer.stop()
        figures["rate"], figures["per_cpu"] = logs(peer, tools, options.gib)
    finally:
        peer.stop()
    return figures


def restarts(peer, tools, kills):
    """Kills one of twenty at a time, and waits for the next to ring."""
    count = 20
    bell = tools.Bell(peer.root, "bell")
    peer.run(["/bin/sh", "-c", f"echo sleeper $$ > {bell.path}; exec {tools.SLEEP} 100000"], count)
    pids = [bell.rung()[1] for _ in range(count)]
    time.sleep(2)
    times = []
    for n in range(kills):
        tools.wait_for("exec", lambda: tools.comm(pids[n % count]) == "sleep", 0.002)
        time.sleep(random.uniform(0.02, 0.06))
        begin = time.monotonic()
        os.kill(pids[n % count], signal.SIGKILL)
        pids[n % count] = bell.rung()[1]
        times.append(time.monotonic() - begin)
    return tools.percentile(times, 50), tools.percentile(times, 99)


def logs(peer, tools, gib):
    """A child copies a file to its output; how fast it is in the log, and for how much CPU of the daemon."""
    target = os.path.join(peer.root, "log")
    source = os.path.join(peer.root, "source")
    with open(source, "wb") as f:
        # Lines of text: pm2 decodes what it takes, and bytes that are none would grow.
        for _ in range(256):
            f.write(base64.encodebytes(os.urandom(776 << 10)))
    block = os.path.getsize(source)
    copies, bell = gib * 4, tools.Bell(peer.root, "log-bell")
    total = block * copies
    files = " ".join([source] * copies)
    peer.run(["/bin/sh", "-c", f"echo talker $$ > {bell.path}; exec cat {files}"], 1, target)
    bell.rung()
    before, begin = sum(tools.cpu_seconds(pid) for pid in peer.pids()), time.monotonic()
    tools.wait_for("the log to be whole", lambda: os.path.exists(target) and os.path.getsize(target) >= total)
    took = time.monotonic() - begin
    cpu = sum(tools.cpu_seconds(pid) for pid in peer.pids()) - before
    return total / took / 1e9, total / max(cpu, 1e-9) / 1e9
