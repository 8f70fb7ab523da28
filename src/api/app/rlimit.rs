//! Resource limits of setrlimit(2), as people write them: `65536`, `1024:65536`, `unlimited`, `0:unlimited`.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::api::{FieldPath, Problem, Violation};

/// The resource limits of setrlimit(2), in lower case without `RLIMIT_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "setrlimit(2) explains each name")]
pub enum RlimitName {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl fmt::Display for RlimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// One limit: what holds, and how far the process may raise it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// What holds.
    pub soft: u64,
    /// What `soft` may be raised to.
    pub hard: u64,
}

/// No limit, as setrlimit(2) writes it.
const UNLIMITED: u64 = u64::MAX;
const WORD: &str = "unlimited";
const PATTERN: &str = r"^(unlimited|[0-9]{1,19})(:(unlimited|[0-9]{1,19}))?$";

impl From<u64> for Rlimit {
    fn from(both: u64) -> Self {
        Self { soft: both, hard: both }
    }
}

impl FromStr for Rlimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| match part {
            WORD => Ok(UNLIMITED),
            digits => digits.parse::<u64>().map_err(|_| {
                format!("`{text}` is not a limit such as 65536, 1024:65536 (soft:hard), unlimited or 0:unlimited")
            }),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { soft: one(soft)?, hard: one(hard)? })
    }
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |limit: u64| if limit == UNLIMITED { WORD.to_owned() } else { limit.to_string() };
        match self.soft == self.hard {
            true => f.write_str(&word(self.soft)),
            false => write!(f, "{}:{}", word(self.soft), word(self.hard)),
        }
    }
}

impl Serialize for Rlimit {
    /// A number where one says it all.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.soft == self.hard && self.soft != UNLIMITED {
            true => s.serialize_u64(self.soft),
            false => s.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Rlimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(d)? {
            Written::Number(both) => Ok(both.into()),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for Rlimit {
    fn schema_name() -> Cow<'static, str> {
        "Rlimit".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": PATTERN}],
            "description": "a limit such as 65536, 1024:65536 (soft:hard), unlimited or 0:unlimited",
            "x-kubernetes-int-or-string": true,
        })
    }
}

/// What setrlimit(2) never takes.
pub(super) fn check(limits: &BTreeMap<RlimitName, Rlimit>, at: &FieldPath) -> Vec<Violation> {
    let wrong = limits.iter().filter(|(_, limit)| limit.soft > limit.hard);
    let wrong = wrong.map(|(name, limit)| {
        let message = format!("`{limit}`: the soft limit must not be more than the hard one");
        Violation::new(at.field(&name.to_string()), Problem::Invalid, message)
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_written_and_told_in_one_way() {
        for (written, soft, hard, told) in [
            ("65536", 65536, 65536, "65536"),
            (r#""65536""#, 65536, 65536, "65536"),
            (r#""1024:65536""#, 1024, 65536, r#""1024:65536""#),
            (r#""unlimited""#, UNLIMITED, UNLIMITED, r#""unlimited""#),
            (r#""0:unlimited""#, 0, UNLIMITED, r#""0:unlimited""#),
            (r#""7:7""#, 7, 7, "7"),
        ] {
            let limit: Rlimit = serde_json::from_str(written).expect(written);
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{written}");
            assert_eq!(serde_json::to_string(&limit).unwrap(), told);
        }
        for bad in ["-1", "1.5", r#""""#, r#"":""#, r#""1:2:3""#, r#""infinity""#, r#""99999999999999999999""#] {
            assert!(serde_json::from_str::<Rlimit>(bad).is_err(), "{bad}");
        }
    }
}
