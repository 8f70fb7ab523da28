//! `watcher` in its three ways, and `reflector`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;

use crate::world::{PATIENCE, map, wait_for, world};

/// What a watcher says, in short.
fn short<K: ResourceExt>(event: &watcher::Event<K>) -> String {
    match event {
        watcher::Event::Init => "init".to_owned(),
        watcher::Event::InitDone => "done".to_owned(),
        watcher::Event::InitApply(object) => format!("has {}", object.name_any()),
        watcher::Event::Apply(object) => format!("set {}", object.name_any()),
        watcher::Event::Delete(object) => format!("del {}", object.name_any()),
    }
}

const TOLD: [&str; 6] = ["init", "has a", "has b", "done", "set c", "del a"];

/// Two maps are there, one comes, one goes.
async fn tells<K: ResourceExt>(
    maps: &Api<ConfigMap>,
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
) -> Result<()> {
    let mut events = std::pin::pin!(events);
    let mut told = Vec::new();
    while told.len() < TOLD.len() {
        let Some(event) = tokio::time::timeout(PATIENCE, events.try_next()).await?? else {
            bail!("it ended after {told:?}")
        };
        told.push(short(&event));
        if told.len() == 4 {
            maps.create(&PostParams::default(), &map("c", "3")).await?;
            maps.delete("a", &DeleteParams::default()).await?;
        }
    }
    assert_eq!(told, TOLD);
    Ok(())
}

/// A namespace with two maps.
async fn two_maps() -> Result<(Api<ConfigMap>, String)> {
    let (client, namespace) = world().await?;
    let maps = Api::namespaced(client, &namespace);
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &map(name, "1")).await?;
    }
    Ok((maps, namespace))
}

#[tokio::test]
async fn a_watcher_lists_in_pages_then_watches() -> Result<()> {
    let (maps, _) = two_maps().await?;
    tells(&maps, watcher(maps.clone(), watcher::Config::default().page_size(1))).await
}

#[tokio::test]
async fn a_watcher_takes_any_revision() -> Result<()> {
    let (maps, _) = two_maps().await?;
    tells(&maps, watcher(maps.clone(), watcher::Config::default().any_semantic())).await
}

#[tokio::test]
async fn a_watcher_streams_its_first_list() -> Result<()> {
    let (maps, _) = two_maps().await?;
    tells(&maps, watcher(maps.clone(), watcher::Config::default().streaming_lists())).await
}

#[tokio::test]
async fn a_watcher_of_metadata_alone() -> Result<()> {
    let (maps, namespace) = two_maps().await?;
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(maps.clone().into_client(), &namespace);
    tells(&maps, watcher(metadata, watcher::Config::default())).await
}

#[tokio::test]
async fn a_watch_goes_on_from_any_revision_it_was_told() -> Result<()> {
    let (maps, _) = two_maps().await?;
    let start = maps.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    for value in 0..20 {
        let change = Patch::Merge(json!({"data": {"value": value.to_string()}}));
        maps.patch("a", &PatchParams::default(), &change).await?;
    }
    let whole = watched(&maps, &start, 20).await?;
    assert_eq!(
        whole.iter().map(|(value, _)| value.parse().unwrap_or(99)).collect::<Vec<u32>>(),
        (0..20).collect::<Vec<_>>()
    );
    for (index, (_, revision)) in whole.iter().enumerate().take(19) {
        assert_eq!(watched(&maps, revision, 19 - index).await?, whole[index + 1..]);
    }
    Ok(())
}

/// The next `count` changes after a revision: the map's value, and the revision.
async fn watched(maps: &Api<ConfigMap>, from: &str, count: usize) -> Result<Vec<(String, String)>> {
    let stream = maps.watch(&WatchParams::default().timeout(10), from).await?;
    let told = stream.take(count).map(|event| match event? {
        WatchEvent::Modified(map) => {
            Ok((map.data.clone().unwrap_or_default()["value"].clone(), map.resource_version().unwrap_or_default()))
        }
        other => bail!("unexpected: {other:?}"),
    });
    told.try_collect().await
}

#[tokio::test]
async fn a_reflector_ends_up_with_what_many_writers_left() -> Result<()> {
    let (client, namespace) = world().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let (copy, writer) = reflector::store();
    let stream =
        reflector(writer, watcher(maps.clone(), watcher::Config::default())).default_backoff().touched_objects();
    let reflecting = tokio::spawn(stream.try_for_each(|_| async { Ok(()) }));
    let writers = (0..8).map(|writer| {
        let maps = maps.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let name = format!("map-{}", round % 4);
                let change = Patch::Apply(json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {format!("writer-{writer}"): round.to_string()},
                }));
                maps.patch(&name, &PatchParams::apply(&format!("writer-{writer}")), &change).await?;
            }
            anyhow::Ok(())
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer??;
    }
    let revisions = |maps: &mut dyn Iterator<Item = (String, Option<String>)>| maps.collect::<BTreeMap<_, _>>();
    let there = maps.list(&Default::default()).await?;
    let there = revisions(&mut there.iter().map(|m| (m.name_any(), m.resource_version())));
    wait_for("the copy to be true", async || {
        Ok((revisions(&mut copy.state().iter().map(|m| (m.name_any(), m.resource_version()))) == there).then_some(()))
    })
    .await?;
    assert_eq!(there.len(), 4);
    reflecting.abort();
    Ok(())
}
