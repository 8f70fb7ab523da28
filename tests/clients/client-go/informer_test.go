package appm

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

func TestAnInformerKeepsATrueCopy(t *testing.T) {
	w := newWorld(t)
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	_, err := maps.Create(context.TODO(), configMap("first", "1"), metav1.CreateOptions{})
	must(t, err)

	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(w.namespace))
	informer := factory.Core().V1().ConfigMaps()
	var lock sync.Mutex
	var seen []string
	note := func(what string, object interface{}) {
		lock.Lock()
		defer lock.Unlock()
		seen = append(seen, what+" "+object.(*corev1.ConfigMap).Name)
	}
	informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object interface{}) { note("add", object) },
		UpdateFunc: func(_, object interface{}) { note("update", object) },
		DeleteFunc: func(object interface{}) { note("delete", object) },
	})
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	factory.WaitForCacheSync(stop)

	_, err = maps.Create(context.TODO(), configMap("second", "2"), metav1.CreateOptions{})
	must(t, err)
	_, err = maps.Update(context.TODO(), configMap("first", "3"), metav1.UpdateOptions{})
	must(t, err)
	must(t, maps.Delete(context.TODO(), "second", metav1.DeleteOptions{}))
	expected := []string{"add first", "add second", "update first", "delete second"}
	eventually(t, "all changes", func() bool {
		lock.Lock()
		defer lock.Unlock()
		return len(seen) == len(expected)
	})
	if !reflect.DeepEqual(seen, expected) {
		t.Fatal(seen)
	}
	copied, err := informer.Lister().ConfigMaps(w.namespace).List(labels.Everything())
	must(t, err)
	if len(copied) != 1 || copied[0].Data["value"] != "3" {
		t.Fatal(copied)
	}
}

func TestADynamicInformerSeesAnAppBecomeReady(t *testing.T) {
	w := newWorld(t)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(w.dynamic, 0, w.namespace, nil)
	lister := factory.ForResource(apps).Lister()
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	_, err := w.dynamic.Resource(apps).Namespace(w.namespace).Create(context.TODO(), app("web", false), metav1.CreateOptions{})
	must(t, err)
	eventually(t, "two ready replicas", func() bool {
		found, err := lister.ByNamespace(w.namespace).Get("web")
		if err != nil {
			return false
		}
		ready, _, _ := unstructured.NestedInt64(found.(*unstructured.Unstructured).Object, "status", "readyReplicas")
		return ready == 2
	})
}

func TestARetryWatcherMissesNothing(t *testing.T) {
	w := newWorld(t)
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	made, err := maps.Create(context.TODO(), configMap("counter", "start"), metav1.CreateOptions{})
	must(t, err)
	// Each connection ends after a second; the watcher goes on from what it saw last.
	timeout := int64(1)
	watching, err := watchtools.NewRetryWatcher(made.ResourceVersion, &cache.ListWatch{
		WatchFunc: func(options metav1.ListOptions) (watch.Interface, error) {
			options.TimeoutSeconds = &timeout
			return maps.Watch(context.TODO(), options)
		},
	})
	must(t, err)
	defer watching.Stop()
	const count = 300
	go func() {
		for i := 0; i < count; i++ {
			patch := fmt.Sprintf(`{"data":{"value":"%d"}}`, i)
			if _, err := maps.Patch(context.TODO(), "counter", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := 0; i < count; i++ {
		event := <-watching.ResultChan()
		told, ok := event.Object.(*corev1.ConfigMap)
		if !ok || event.Type != watch.Modified || told.Data["value"] != fmt.Sprint(i) {
			t.Fatalf("change %d: %v", i, event)
		}
	}
}
