//! A task's result as it is made: JSON, one document a line, as watches have it.
//!
//! ```text
//!  {"type":"PART","text":"…"}                     what the process gives before it is done; a long one in several lines, all but the last with "more":true
//!  {"type":"RESULT","base64":"…","instance":"…"}  the end; bytes that are no text are in base64
//!  {"type":"ERROR","object":{Status}}             the end, if there is no result
//! ```
//! A caller who takes nothing in holds up the process, and nobody else: no more waits for them than a few parts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    respond::{self, Answer},
    tasks::stopping,
};
use crate::{
    admission::task_failure,
    api::{Key, Status, TASK_HEADER},
    broker::{Next, Payload, Pieces, Sent},
};

/// Of documents that stand one a line.
pub(super) const LINES: &str = "application/jsonl";
/// How many bytes a line tells at most.
const LONGEST: usize = 64 << 10;

/// The answer to whoever wants to see the parts.
pub(super) fn told(sent: Sent, app: Key, stopping: CancellationToken) -> Answer {
    let name = sent.name();
    let telling = Telling { sent, app, stopping, now: None, over: false };
    let lines = stream::unfold(telling, |mut telling| async move { Some((Ok(telling.line().await?), telling)) });
    let mut answer = respond::streamed(LINES, lines.boxed());
    respond::header(&mut answer, TASK_HEADER, &name);
    answer
}

struct Telling {
    sent: Sent,
    app: Key,
    stopping: CancellationToken,
    now: Option<Spoken>,
    over: bool,
}

impl Telling {
    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(spoken) = &mut self.now {
                let line = spoken.line();
                if spoken.is_said() {
                    self.now = None;
                }
                return Some(line);
            }
            if self.over {
                return None;
            }
            let next = tokio::select! {
                next = self.sent.next() => next,
                () = self.stopping.cancelled() => {
                    self.over = true;
                    return Some(refused(&stopping()));
                }
            };
            match next {
                Next::Part(part) => self.now = Some(Spoken::new("PART", part, None)),
                Next::End(outcome) => {
                    self.over = true;
                    match outcome {
                        Ok(done) => self.now = Some(Spoken::new("RESULT", done.result, Some(done.instance))),
                        Err(failure) => return Some(refused(&task_failure(&failure, &self.app))),
                    }
                }
            }
        }
    }
}

fn refused(status: &Status) -> Bytes {
    format!("{}\n", json!({"type": "ERROR", "object": status.to_json()})).into()
}

/// Bytes on their way into lines.
struct Spoken {
    kind: &'static str,
    instance: Option<String>,
    /// The beginning of a letter that a line has ended in.
    letter: BytesMut,
    piece: Bytes,
    pieces: Pieces,
}

impl Spoken {
    fn new(kind: &'static str, payload: Payload, instance: Option<String>) -> Self {
        let mut pieces = payload.into_pieces();
        let piece = pieces.next().unwrap_or_default();
        Self { kind, instance, letter: BytesMut::new(), piece, pieces }
    }

    fn is_said(&self) -> bool {
        self.letter.is_empty() && self.piece.is_empty()
    }

    fn line(&mut self) -> Bytes {
        let mut bytes = std::mem::take(&mut self.letter);
        bytes.extend_from_slice(&self.piece.split_to(self.piece.len().min(LONGEST)));
        while self.piece.is_empty()
            && let Some(piece) = self.pieces.next()
        {
            self.piece = piece;
        }
        let mut line = Map::new();
        line.insert("type".to_owned(), self.kind.into());
        match std::str::from_utf8(&bytes) {
            Ok(text) => drop(line.insert("text".to_owned(), text.into())),
            // Only its last letter is not whole.
            Err(cut) if cut.error_len().is_none() && cut.valid_up_to() > 0 && !self.piece.is_empty() => {
                self.letter = bytes.split_off(cut.valid_up_to());
                line.insert("text".to_owned(), String::from_utf8_lossy(&bytes).into());
            }
            Err(_) => drop(line.insert("base64".to_owned(), STANDARD.encode(&bytes).into())),
        }
        if !self.is_said() {
            line.insert("more".to_owned(), true.into());
        } else if let Some(instance) = self.instance.take() {
            line.insert("instance".to_owned(), instance.into());
        }
        format!("{}\n", Value::Object(line)).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(pieces: &[Vec<u8>]) -> Vec<Value> {
        let mut payload = Payload::default();
        pieces.iter().for_each(|piece| payload.push(piece.clone().into()));
        let mut spoken = Spoken::new("RESULT", payload, Some("web-1".to_owned()));
        let mut lines = Vec::new();
        while lines.is_empty() || !spoken.is_said() {
            lines.push(serde_json::from_slice(&spoken.line()).expect("JSON"));
        }
        lines
    }

    fn heard(lines: &[Value]) -> Vec<u8> {
        let bytes = |line: &Value| match line["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(line["base64"].as_str().expect("one of them")).expect("base64"),
        };
        lines.iter().flat_map(bytes).collect()
    }

    #[test]
    fn a_letter_that_two_pieces_share_is_told_in_one() {
        let lines = said(&[[vec![b'x'; 9000], "é".as_bytes()[..1].to_vec()].concat(), "é".as_bytes()[1..].to_vec()]);
        assert!(lines.iter().all(|line| line["base64"].is_null()), "{lines:?}");
        assert_eq!(said(&[]), [json!({"type": "RESULT", "text": "", "instance": "web-1"})]);
        assert_eq!(said(&[vec![0xff]]), [json!({"type": "RESULT", "base64": "/w==", "instance": "web-1"})]);
        let long = said(&["é".repeat(LONGEST).into_bytes()]);
        let more: Vec<bool> = long.iter().map(|line| line["more"] == true).collect();
        assert_eq!((more, heard(&long)), (vec![true, false], "é".repeat(LONGEST).into_bytes()));
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_bytes_are_told(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 0..5),
        ) {
            let lines = said(&pieces);
            prop_assert_eq!(heard(&lines), pieces.concat());
            prop_assert_eq!(lines.iter().filter(|line| line["more"] != true).count(), 1);
        }
    }
}
