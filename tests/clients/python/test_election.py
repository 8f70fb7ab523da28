"""Leader election: three candidates, one leader, and another one when it is killed."""

import itertools
import os
import sys
import tempfile

from world import Case, end, wait_for


class Election(Case):
    def elect(self, lock, holder):
        folder = tempfile.mkdtemp(dir=os.environ["APPM_TMP"])
        path = os.path.join(folder, "leaders")
        open(path, "w", encoding="utf-8").close()
        candidates = {
            name: self.spawn(sys.executable, "candidate.py", lock, self.namespace, name, path) for name in ["anna", "ben", "cleo"]
        }

        def said():
            with open(path, encoding="utf-8") as file:
                return file.read().split()

        terms = lambda: [name for name, _ in itertools.groupby(said())]
        for term in range(3):
            wait_for(f"leader {term + 1}", lambda: len(terms()) == term + 1)
            leader = terms()[-1]
            self.assertEqual(holder(), leader)
            # It leads on, alone, for longer than a round of the others.
            count = len(said())
            wait_for("its work", lambda: len(said()) > count + 30)
            self.assertEqual(len(terms()), term + 1, terms())
            end(candidates.pop(leader))
        self.assertEqual(sorted(terms()), ["anna", "ben", "cleo"])

    def test_three_candidates_share_a_lease(self):
        from kubernetes import client

        leases = client.CoordinationV1Api(self.api)
        self.elect("Lease", lambda: leases.read_namespaced_lease("leader", self.namespace).spec.holder_identity)

    def test_three_candidates_share_a_config_map(self):
        import json

        def holder():
            annotations = self.core.read_namespaced_config_map("leader", self.namespace).metadata.annotations
            return json.loads(annotations["control-plane.alpha.kubernetes.io/leader"])["holderIdentity"]

        self.elect("ConfigMap", holder)
