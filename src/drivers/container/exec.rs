//! Running a program beside a container.

use std::{pin::Pin, sync::Arc, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    models::ExecInspectResponse,
};
use futures::{Stream, StreamExt};

use super::{Place, Shared, names, sentence, verdict};
use crate::{
    clock::{Clock, System},
    drivers::{EXEC_OUTPUT, Exec, ExecError, Executed, StartKey},
};

/// The exit code of a program that could not be run.
const NOT_EXECUTABLE: i32 = 126;
/// Output ends a moment before the engine knows the code.
const SETTLES: Duration = Duration::from_millis(10);
/// How often a program that another server began is looked at: its output goes nowhere any more, and only that would tell.
const LOOK: Duration = Duration::from_millis(200);

/// What a program prints.
type Printed = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// How a start went.
enum Beginning {
    /// It runs, and prints.
    Now(Printed),
    /// It was begun before.
    Before,
    /// The engine could not run it, for this reason.
    Never(String),
    /// The engine does not know it any more.
    Forgotten,
}

/// Runs a program in the container of an attempt.
pub(super) async fn exec(shared: &Arc<Shared>, key: &StartKey, exec: Exec) -> Result<Executed, ExecError> {
    let place = shared.running().get(key).cloned().ok_or(ExecError::NotRunning)?;
    let deadline = System.uptime() + exec.timeout;
    let once = exec.once.clone();
    let known = once.as_ref().and_then(|name| shared.begun.find(key, name));
    let (id, begun) = match known {
        Some(id) => match begin(&place, &id).await? {
            // Whoever began it knew how it went, or nobody does.
            Beginning::Forgotten => create(shared, &place, key, exec).await?,
            begun => (id, begun),
        },
        None => create(shared, &place, key, exec).await?,
    };
    match begun {
        Beginning::Now(printed) => finish(&place, &id, printed, deadline).await,
        Beginning::Before => wait(&place, &id, deadline).await,
        Beginning::Never(why) => {
            Ok(Executed { code: Some(NOT_EXECUTABLE), output: why.into_bytes(), timed_out: false })
        }
        Beginning::Forgotten => Err(ExecError::NotRunning),
    }
}

fn failed(error: Error) -> ExecError {
    match verdict(&error) {
        Some((404 | 409, _)) => ExecError::NotRunning,
        _ => ExecError::Unknown(sentence(&error)),
    }
}

async fn create(
    shared: &Arc<Shared>,
    place: &Place,
    key: &StartKey,
    exec: Exec,
) -> Result<(String, Beginning), ExecError> {
    let options = CreateExecOptions {
        cmd: Some(exec.argv),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let docker = &place.engine.docker;
    let id = docker.create_exec(&names::container_name(key), options).await.map_err(failed)?.id;
    if let Some(name) = exec.once {
        let noted = shared.begun.note(key, &name, &id);
        noted.map_err(|e| ExecError::Unknown(format!("cannot note what is begun: {e}")))?;
    }
    let begun = begin(place, &id).await?;
    Ok((id, begun))
}

/// Begins a program that an engine has made. An engine does that once.
async fn begin(place: &Place, id: &str) -> Result<Beginning, ExecError> {
    let docker = &place.engine.docker;
    match docker.start_exec(id, None).await {
        Ok(StartExecResults::Attached { output, .. }) => Ok(Beginning::Now(output)),
        Ok(StartExecResults::Detached) => Err(ExecError::Unknown("the engine gives no output".to_owned())),
        Err(error) => match verdict(&error) {
            Some((404, _)) => Ok(Beginning::Forgotten),
            Some((400, why)) => Ok(Beginning::Never(why.to_owned())),
            // Docker has one status for one that was begun before and for a container that is paused or has ended; Podman
            // has another.
            Some((409 | 500, _)) => match docker.inspect_exec(id).await {
                Ok(state) if state.running == Some(true) || state.exit_code.is_some() => Ok(Beginning::Before),
                _ => Err(failed(error)),
            },
            _ => Err(failed(error)),
        },
    }
}

/// Reads what a program prints to its end, and how it went.
async fn finish(place: &Place, id: &str, mut printed: Printed, deadline: Duration) -> Result<Executed, ExecError> {
    let mut done = Executed::default();
    let late = System.sleep(deadline.saturating_sub(System.uptime()));
    tokio::pin!(late);
    loop {
        tokio::select! {
            () = &mut late => {
                done.timed_out = true;
                break;
            }
            piece = printed.next() => match piece {
                Some(Ok(piece)) => {
                    done.output.extend_from_slice(&piece.into_bytes());
                    let surplus = done.output.len().saturating_sub(EXEC_OUTPUT);
                    done.output.drain(..surplus);
                }
                Some(Err(error)) => return Err(failed(error)),
                None => break,
            }
        }
    }
    let docker = &place.engine.docker;
    let mut state = docker.inspect_exec(id).await.map_err(failed)?;
    for _look in 0..50 {
        if done.timed_out || state.running != Some(true) {
            break;
        }
        tokio::time::sleep(SETTLES).await;
        state = docker.inspect_exec(id).await.map_err(failed)?;
    }
    judge(place, &state, &mut done);
    Ok(done)
}

/// Waits for the end of a program that was begun before, and whose output nobody has.
async fn wait(place: &Place, id: &str, deadline: Duration) -> Result<Executed, ExecError> {
    let mut done = Executed::default();
    loop {
        let state = place.engine.docker.inspect_exec(id).await.map_err(failed)?;
        done.timed_out = state.running == Some(true) && System.uptime() >= deadline;
        if state.running != Some(true) || done.timed_out {
            judge(place, &state, &mut done);
            return Ok(done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of it. What takes too long is ended.
fn judge(place: &Place, state: &ExecInspectResponse, done: &mut Executed) {
    if done.timed_out && state.running == Some(true) && place.engine.is_local() {
        // No engine ends such a program by itself. It is a process of this machine.
        let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
        let kill = |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        // One that has ended meanwhile is what was wanted.
        let _ = pid.map(kill);
    } else {
        done.code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    }
}
