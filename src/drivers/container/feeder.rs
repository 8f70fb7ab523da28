//! `appm feeder HOST BRAND API CONTAINER CLAIM`: the small process that is attached to the standard input of a container ([`super::stdin`]).
//!
//! It reads pieces from its own standard input, each with its length before it; one without any bytes says that this was all, and then the
//! container sees its end. If they end without that word, whoever sent them is gone: the container is *hung up* before it can take a part for
//! the whole. That is SIGHUP, and SIGKILL for what does not end by it: the first process of a container is deaf to a signal that it
//! does not ask for. Only when it has ended is what is attached let go.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bollard::{
    Docker,
    query_parameters::{AttachContainerOptionsBuilder, KillContainerOptionsBuilder, WaitContainerOptionsBuilder},
};
use futures::StreamExt;
use nix::sys::signal::{SigSet, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::unix::pipe,
    time::{sleep, timeout},
};

use super::{
    engine::{Brand, Engine, sentence, settled},
    state, verdict,
};
use crate::{
    clock::{Clock, System},
    drivers::{Attempt, FeedError},
};

/// How long a container that was hung up may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How often an engine that does not do as it should is asked again, and how often at most.
const REST: Duration = Duration::from_millis(500);
const TRIES: u32 = 240;
/// How long an engine may say nothing of a container's end before it is asked how the container is.
const LOOK: Duration = Duration::from_secs(10);
const PIECE: usize = 64 << 10;
/// The word before how many bytes were taken; those before why none was, or not all.
const TAKEN: &str = "taken ";
const REFUSED: &str = "refused ";
const BROKE: &str = "broke ";

/// What a feeder says when it is done.
pub(super) fn taken(said: &str) -> Result<u64, FeedError> {
    if let Some(count) = said.strip_prefix(TAKEN).and_then(|count| count.parse().ok()) {
        return Ok(count);
    }
    if let Some(why) = said.strip_prefix(REFUSED) {
        return Err(FeedError::NotWanted(why.to_owned()));
    }
    let why = said.strip_prefix(BROKE).unwrap_or("what fed the container was killed");
    Err(FeedError::CutOff(io::Error::other(why.to_owned())))
}

/// Writes one piece for a feeder; an empty one: this was all.
pub(super) async fn put(to: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(piece).await
}

/// `appm feeder HOST BRAND API CONTAINER CLAIM`, started by the driver.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut word = || args.next()?.into_string().ok();
    let engine = word().zip(word()).zip(word()).and_then(|((host, brand), api)| Engine::again(&host, &brand, &api));
    let (Some(engine), Some(container), Some(claim)) = (engine, word(), word().map(PathBuf::from)) else {
        return ExitCode::FAILURE;
    };
    // It ends by itself when its server is gone, and has something to do before.
    let mut mask = SigSet::empty();
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| mask.add(signal));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    if mask.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    match runtime.block_on(feed(engine, &container, &claim)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

/// To the server, if it is still there.
fn say(word: &str) {
    let _ = writeln!(io::stdout(), "{}", word.replace('\n', " "));
}

/// How the pieces ended.
enum Fed {
    /// This was all.
    Whole,
    /// The container has ended: nobody reads any more.
    Over,
    /// There was to be more.
    Broken,
    /// What is attached takes no more.
    Refused(io::Error),
}

async fn feed((docker, brand): (Docker, Brand), container: &str, claim: &Path) -> Result<(), String> {
    let refused = |why: &dyn std::fmt::Display| format!("{REFUSED}{why}");
    let pieces = io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
    let mut pieces = pieces.map_err(|e| refused(&e))?;
    if let Err(error) = File::create_new(claim) {
        return Err(match error.kind() {
            io::ErrorKind::AlreadyExists => refused(&"somebody has begun to send its input already"),
            _ => refused(&error),
        });
    }
    let over = ended(&docker, container);
    tokio::pin!(over);
    let options = AttachContainerOptionsBuilder::default().stdin(true).stream(true).build();
    let attached = docker.attach_container(container, Some(options)).await;
    let mut attached = match attached {
        Ok(attached) => attached,
        Err(error) => {
            hang_up(&docker, container).await;
            return Err(format!("{BROKE}{}", sentence(&error)));
        }
    };
    let mut count = 0;
    let fed = tokio::select! {
        () = &mut over => Fed::Over,
        fed = carry(&mut pieces, &mut attached.input, &mut count) => fed,
    };
    let said = || say(&format!("{TAKEN}{count}"));
    let why = match fed {
        Fed::Over => {
            said();
            return Ok(());
        }
        Fed::Whole => {
            let _ = attached.input.shutdown().await;
            said();
            // What is on its way is lost with whoever lets go too early.
            let drained = async { while attached.output.next().await.is_some_and(|piece| piece.is_ok()) {} };
            tokio::select! {
                () = &mut over => {}
                () = drained => {}
            }
            return Ok(());
        }
        // Podman lets go when the container has closed its input, too, which may go on without it.
        Fed::Refused(_) if brand == Brand::Podman && docker.ping().await.is_ok() => {
            said();
            return Ok(());
        }
        Fed::Refused(_) if timeout(GRACE, &mut over).await.is_ok() => {
            said();
            return Ok(());
        }
        Fed::Refused(error) => error.to_string(),
        Fed::Broken => "the server is gone".to_owned(),
    };
    hang_up(&docker, container).await;
    drop(attached);
    Err(format!("{BROKE}{why}"))
}

/// From the pieces to what is attached.
async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), count: &mut u64) -> Fed {
    let mut piece = vec![0; PIECE];
    loop {
        let mut length = [0; 4];
        if from.read_exact(&mut length).await.is_err() {
            return Fed::Broken;
        }
        let mut left = u32::from_be_bytes(length) as usize;
        if left == 0 {
            return Fed::Whole;
        }
        while left > 0 {
            let part = &mut piece[..left.min(PIECE)];
            if from.read_exact(part).await.is_err() {
                return Fed::Broken;
            }
            let given = async {
                to.write_all(part).await?;
                to.flush().await
            };
            if let Err(error) = given.await {
                return Fed::Refused(error);
            }
            *count += part.len() as u64;
            left -= part.len();
        }
    }
}

