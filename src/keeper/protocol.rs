//! What is said over the keeper's socket: frames of a little-endian `u32` length and JSON.
//!
//! Requests carry an id and may be pipelined; answers bear it and may come in another order. Ends are pushed to every
//! client that has said hello. `Hello` and `Replace` must stay what they are for ever: by them a keeper of another version
//! is found out and replaced.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    api::Uid,
    drivers::{
        Attempt, Ended, Exec, ExecError, Executed, LimitError, Limits, LogLimits, Notified, Reach, Start, StartError,
        StartKey, Started,
    },
};

/// The protocol's version; a client and a keeper of different versions do not talk.
pub const VERSION: u32 = 5;
/// The longest frame: a start carries its script, its standard input and its environment.
pub const LONGEST: usize = 64 << 20;

/// One request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the client; borne by the answer.
    pub id: u64,
    /// What is wanted.
    pub request: Request,
}

/// What a client may want.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first request of every connection.
    Hello {
        /// The client's [`VERSION`].
        version: u32,
    },
    /// Every attempt that runs, or ended unacknowledged.
    List,
    /// Start, at most once.
    Start(Box<Start>),
    /// Send a signal.
    Signal {
        /// To whom.
        key: StartKey,
        /// Which.
        signal: i32,
        /// How far.
        reach: Reach,
    },
    /// Run a program beside an attempt.
    Exec {
        /// Beside which.
        key: StartKey,
        /// What.
        exec: Exec,
    },
    /// What an attempt has said by sd_notify.
    Notified {
        /// Which.
        key: StartKey,
    },
    /// Begin to feed an attempt; this client alone, and once.
    OpenInput {
        /// Which.
        key: StartKey,
    },
    /// Nothing more is fed.
    CloseInput {
        /// Whom.
        key: StartKey,
        /// It was all that there is; if not, it is hung up.
        whole: bool,
    },
    /// The end is on disk elsewhere.
    Acknowledge {
        /// Whose.
        key: StartKey,
    },
    /// Forget all attempts of an Instance; afterwards nothing writes into its directory any more.
    Remove {
        /// Which Instance.
        uid: Uid,
    },
    /// Change how much output is kept.
    SetLogs {
        /// Of which Instance.
        uid: Uid,
        /// How much.
        limits: LogLimits,
    },
    /// Change what an attempt that runs may use.
    SetLimits {
        /// Which.
        key: StartKey,
        /// What.
        limits: Limits,
    },
    /// Become this executable, in place. On success the connection ends.
    Replace {
        /// An absolute path.
        exe: PathBuf,
    },
    /// End, unless something runs or waits to be acknowledged.
    Quit,
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// To one request.
    Answer {
        /// The request's.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// An attempt ended.
    Ended {
        /// Which.
        key: StartKey,
        /// How.
        ended: Ended,
    },
    /// An attempt's process said something.
    Notified {
        /// Which.
        key: StartKey,
        /// Everything that holds by now.
        said: Notified,
    },
    /// An attempt has another main process.
    Main {
        /// Which.
        key: StartKey,
        /// The process.
        started: Started,
    },
    /// Output of an attempt is not written, because it may hold secrets and nobody knows them any more.
    Withheld {
        /// Which.
        key: StartKey,
    },
    /// What an attempt left behind was killed.
    LeftBehind {
        /// Which.
        key: StartKey,
        /// How many processes.
        count: usize,
    },
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// To `Hello`.
    Hello {
        /// The keeper's [`VERSION`].
        version: u32,
        /// Which executable it is; see [`super::build_id`].
        build: String,
        /// Its process id.
        pid: i32,
    },
    /// To `List`.
    List(Vec<(StartKey, Attempt)>),
    /// To `Start`: it runs.
    Started(Started),
    /// To `Start`: it was not started, for this reason.
    NotStarted(StartError),
    /// To `SetLimits`: not done, for this reason.
    NotLimited(LimitError),
    /// To `Exec`.
    Executed(Result<Executed, ExecError>),
    /// To `Notified`.
    Notified(Option<Notified>),
    /// Done.
    Done,
    /// Not done; the reason is for people.
    Failed(String),
}

/// Appends one frame.
pub fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *out, value).expect("these types have string keys only and no failing serializers");
    let length = u32::try_from(out.len() - at - 4).expect("a frame is shorter than 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Why a frame cannot be taken; the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`LONGEST`].
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    /// Not what was expected.
    #[error("frame is not understood")]
    Malformed(#[from] serde_json::Error),
}

/// Takes the first whole frame from the front of `buffer`, starting at `*from`, which is moved behind it.
pub fn take<T: DeserializeOwned>(buffer: &[u8], from: &mut usize) -> Result<Option<T>, FrameError> {
    let rest = &buffer[*from..];
    let Some((head, body)) = rest.split_at_checked(4) else { return Ok(None) };
    let length = u32::from_le_bytes(head.try_into().expect("it was split at 4")) as usize;
    if length > LONGEST {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = body.get(..length) else { return Ok(None) };
    *from += 4 + length;
    Ok(Some(serde_json::from_slice(body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut wire = Vec::new();
        for word in ["", "a", "ä".repeat(1000).as_str()] {
            put(&mut wire, &word);
        }
        for cut in [1, 3, 4, 5, 7, wire.len()] {
            let (mut buffer, mut from, mut got) = (Vec::new(), 0, Vec::<String>::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(word) = take(&buffer, &mut from).unwrap() {
                    got.push(word);
                }
            }
            assert_eq!(got, ["".to_owned(), "a".into(), "ä".repeat(1000)]);
        }
        assert!(take::<String>(&u32::MAX.to_le_bytes(), &mut 0).is_err());
    }
}
