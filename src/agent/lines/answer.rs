//! One line, read and written.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a process answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The number of its task.
    pub id: u64,
    pub said: Said,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is done.
    Result(Bytes),
    /// There is more to come.
    Part(Bytes),
    /// It could not be done.
    Error(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Words {
    id: u64,
    data: Option<String>,
    base64: Option<String>,
    part: Option<String>,
    part_base64: Option<String>,
    error: Option<String>,
}

impl Answer {
    /// The answer in a line; `None` if it is none.
    pub(super) fn read(line: &[u8]) -> Option<Answer> {
        let Words { id, data, base64, part, part_base64, error } = serde_json::from_slice(line).ok()?;
        let bytes = |text: String| STANDARD.decode(text).ok().map(Bytes::from);
        let said = match (data, base64, part, part_base64, error) {
            (Some(text), None, None, None, None) => Said::Result(text.into()),
            (None, Some(text), None, None, None) => Said::Result(bytes(text)?),
            (None, None, Some(text), None, None) => Said::Part(text.into()),
            (None, None, None, Some(text), None) => Said::Part(bytes(text)?),
            (None, None, None, None, Some(text)) => Said::Error(text),
            _ => return None,
        };
        Some(Answer { id, said })
    }
}

/// A task, for a process.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Payload<'a> {
    Data(&'a str),
    Base64(String),
}

#[derive(Serialize)]
struct Order<'a> {
    id: u64,
    #[serde(flatten)]
    payload: Payload<'a>,
}

/// A task as a line.
pub(super) fn order(id: u64, payload: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(payload).map(Payload::Data);
    let order = Order { id, payload: text.unwrap_or_else(|_| Payload::Base64(STANDARD.encode(payload))) };
    // Most need no more than this.
    let mut line = Vec::with_capacity(payload.len() + payload.len() / 2 + 64);
    serde_json::to_writer(&mut line, &order).expect("text can be written into memory");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_object_with_an_id_and_one_word() {
        let result = |text: &str| Some(Said::Result(text.to_owned().into()));
        for (line, said) in [
            (r#"{"id": 7, "data": "HELLO"}"#, result("HELLO")),
            (r#" {"data": "é\n", "id": 7, "took": 3} "#, result("é\n")),
            (r#"{"id": 7, "base64": "AP8="}"#, Some(Said::Result(vec![0, 255].into()))),
            (r#"{"id": 7, "part": "so far"}"#, Some(Said::Part("so far".into()))),
            (r#"{"id": 7, "partBase64": "AP8="}"#, Some(Said::Part(vec![0, 255].into()))),
            (r#"{"id": 7, "error": "no"}"#, Some(Said::Error("no".to_owned()))),
            (r#"{"id": 7}"#, None),
            (r#"{"id": 7, "data": "a", "error": "b"}"#, None),
            (r#"{"id": 7, "base64": "?"}"#, None),
            (r#"{"id": "7", "data": "a"}"#, None),
            (r#"{"id": 7, "data": 1}"#, None),
            (r#"{"id": 7, "data": "a"#, None),
            ("hello", None),
            ("", None),
        ] {
            let read = Answer::read(line.as_bytes());
            assert!(read.iter().all(|answer| answer.id == 7));
            assert_eq!(read.map(|answer| answer.said), said, "{line}");
        }
    }

    #[test]
    fn a_task_is_one_line_whatever_its_bytes_are() {
        assert_eq!(order(1, b"a\n\"b\""), b"{\"id\":1,\"data\":\"a\\n\\\"b\\\"\"}\n");
        assert_eq!(order(2, &[0, 255]), b"{\"id\":2,\"base64\":\"AP8=\"}\n");
    }
}
