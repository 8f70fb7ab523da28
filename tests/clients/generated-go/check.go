// A Go client that openapi-generator made, against a live server: an App from its creation to its end.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	appm "example.com/check/appmclient"
)

func app(replicas *int32) appm.App {
	process := appm.NewProcess()
	process.SetCommand([]string{"sleep", "1000000"})
	spec := appm.NewAppSpec()
	spec.SetProcess(*process)
	spec.Replicas = replicas
	metadata := appm.NewObjectMeta()
	metadata.SetName("hello")
	metadata.SetLabels(map[string]string{"made-by": "go"})
	return *appm.NewApp(*metadata, *spec)
}

// The Status that a request was refused with.
func status(err error) (*appm.Status, bool) {
	var refused *appm.GenericOpenAPIError
	if !errors.As(err, &refused) {
		return nil, false
	}
	status, ok := refused.Model().(appm.Status)
	return &status, ok
}

// Calls see with each event of a watch until it says that it has seen enough. The generated operation would wait for the end of the
// answer, so the request is made by hand; its lines are of the generated type.
func watch(client *http.Client, url, token string, see func(appm.AppWatchEvent) bool) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	for lines := json.NewDecoder(bufio.NewReader(answer.Body)); ; {
		var event appm.AppWatchEvent
		if err := lines.Decode(&event); err != nil {
			return err
		}
		if see(event) {
			return nil
		}
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func check(holds bool, what ...any) {
	if !holds {
		log.Fatal(what...)
	}
}

func main() {
	url, token, namespace := os.Getenv("APPM_URL"), os.Getenv("APPM_TOKEN"), os.Getenv("APPM_NAMESPACE")
	ca, err := os.ReadFile(os.Getenv("APPM_CA"))
	must(err)
	roots := x509.NewCertPool()
	check(roots.AppendCertsFromPEM(ca), "no certificate")
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}

	configuration := appm.NewConfiguration()
	configuration.Servers = appm.ServerConfigurations{{URL: url}}
	configuration.HTTPClient = https
	configuration.AddDefaultHeader("Authorization", "Bearer "+token)
	apps, ctx := appm.NewAPIClient(configuration).AppAPI, context.Background()

	made, _, err := apps.CreateNamespacedApp(ctx, namespace).App(app(nil)).Execute()
	must(err)
	check(made.Metadata.GetGeneration() == 1 && made.Spec.Replicas == nil, "made:", made)

	listed, _, err := apps.ListNamespacedApp(ctx, namespace).LabelSelector("made-by=go").Execute()
	must(err)
	check(len(listed.Items) == 1 && listed.Items[0].Metadata.GetName() == "hello", "listed:", listed)

	place := fmt.Sprintf("%s/apis/appm.dev/v1/watch/namespaces/%s/apps", url, namespace)
	must(watch(https, place+"?fieldSelector=metadata.name=hello&timeoutSeconds=60", token, func(event appm.AppWatchEvent) bool {
		seen := event.Object.App
		check(seen != nil, "not an App:", event)
		fmt.Println(event.Type, seen.Metadata.GetResourceVersion())
		return seen.Status.GetReadyReplicas() == 1
	}))

	apply := func(replicas int32, manager string, force bool) (*appm.App, error) {
		applied, _, err := apps.PatchNamespacedApp(ctx, namespace, "hello").App(app(&replicas)).FieldManager(manager).Force(force).Execute()
		return applied, err
	}
	applied, err := apply(2, "first", false)
	must(err)
	check(applied.Spec.GetReplicas() == 2, "applied:", applied)
	_, err = apply(3, "second", false)
	refused, ok := status(err)
	check(ok && refused.GetReason() == "Conflict" && refused.GetCode() == 409, "refused:", err)
	check(refused.Details.Causes[0].GetField() == ".spec.replicas", "causes:", refused.Details.Causes)
	applied, err = apply(3, "second", true)
	must(err)
	check(applied.Spec.GetReplicas() == 3, "applied:", applied)

	_, _, err = apps.DeleteNamespacedApp(ctx, namespace, "hello").Execute()
	must(err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, _, err := apps.ReadNamespacedApp(ctx, namespace, "hello").Execute()
		if gone, ok := status(err); ok && gone.GetReason() == "NotFound" {
			break
		}
		check(time.Now().Before(deadline), "it is not gone:", err)
	}
	fmt.Println("go: all as it should be")
}
