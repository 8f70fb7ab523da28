//! Starting a container at most once, and ending it.

use std::sync::Arc;

use bollard::query_parameters::{CreateContainerOptionsBuilder, KillContainerOptionsBuilder, StartContainerOptions};

use super::{
    Bearer, Place, Shared, body,
    engine::{Brand, Engine},
    events, names, sentence, verdict,
};
use crate::{
    drivers::{
        Attempt, ContainerProgram, LimitError, Limits, Program, Start, StartError, StartKey, Started, Unreachable,
    },
    keeper,
};

/// What an older Podman, which has no such call, makes of a change of limits.
const NO_UPDATE: &str =
    "this Podman cannot change what a container may use while it runs: it gets its limits when it is restarted";

/// Creates and starts the container of an attempt, unless it was started before.
pub(super) async fn start(shared: &Arc<Shared>, start: Start) -> Result<Started, StartError> {
    let unknown = |Unreachable(why)| StartError::Unknown(why);
    let Program::Container(program) = &start.program else {
        return Err(StartError::Refused("the driver of containers runs no processes".to_owned()));
    };
    let engine = shared.engine_for(program.container.runtime).await.map_err(unknown)?;
    // From now on it is known that containers of ours may be there.
    shared.register.use_engine(&engine).map_err(|e| StartError::Unknown(format!("cannot note the engine: {e}")))?;
    events::listen(shared, &engine);
    let key = &start.key;
    let name = names::container_name(key);
    match shared.find(&engine, key).await.map_err(unknown)? {
        Bearer::Ours(found) => match shared.note(key, &found) {
            Some(Attempt::Running(started)) => return Ok(runs(shared, &engine, key, started)),
            Some(Attempt::Ended(_)) => return Err(StartError::AlreadyStarted(key.clone())),
            // One that was made for this attempt and never started may have been made of other Secrets. It is not removed
            // by force: if somebody is starting it at this moment, the engine refuses.
            None => shared.delete(&engine, key, false).await.map_err(unknown)?,
        },
        Bearer::Nobody => {}
        Bearer::Stranger => {
            let why = format!("somebody else's container bears the name of this attempt, `{name}`");
            return Err(StartError::Refused(why));
        }
    }
    create(shared, &engine, &start, program).await?;
    let begun = engine.docker.start_container(&name, None::<StartContainerOptions>).await;
    match (shared.inspect(&engine, key).await.map_err(unknown)?, begun) {
        (Some(Attempt::Running(started)), _) => Ok(runs(shared, &engine, key, started)),
        // It has ended already. Whoever looks will see how.
        (Some(Attempt::Ended(_)), Ok(())) => {
            shared.output.follow(&engine, key);
            Err(StartError::AlreadyStarted(key.clone()))
        }
        (_, Err(error)) if verdict(&error).is_some() => Err(StartError::Refused(sentence(&error))),
        (_, Err(error)) => Err(unknown(shared.unreachable(&engine, &error))),
        (None, Ok(())) => Err(StartError::Unknown("the container was removed while it was started".to_owned())),
    }
}

fn runs(shared: &Arc<Shared>, engine: &Engine, key: &StartKey, started: Started) -> Started {
    shared.running().insert(key.clone(), Place { engine: engine.clone(), started: started.clone() });
    shared.output.follow(engine, key);
    started
}

/// Has the engine change what a container that runs may use.
pub(super) async fn set_limits(shared: &Arc<Shared>, key: &StartKey, limits: Limits) -> Result<(), LimitError> {
    let Some(place) = shared.running().get(key).cloned() else { return Ok(()) };
    if let (true, Some(limit)) = (place.engine.is_local(), limits.memory) {
        let groups = keeper::groups_around(place.started.pid);
        let used = groups.iter().find_map(|dir| keeper::working_set(dir)).unwrap_or(0);
        if used > limit {
            return Err(LimitError::InUse(keeper::memory_in_use(used, limit)));
        }
    }
    let name = names::container_name(key);
    match place.engine.docker.update_container(&name, body::update(&limits)).await {
        Ok(()) => Ok(()),
        Err(error) => match (verdict(&error), place.engine.brand) {
            // It has ended, and was removed.
            (Some((404, _)), Brand::Docker) => Ok(()),
            (Some((404, _)), Brand::Podman) => Err(LimitError::Unavailable(NO_UPDATE.to_owned())),
            (Some(_), _) => Err(LimitError::Unavailable(sentence(&error))),
            (None, _) => Err(LimitError::Unknown(shared.unreachable(&place.engine, &error).0)),
        },
    }
}

async fn create(
    shared: &Arc<Shared>,
    engine: &Engine,
    start: &Start,
    program: &ContainerProgram,
) -> Result<(), StartError> {
    let name = names::container_name(&start.key);
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = body::create(start, program, engine.brand, &shared.register.node);
    match engine.docker.create_container(Some(options), body).await {
        Ok(created) => {
            for warning in created.warnings {
                tracing::warn!(key = %start.key, warning, "the engine warns of a container");
            }
            Ok(())
        }
        Err(error) => match verdict(&error) {
            // Somebody made it just now: an answer of ours that was lost.
            Some((409, message)) => Err(StartError::Unknown(message.to_owned())),
            Some((_, message)) => Err(StartError::Refused(message.trim().to_owned())),
            None => Err(StartError::Unknown(shared.unreachable(engine, &error).0)),
        },
    }
}

/// Sends a signal to the first process of a container.
pub(super) async fn signal(shared: &Arc<Shared>, key: &StartKey, signal: i32) -> Result<(), Unreachable> {
    let name = names::container_name(key);
    for engine in shared.places(key).await? {
        let options = || KillContainerOptionsBuilder::default().signal(&signal.to_string()).build();
        match engine.docker.kill_container(&name, Some(options())).await {
            // Somebody froze it: it could not hear the signal.
            Err(error) if verdict(&error).is_some_and(|(_, message)| message.contains("paused")) => {
                // What cannot be thawed says so with the signal.
                let _ = engine.docker.unpause_container(&name).await;
                let again = engine.docker.kill_container(&name, Some(options())).await;
                again.map_err(|error| shared.unreachable(&engine, &error))?;
            }
            // Not there, or not running any more.
            Err(error) if verdict(&error).is_some_and(|(status, _)| status == 404 || status == 409) => {}
            Err(error) => return Err(shared.unreachable(&engine, &error)),
            Ok(()) => {}
        }
    }
    Ok(())
}
