// A Java client that openapi-generator made, against a live server: an App from its creation to its end.

import dev.appm.client.ApiClient;
import dev.appm.client.ApiException;
import dev.appm.client.api.AppApi;
import dev.appm.client.api.AppApi.*;
import dev.appm.client.model.*;
import dev.appm.client.model.Process;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Check {
    static final String URL = System.getenv("APPM_URL"), NAMESPACE = System.getenv("APPM_NAMESPACE");
    static final String BEARER = "Bearer " + System.getenv("APPM_TOKEN");

    static final ApiClient client = new ApiClient();

    public static void main(String[] none) throws Exception {
        HttpClient.Builder https = HttpClient.newBuilder().sslContext(trusting(Path.of(System.getenv("APPM_CA"))));
        client.updateBaseUri(URL);
        client.setHttpClientBuilder(https);
        client.setRequestInterceptor(request -> request.header("Authorization", BEARER));
        AppApi apps = new AppApi(client);

        App made = apps.createNamespacedApp(
            APICreateNamespacedAppRequest.newBuilder().namespace(NAMESPACE).app(app(null)).build());
        check(made.getMetadata().getGeneration() == 1 && made.getSpec().getReplicas() == null, "made", made);

        AppList listed = apps.listNamespacedApp(
            APIListNamespacedAppRequest.newBuilder().namespace(NAMESPACE).labelSelector("made-by=java").build());
        check(listed.getItems().size() == 1, "listed", listed);

        // A watch: the generated operation would wait for its end, so the lines are read by hand, into the generated type.
        URI place = URI.create(URL + "/apis/appm.dev/v1/watch/namespaces/" + NAMESPACE
            + "/apps?fieldSelector=metadata.name%3Dhello&timeoutSeconds=60");
        HttpRequest watch = HttpRequest.newBuilder(place).header("Authorization", BEARER).build();
        try (Stream<String> lines = https.build().send(watch, BodyHandlers.ofLines()).body()) {
            check(lines.anyMatch(Check::ready), "it did not become ready", null);
        }

        check(apply(apps, 2, "first", false).getSpec().getReplicas() == 2, "applied", null);
        try {
            apply(apps, 3, "second", false);
            check(false, "a conflict was not found", null);
        } catch (ApiException refused) {
            Status status = client.getObjectMapper().readValue(refused.getResponseBody(), Status.class);
            check(status.getCode() == 409 && status.getReason() == Reason.CONFLICT, "refused", status);
            check(status.getDetails().getCauses().get(0).getField().equals(".spec.replicas"), "causes", status);
        }
        check(apply(apps, 3, "second", true).getSpec().getReplicas() == 3, "forced", null);

        apps.deleteNamespacedApp(APIDeleteNamespacedAppRequest.newBuilder().namespace(NAMESPACE).name("hello").build());
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (!gone(apps)) {
            check(System.nanoTime() < deadline, "it is not gone", null);
            Thread.sleep(50);
        }
        System.out.println("java: all as it should be");
    }

    static App app(Integer replicas) {
        Process process = new Process().command(List.of("sleep", "1000000"));
        return new App()
            .metadata(new ObjectMeta().name("hello").labels(Map.of("made-by", "java")))
            .spec(new AppSpec().process(process).replicas(replicas));
    }

    static App apply(AppApi apps, int replicas, String manager, boolean force) throws ApiException {
        return apps.patchNamespacedApp(APIPatchNamespacedAppRequest.newBuilder()
            .namespace(NAMESPACE).name("hello").app(app(replicas)).fieldManager(manager).force(force).build());
    }

    static boolean ready(String line) {
        try {
            AppWatchEvent event = client.getObjectMapper().readValue(line, AppWatchEvent.class);
            App seen = event.getObject().getApp();
            System.out.println(event.getType() + " " + seen.getMetadata().getResourceVersion());
            return seen.getStatus() != null && Integer.valueOf(1).equals(seen.getStatus().getReadyReplicas());
        } catch (java.io.IOException unreadable) {
            throw new java.io.UncheckedIOException(unreadable);
        }
    }

    static boolean gone(AppApi apps) throws Exception {
        try {
            apps.readNamespacedApp(APIReadNamespacedAppRequest.newBuilder().namespace(NAMESPACE).name("hello").build());
            return false;
        } catch (ApiException refused) {
            Status status = client.getObjectMapper().readValue(refused.getResponseBody(), Status.class);
            check(status.getReason() == Reason.NOT_FOUND, "refused", status);
            return true;
        }
    }

    static SSLContext trusting(Path ca) throws Exception {
        KeyStore known = KeyStore.getInstance(KeyStore.getDefaultType());
        known.load(null);
        try (InputStream pem = Files.newInputStream(ca)) {
            known.setCertificateEntry("appm", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(known);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static void check(boolean holds, String what, Object seen) {
        if (!holds) throw new AssertionError(what + ": " + seen);
    }
}
