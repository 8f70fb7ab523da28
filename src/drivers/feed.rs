//! What a process reads from its standard input while it runs.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::net::unix::pipe;

/// The input, piece by piece. An end without an error is the end of the input; an error says that there was to be more.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// The pipes of an attempt that does tasks by lines. They outlive whoever speaks through them.
#[derive(Debug)]
pub struct Lines {
    /// Its standard input.
    pub input: pipe::Sender,
    /// Its standard output.
    pub answers: pipe::Receiver,
    /// Where its output goes into its log.
    pub output: pipe::Sender,
}

/// Why an attempt was not fed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It reads nothing that is sent, or somebody has begun to send it already. Nothing was taken.
    #[error("{0}")]
    NotWanted(String),
    /// The input broke off. The process was hung up (SIGHUP), and sees its end only if it ignores that.
    #[error("the input broke off")]
    CutOff(#[source] io::Error),
    /// The driver could not be asked. Nothing was taken.
    #[error("the driver did not answer: {0}")]
    Unknown(String),
}
