// Package appm proves client-go against the server that KUBECONFIG names.
package appm

import (
	"context"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const patience = time.Minute

var apps = schema.GroupVersionResource{Group: "appm.dev", Version: "v1", Resource: "apps"}

type world struct {
	config    *rest.Config
	client    kubernetes.Interface
	dynamic   dynamic.Interface
	namespace string
}

// newWorld connects, and makes a namespace for this test.
func newWorld(t *testing.T) world {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must(t, err)
	config.QPS, config.Burst = 1000, 1000
	client := kubernetes.NewForConfigOrDie(config)
	made, err := client.CoreV1().Namespaces().Create(context.TODO(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "client-go-"}}, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		must(t, client.CoreV1().Namespaces().Delete(context.TODO(), made.Name, metav1.DeleteOptions{}))
	})
	return world{config, client, dynamic.NewForConfigOrDie(config), made.Name}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually looks until look is satisfied.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	if wait.PollImmediate(20*time.Millisecond, patience, func() (bool, error) { return look(), nil }) != nil {
		t.Fatalf("gave up waiting for %s", what)
	}
}

func refused(t *testing.T, err error, reason metav1.StatusReason) {
	t.Helper()
	if apierrors.ReasonForError(err) != reason {
		t.Fatalf("%v instead of %s", err, reason)
	}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value}}
}

// app is an App; suspended, nothing of it runs.
func app(name string, suspend bool) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]interface{}{
		"apiVersion": "appm.dev/v1",
		"kind":       "App",
		"metadata":   map[string]interface{}{"name": name},
		"spec": map[string]interface{}{
			"replicas": int64(2),
			"suspend":  suspend,
			"process":  map[string]interface{}{"command": []interface{}{"sleep", "1000"}},
		},
	}}
}
