//! `Controller` with `finalizer`: a small operator, which comes to rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        finalizer::{self, Event, finalizer},
        watcher,
    },
};
use serde_json::json;

use crate::world::{App, app, wait_for, world};

const FINALIZER: &str = "test.appm.dev/operator";

struct Operator {
    client: Client,
    passes: AtomicU32,
    cleaned: AtomicU32,
}

/// Keeps a map beside each App that says how many replicas it has, and a label on the App.
async fn reconcile(app: Arc<App>, operator: Arc<Operator>) -> Result<Action, finalizer::Error<kube::Error>> {
    operator.passes.fetch_add(1, Ordering::Relaxed);
    let namespace = app.namespace().unwrap_or_default();
    let apps: Api<App> = Api::namespaced(operator.client.clone(), &namespace);
    let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &namespace);
    finalizer(&apps, FINALIZER, app, |event| async {
        match event {
            Event::Apply(app) => {
                let replicas = app.spec.replicas.to_string();
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "data": {"replicas": replicas},
                    "metadata": {"name": app.name_any(), "ownerReferences": [app.controller_owner_ref(&())]},
                });
                maps.patch(&app.name_any(), &PatchParams::apply("operator").force(), &Patch::Apply(map)).await?;
                let label = json!({"metadata": {"labels": {"replicas": replicas}}});
                apps.patch(&app.name_any(), &PatchParams::default(), &Patch::Merge(label)).await?;
            }
            Event::Cleanup(_) => {
                operator.cleaned.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Action::await_change())
    })
    .await
}

#[tokio::test]
async fn an_operator_converges_rests_and_cleans_up() -> Result<()> {
    let (client, namespace) = world().await?;
    let apps: Api<App> = Api::namespaced(client.clone(), &namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let operator = Arc::new(Operator { client, passes: AtomicU32::new(0), cleaned: AtomicU32::new(0) });
    let running = Controller::new(apps.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), operator.clone())
        .for_each(|_| async {});
    let running = tokio::spawn(running);

    for name in ["one", "two"] {
        apps.create(&PostParams::default(), &app(name, true)).await?;
    }
    let says = async |name: &str, replicas: &str| {
        let map = maps.get_opt(name).await?.and_then(|map| map.data).unwrap_or_default();
        let label = apps.get(name).await?.labels().get("replicas").cloned().unwrap_or_default();
        anyhow::Ok((map.get("replicas").is_some_and(|r| r == replicas) && label == replicas).then_some(()))
    };
    for name in ["one", "two"] {
        wait_for("the operator's map", async || says(name, "2").await).await?;
    }
    // A change of the App, and a map that somebody took away: both are mended.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 5}}));
    apps.patch("one", &PatchParams::default(), &scaled).await?;
    wait_for("the scaled App's map", async || says("one", "5").await).await?;
    maps.delete("two", &DeleteParams::default()).await?;
    wait_for("the map to be there again", async || says("two", "2").await).await?;

    // At rest nothing is reconciled: what changes nothing makes no event.
    let mut last = 0;
    wait_for("the operator to rest", async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let now = operator.passes.load(Ordering::Relaxed);
        Ok((std::mem::replace(&mut last, now) == now).then_some(()))
    })
    .await?;
    assert!(last < 60, "{last} passes for five changes");

    for name in ["one", "two"] {
        assert_eq!(apps.get(name).await?.finalizers(), [FINALIZER]);
        apps.delete(name, &DeleteParams::default()).await?;
    }
    wait_for("the Apps to go", async || Ok(apps.list(&Default::default()).await?.items.is_empty().then_some(())))
        .await?;
    assert_eq!(operator.cleaned.load(Ordering::Relaxed), 2);
    // Their maps have an owner that is no more.
    wait_for("the maps to go", async || Ok(maps.list(&Default::default()).await?.items.is_empty().then_some(())))
        .await?;
    running.abort();
    Ok(())
}