/// When the container has ended, or is gone.
async fn ended(docker: &Docker, container: &str) {
    loop {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut told = docker.wait_container(container, Some(options));
        // Another code than 0 is an error of the client's.
        if let Ok(Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))) =
            timeout(LOOK, told.next()).await
        {
            return;
        }
        if is_over(docker, container).await {
            return;
        }
        sleep(REST).await;
    }
}

/// Whether the engine says so when it is asked, whatever came of waiting.
async fn is_over(docker: &Docker, container: &str) -> bool {
    match settled(|| docker.inspect_container(container, None)).await {
        Ok(found) => {
            let attempt = found.state.as_ref().and_then(|state| state::attempt(state, System.now()));
            matches!(attempt, Some(Attempt::Ended(_)))
        }
        Err(error) => verdict(&error).is_some_and(|(status, _)| status == 404),
    }
}

/// Ends a container that is not to see an end of its input.
async fn hang_up(docker: &Docker, container: &str) {
    let over = ended(docker, container);
    tokio::pin!(over);
    for (signal, patience) in std::iter::once(("SIGHUP", GRACE)).chain((0..TRIES).map(|_| ("SIGKILL", REST))) {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        // One that has ended hears nothing; an engine that does not answer is asked again.
        let _ = docker.kill_container(container, Some(options)).await;
        if timeout(patience, &mut over).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_arrive_whole_and_an_end_without_the_word_is_none() {
        let long = vec![7; 3 * PIECE + 1];
        for (says_so, expected) in [(true, "whole"), (false, "broken")] {
            let (mut server, mut pieces) = tokio::io::duplex(1 << 20);
            let (mut to, mut container) = tokio::io::duplex(1 << 20);
            put(&mut server, b"one").await.expect("room");
            put(&mut server, &long).await.expect("room");
            if says_so {
                put(&mut server, &[]).await.expect("room");
            }
            drop(server);
            let mut count = 0;
            let how = match carry(&mut pieces, &mut to, &mut count).await {
                Fed::Whole => "whole",
                Fed::Broken => "broken",
                Fed::Over | Fed::Refused(_) => "something else",
            };
            drop(to);
            let mut read = Vec::new();
            container.read_to_end(&mut read).await.expect("all");
            assert_eq!(
                (how, count, &read[..3], read[3..] == long[..]),
                (expected, read.len() as u64, &b"one"[..], true)
            );
        }
        assert_eq!(taken("taken 12").expect("taken"), 12);
        assert!(matches!(taken("broke the pipe"), Err(FeedError::CutOff(why)) if why.to_string() == "the pipe"));
        assert!(matches!(taken("refused twice"), Err(FeedError::NotWanted(why)) if why == "twice"));
        assert!(matches!(taken(""), Err(FeedError::CutOff(_))));
    }
}
