"""A candidate in an election: candidate.py LOCK NAMESPACE IDENTITY FILE. Says in FILE when it leads, several times a second."""

import sys
import time

from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

kind, namespace, identity, path = sys.argv[1:]


def lead():
    while True:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{identity}\n")
        time.sleep(0.05)


config.load_kube_config()
lock = {"ConfigMap": ConfigMapLock, "Lease": LeaseLock}[kind]("leader", namespace, identity)
# A leader that cannot renew ends at once, so that it leads no more.
leaderelection.LeaderElection(
    electionconfig.Config(lock, lease_duration=4, renew_deadline=3, retry_period=1, onstarted_leading=lead, onstopped_leading=lambda: sys.exit(1))
).run()
