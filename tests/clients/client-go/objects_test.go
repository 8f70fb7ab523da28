package appm

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/retry"
)

func TestTheDynamicClientAndConflicts(t *testing.T) {
	w := newWorld(t)
	client := w.dynamic.Resource(apps).Namespace(w.namespace)
	made, err := client.Create(context.TODO(), app("web", true), metav1.CreateOptions{})
	must(t, err)
	_, err = client.Create(context.TODO(), app("web", true), metav1.CreateOptions{})
	refused(t, err, metav1.StatusReasonAlreadyExists)
	_, err = client.Patch(context.TODO(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{})
	must(t, err)
	_, err = client.Patch(context.TODO(), "web", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{})
	refused(t, err, metav1.StatusReasonUnsupportedMediaType)
	_, err = client.Update(context.TODO(), made, metav1.UpdateOptions{})
	refused(t, err, metav1.StatusReasonConflict)
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := client.Get(context.TODO(), "web", metav1.GetOptions{})
		must(t, err)
		must(t, unstructured.SetNestedField(now.Object, int64(5), "spec", "replicas"))
		_, err = client.Update(context.TODO(), now, metav1.UpdateOptions{})
		return err
	}))
	now, err := client.Get(context.TODO(), "web", metav1.GetOptions{})
	must(t, err)
	if replicas, _, _ := unstructured.NestedInt64(now.Object, "spec", "replicas"); replicas != 5 {
		t.Fatal(now)
	}
	must(t, client.Delete(context.TODO(), "web", metav1.DeleteOptions{}))
	eventually(t, "the App to go", func() bool {
		left, err := client.List(context.TODO(), metav1.ListOptions{})
		return err == nil && len(left.Items) == 0
	})
}

func TestTheEventRecorderCountsWhatRepeats(t *testing.T) {
	w := newWorld(t)
	made, err := w.client.CoreV1().ConfigMaps(w.namespace).Create(context.TODO(), configMap("web", "1"), metav1.CreateOptions{})
	must(t, err)
	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: w.client.CoreV1().Events(w.namespace)})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tester"})
	for i := 0; i < 3; i++ {
		recorder.Eventf(made, corev1.EventTypeWarning, "Tested", "again and again")
	}
	// The first is a POST, the others are strategic merge patches of its count.
	eventually(t, "three of them", func() bool {
		events, err := w.client.CoreV1().Events(w.namespace).Search(scheme.Scheme, made)
		return err == nil && len(events.Items) == 1 && events.Items[0].Count == 3
	})
}
