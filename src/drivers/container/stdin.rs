//! What a container reads from its standard input while it runs.
//!
//! ```text
//!   server ──pieces──► `appm feeder` ──attached──► engine ──► container
//! ```
//! An engine takes the end of whatever is attached for the end of the input, so a server that is killed would end it in the middle. Hence
//! what is attached is a small process of its own ([`super::feeder`]), as the keeper is for processes: it is told when this was all, and
//! hangs the container up if it is not.
//!
//! The feeder notes in a file that it begins, and where there is one it does not: what was read is gone, whoever asks a later server.

use std::{io, process::Stdio, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    process::Command,
};

use super::{Bearer, Shared, engine::Engine, feeder, names};
use crate::drivers::{FeedError, Pieces, StartKey};

/// The name under which it is noted that somebody sends.
const NOTED: &str = "stdin";

/// See [`crate::drivers::Driver::feed`].
pub(super) async fn feed(shared: &Arc<Shared>, key: &StartKey, pieces: Pieces) -> Result<u64, FeedError> {
    let engine = place(shared, key).await?;
    let unknown = |error: io::Error| FeedError::Unknown(error.to_string());
    let claim = shared.begun.claim(key, NOTED).map_err(unknown)?;
    // Not by its path, which may be another build's by now. Not in our group: what ends us by a signal is not to end it.
    let feeder = Command::new("/proc/self/exe")
        .arg0("appm")
        .arg("feeder")
        .args(engine.words())
        .arg(names::container_name(key))
        .arg(claim)
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut feeder = feeder.map_err(unknown)?;
    let to = feeder.stdin.take().expect("it is a pipe");
    let said = BufReader::new(feeder.stdout.take().expect("it is a pipe"));
    let said = async move { said.lines().next_line().await.ok().flatten().unwrap_or_default() };
    tokio::pin!(said);
    let mut said_early = None;
    let poured = tokio::select! {
        biased;
        word = &mut said => {
            said_early = Some(word);
            Ok(())
        }
        poured = pour(pieces, to) => poured,
    };
    // When it broke off, the feeder has seen the same end as we, without the word that this was all.
    poured.map_err(FeedError::CutOff)?;
    let word = match said_early {
        Some(word) => word,
        None => said.await,
    };
    feeder::taken(&word)
}

/// Its engine, if it is a container that reads what is sent.
async fn place(shared: &Arc<Shared>, key: &StartKey) -> Result<Engine, FeedError> {
    for engine in shared.places(key).await.map_err(|e| FeedError::Unknown(e.0))? {
        if let Bearer::Ours(found) = shared.find(&engine, key).await.map_err(|e| FeedError::Unknown(e.0))? {
            return match found.config.is_some_and(|config| config.open_stdin == Some(true)) {
                true => Ok(engine),
                false => Err(FeedError::NotWanted("it reads nothing that is sent".to_owned())),
            };
        }
    }
    Err(FeedError::NotWanted("it has ended".to_owned()))
}

/// All pieces, and that this was all. A feeder that takes no more says why.
async fn pour(mut pieces: Pieces, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(piece) = pieces.next().await {
        let piece: Bytes = piece?;
        // An empty one would say that this was all.
        if !piece.is_empty() && feeder::put(&mut to, &piece).await.is_err() {
            return Ok(());
        }
    }
    if feeder::put(&mut to, &[]).await.is_ok() {
        let _ = to.flush().await;
    }
    Ok(())
}
