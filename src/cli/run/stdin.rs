//! Sends what comes in on standard input to a Run, as it comes.

use std::io::{self, Read};

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

use super::super::{context::Context, error::CliError};
use crate::{
    api::{Kind, Reason, Run},
    client::http::{RequestError, path_of},
};

/// Pieces that wait to be sent.
const AHEAD: usize = 4;
const PIECE: usize = 64 << 10;

/// Sends all of it. Ends before that when nobody reads any more.
pub(super) async fn send(context: &Context, name: &str) -> Result<(), CliError> {
    let path = path_of(Run::INFO, Some(context.namespace()), Some(name)) + "/stdin";
    match context.client.upload(&path, &[], stream::unfold(pieces(), next)).await {
        Ok(_) => Ok(()),
        // It is over, and how is seen elsewhere.
        Err(RequestError::Refused(status)) if status.is(Reason::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn next(
    mut pieces: mpsc::Receiver<io::Result<Bytes>>,
) -> Option<(io::Result<Bytes>, mpsc::Receiver<io::Result<Bytes>>)> {
    Some((pieces.recv().await?, pieces))
}

/// Read by a thread of its own, which nobody waits for: it may hang in a terminal when everything else is over.
fn pieces() -> mpsc::Receiver<io::Result<Bytes>> {
    let (to, pieces) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut from = io::stdin().lock();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match from.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => Ok(Bytes::copy_from_slice(&piece[..length])),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let failed = read.is_err();
            if to.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    pieces
}
