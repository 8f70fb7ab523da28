package appm

import (
	"context"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Three candidates, one leader at a time. A leader that dies without a word is followed when its time has run out; one that
// steps down, at once.
func TestThreeCandidatesShareALease(t *testing.T) {
	w := newWorld(t)
	var lock sync.Mutex
	leading := map[string]bool{}
	candidates := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	for _, name := range []string{"anna", "ben", "cleo"} {
		name := name
		ctx, cancel := context.WithCancel(context.Background())
		candidates[name] = cancel
		mark := func(leads bool) {
			lock.Lock()
			defer lock.Unlock()
			leading[name] = leads
		}
		lease := &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: w.namespace},
			Client:     w.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lease, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
			ReleaseOnCancel: name == "ben",
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { mark(true) },
				OnStoppedLeading: func() { mark(false) },
			},
		})
		must(t, err)
		running.Add(1)
		go func() {
			defer running.Done()
			elector.Run(ctx)
		}()
	}
	leaders := func() (names []string) {
		lock.Lock()
		defer lock.Unlock()
		for name, leads := range leading {
			if leads {
				names = append(names, name)
			}
		}
		return names
	}
	for term := 0; term < 3; term++ {
		eventually(t, "a leader", func() bool { return len(leaders()) == 1 })
		leader := leaders()[0]
		told, err := w.client.CoordinationV1().Leases(w.namespace).Get(context.TODO(), "leader", metav1.GetOptions{})
		must(t, err)
		if *told.Spec.HolderIdentity != leader {
			t.Fatalf("%s leads, and the Lease says %s", leader, *told.Spec.HolderIdentity)
		}
		// A released lease counts its next holder too.
		if *told.Spec.LeaseTransitions < int32(term) {
			t.Fatalf("%d transitions in term %d", *told.Spec.LeaseTransitions, term)
		}
		for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if now := leaders(); len(now) != 1 || now[0] != leader {
				t.Fatalf("%v lead in the term of %s", now, leader)
			}
		}
		candidates[leader]()
		eventually(t, "its end", func() bool { now := leaders(); return len(now) == 0 || now[0] != leader })
	}
	running.Wait()
}
