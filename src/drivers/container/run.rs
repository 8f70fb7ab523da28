//! Starting a container at most once, ending it, and running something beside it.

use std::{sync::Arc, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    query_parameters::{CreateContainerOptionsBuilder, KillContainerOptionsBuilder, StartContainerOptions},
};
use futures::StreamExt;

use super::{Bearer, Place, Shared, body, engine::Engine, events, names, sentence, verdict};
use crate::{
    clock::{Clock, System},
    drivers::{
        Attempt, ContainerProgram, EXEC_OUTPUT, Exec, ExecError, Executed, Program, Start, StartError, StartKey,
        Started, Unreachable,
    },
};

/// The exit code of a program that was killed because it took too long does not matter; this one says that it could not run.
const NOT_EXECUTABLE: i32 = 126;

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

/// Runs a program in the container of an attempt.
pub(super) async fn exec(shared: &Arc<Shared>, key: &StartKey, exec: Exec) -> Result<Executed, ExecError> {
    let place = shared.running().get(key).cloned().ok_or(ExecError::NotRunning)?;
    let once = exec.once.clone().map(|name| (key.clone(), name));
    if let Some(done) = once.as_ref().and_then(|once| shared.once().get(once).cloned()) {
        return Ok(done);
    }
    let failed = |error: Error| match verdict(&error) {
        Some((404 | 409, _)) => ExecError::NotRunning,
        _ => ExecError::Unknown(sentence(&error)),
    };
    let docker = &place.engine.docker;
    let options = CreateExecOptions {
        cmd: Some(exec.argv),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = docker.create_exec(&names::container_name(key), options).await.map_err(failed)?.id;
    let begun = match docker.start_exec(&id, None).await {
        Ok(begun) => begun,
        Err(error) => match verdict(&error) {
            Some((400, why)) => {
                let output = why.as_bytes().to_vec();
                return Ok(Executed { code: Some(NOT_EXECUTABLE), output, timed_out: false });
            }
            _ => return Err(failed(error)),
        },
    };
    let mut done = Executed::default();
    let StartExecResults::Attached { output, .. } = begun else {
        return Err(ExecError::Unknown("the engine gives no output".to_owned()));
    };
    let mut output = output.map(|piece| piece.map(LogOutput::into_bytes));
    let deadline = System.sleep(exec.timeout);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut deadline => {
                done.timed_out = true;
                break;
            }
            piece = output.next() => match piece {
                Some(Ok(bytes)) => {
                    done.output.extend_from_slice(&bytes);
                    let surplus = done.output.len().saturating_sub(EXEC_OUTPUT);
                    done.output.drain(..surplus);
                }
                Some(Err(error)) => return Err(failed(error)),
                None => break,
            }
        }
    }
    let mut state = docker.inspect_exec(&id).await.map_err(failed)?;
    // Output ends a moment before the engine knows the code.
    for _look in 0..50 {
        if done.timed_out || state.running != Some(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        state = docker.inspect_exec(&id).await.map_err(failed)?;
    }
    if done.timed_out && state.running == Some(true) && place.engine.is_local() {
        // No engine ends such a program by itself. It is a process of this machine.
        let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        // One that has ended meanwhile is what was wanted.
        let _ =
            pid.map(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL));
    } else {
        done.code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    }
    if let Some(once) = once {
        shared.once().insert(once, done.clone());
    }
    Ok(done)
}
