//! `Api`, typed and dynamic, and discovery.

use anyhow::Result;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event as StoredEvent,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{
        DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams, PostParams,
        Preconditions,
    },
    discovery::{Discovery, pinned_kind, verbs},
    runtime::{
        conditions,
        events::{Event, EventType, Recorder, Reporter},
        wait::{Condition as _, await_condition},
    },
};
use serde_json::json;

use crate::world::{App, app, map, refused, wait_for, world};

#[tokio::test]
async fn an_app_lives_its_whole_life() -> Result<()> {
    let (client, namespace) = world().await?;
    let apps: Api<App> = Api::namespaced(client, &namespace);
    let (post, patch) = (PostParams::default(), PatchParams::default());
    let made = apps.create(&post, &app("web", true)).await?;
    assert_eq!(made.metadata.generation, Some(1));
    refused(apps.create(&post, &app("web", true)).await, "AlreadyExists")?;
    assert_eq!(apps.get("web").await?.spec, made.spec);
    assert!(apps.get_opt("absent").await?.is_none());

    let merged = apps.patch("web", &patch, &Patch::Merge(json!({"spec": {"replicas": 3}}))).await?;
    assert_eq!((merged.spec.replicas, merged.metadata.generation), (3, Some(2)));
    let strategic = apps.patch("web", &patch, &Patch::Strategic(json!({"spec": {"replicas": 4}}))).await;
    refused(strategic, "UnsupportedMediaType")?;

    let mut stale = made.clone();
    stale.spec.replicas = 9;
    let told = refused(apps.replace("web", &post, &stale).await, "Conflict")?;
    assert!(told.contains("the object has been modified"), "{told}");

    let scale = apps.patch_scale("web", &patch, &Patch::Merge(json!({"spec": {"replicas": 6}}))).await?;
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(6));
    assert_eq!(apps.get_metadata("web").await?.metadata.generation, Some(3));

    let another = DeleteParams::default()
        .preconditions(Preconditions { uid: Some("another".to_owned()), resource_version: None });
    refused(apps.delete("web", &another).await, "Conflict")?;
    let uid = made.uid().unwrap_or_default();
    let gone = await_condition(apps.clone(), "web", conditions::is_deleted(&uid));
    apps.delete("web", &DeleteParams::foreground()).await?;
    tokio::time::timeout(crate::world::PATIENCE, gone).await??;
    Ok(())
}

#[tokio::test]
async fn server_side_apply_shares_and_takes_fields() -> Result<()> {
    let (client, namespace) = world().await?;
    let apps: Api<App> = Api::namespaced(client, &namespace);
    let (alice, bob) = (PatchParams::apply("alice"), PatchParams::apply("bob"));
    let mut wish = app("web", true);
    let made = apps.patch("web", &alice, &Patch::Apply(&wish)).await?;
    apps.patch("web", &bob, &Patch::Apply(&wish)).await?;
    wish.spec.replicas = 7;
    let told = refused(apps.patch("web", &bob, &Patch::Apply(&wish)).await, "Conflict")?;
    assert!(told.contains("alice") && told.contains(".spec.replicas"), "{told}");
    let dry = apps.patch("web", &bob.clone().force().dry_run(), &Patch::Apply(&wish)).await?;
    assert_eq!((dry.spec.replicas, apps.get("web").await?.spec.replicas), (7, 2));
    let taken = apps.patch("web", &bob.force(), &Patch::Apply(&wish)).await?;
    assert_eq!((taken.spec.replicas, taken.metadata.uid), (7, made.metadata.uid));
    Ok(())
}

