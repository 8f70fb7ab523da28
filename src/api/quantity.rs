//! Kubernetes quantities: `512Mi`, `1.5`, `100m`, `1e3`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Keeps the text as written; the value is in thousandths, so that CPU's `100m` is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    milli: u128,
}

const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]{1,2})?$";

impl Quantity {
    /// The value in whole units (bytes, say), rounded up as Kubernetes does.
    pub fn units(&self) -> u64 {
        u64::try_from(self.milli.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// The value in thousandths of a unit, however large it is.
    pub fn exact_milli(&self) -> u128 {
        self.milli
    }

    /// The value in thousandths of a unit (of a core, say).
    pub fn milli(&self) -> u64 {
        u64::try_from(self.milli).unwrap_or(u64::MAX)
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a quantity such as 512Mi, 1.5 or 100m");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let factor = factor(suffix).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || whole.len() > 15 || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(wrong());
        }
        let part = |digits: &str| digits.parse::<u128>().map_err(|_| wrong());
        let scale = 10_u128.pow(fraction.len() as u32);
        let milli = (part(whole)? * scale + part(fraction)?).checked_mul(factor).ok_or_else(wrong)?.div_ceil(scale);
        Ok(Self { text: text.to_owned(), milli })
    }
}

/// What a suffix multiplies by, in thousandths.
fn factor(suffix: &str) -> Option<u128> {
    let binary = |power: u32| Some(1000 * 1024_u128.pow(power));
    match suffix {
        "" => Some(1000),
        "m" => Some(1),
        "k" => Some(1_000_000),
        "M" => Some(1_000_000_000),
        "G" => Some(1_000_000_000_000),
        "T" => Some(1_000_000_000_000_000),
        "P" => Some(1_000_000_000_000_000_000),
        "E" => Some(1_000_000_000_000_000_000_000),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let power: u32 = digits.parse().ok().filter(|p| *p <= 18)?;
            Some(1000 * 10_u128.pow(power))
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// A string, or a bare number as people write `cpu: 2`.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(serde_json::Number),
        }
        match Written::deserialize(d)? {
            Written::Text(text) => text.parse(),
            Written::Number(number) => number.to_string().parse(),
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "number", "minimum": 0}],
            "description": "an amount such as 512Mi, 1.5 or 100m",
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_mean_what_kubernetes_means() {
        for (text, units, milli) in [
            ("512Mi", 536_870_912, 536_870_912_000),
            ("1.5", 2, 1500),
            ("100m", 1, 100),
            ("10k", 10_000, 10_000_000),
            ("1e3", 1000, 1_000_000),
            ("0", 0, 0),
        ] {
            let read: Quantity = text.parse().expect(text);
            assert_eq!((read.units(), read.milli()), (units, milli), "{text}");
        }
        for bad in ["", "Mi", "1 Mi", "-1", "1KB", "1.2.3", "1e99"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }
}