#[tokio::test]
async fn what_runs_becomes_ready_and_is_seen_as_pods_with_logs() -> Result<()> {
    let (client, namespace) = world().await?;
    let apps: Api<App> = Api::namespaced(client.clone(), &namespace);
    let mut web = app("web", false);
    web.spec.process.command = ["/bin/sh", "-c", "echo hello; exec sleep 1000"].map(str::to_owned).into();
    apps.create(&PostParams::default(), &web).await?;
    let ready = await_condition(apps, "web", |app: Option<&App>| app.is_some_and(App::is_ready));
    tokio::time::timeout(crate::world::PATIENCE, ready).await??;

    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let running = pods.list(&ListParams::default()).await?.items;
    assert_eq!(running.len(), 2);
    assert!(running.iter().all(|pod| conditions::is_pod_running().matches_object(Some(pod))));
    let name = running[0].name_any();
    let said = wait_for("its output", async || {
        Ok(Some(pods.logs(&name, &LogParams::default()).await?).filter(|s| !s.is_empty()))
    });
    assert_eq!(said.await?, "hello\n");
    let refusal =
        pods.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}))).await;
    refused(refusal, "MethodNotAllowed")?;
    Ok(())
}

#[tokio::test]
async fn maps_and_secrets_keep_what_they_are_given() -> Result<()> {
    let (client, namespace) = world().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        maps.create(&PostParams::default(), &map(name, value)).await?;
    }
    let first = maps.list(&ListParams::default().limit(2)).await?;
    let token = first.metadata.continue_.clone().unwrap_or_default();
    let rest = maps.list(&ListParams::default().limit(2).continue_token(&token)).await?;
    let names: Vec<String> = first.iter().chain(rest.iter()).map(ResourceExt::name_any).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);

    // Kubernetes' own kinds take strategic merge patches.
    let patch = Patch::Strategic(json!({"data": {"other": "x"}}));
    let merged = maps.patch("a", &PatchParams::default(), &patch).await?;
    assert_eq!(merged.data.map(|data| data.len()), Some(2));
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().fields("metadata.name!=a")).await?;
    assert_eq!(maps.list(&ListParams::default()).await?.items.len(), 1);

    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let door = serde_json::from_value(json!({"metadata": {"name": "door"}, "stringData": {"key": "1234"}}))?;
    let made = secrets.create(&PostParams::default(), &door).await?;
    assert_eq!(made.data.unwrap_or_default()["key"].0, b"1234");
    Ok(())
}

#[tokio::test]
async fn discovery_finds_every_kind_in_both_ways() -> Result<()> {
    let (client, namespace) = world().await?;
    for discovery in
        [Discovery::new(client.clone()).run().await?, Discovery::new(client.clone()).run_aggregated().await?]
    {
        for (group, kind) in [("appm.dev", "App"), ("", "Pod"), ("", "ConfigMap"), ("coordination.k8s.io", "Lease")] {
            let (resource, can) =
                discovery.resolve_gvk(&GroupVersionKind::gvk(group, "v1", kind)).unwrap_or_else(|| panic!("{kind}"));
            assert_eq!(resource.kind, kind);
            assert!(can.supports_operation(verbs::WATCH), "{kind}");
            assert_eq!(can.supports_operation(verbs::PATCH), kind != "Pod", "{kind}");
        }
    }
    let (resource, _) = pinned_kind(&client, &GroupVersionKind::gvk("appm.dev", "v1", "App")).await?;
    let apps: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    let body =
        DynamicObject::new("web", &resource).data(json!({"spec": {"suspend": true, "process": {"command": ["true"]}}}));
    assert_eq!(apps.create(&PostParams::default(), &body).await?.data["spec"]["suspend"], json!(true));
    Ok(())
}

#[tokio::test]
async fn the_recorder_counts_what_repeats() -> Result<()> {
    let (client, namespace) = world().await?;
    let apps: Api<App> = Api::namespaced(client.clone(), &namespace);
    let web = apps.create(&PostParams::default(), &app("web", true)).await?;
    let recorder = Recorder::new(client.clone(), Reporter { controller: "tester".to_owned(), instance: None });
    let event = Event {
        type_: EventType::Warning,
        reason: "Tested".to_owned(),
        note: Some("again and again".to_owned()),
        action: "Testing".to_owned(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&event, &web.object_ref(&())).await?;
    }
    let events: Api<StoredEvent> = Api::namespaced(client, &namespace);
    let told = events.list(&ListParams::default().fields("regarding.name=web,reason=Tested")).await?.items;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].series.as_ref().map(|series| series.count), Some(3));
    Ok(())
}
