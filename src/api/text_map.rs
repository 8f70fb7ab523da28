//! A small map of texts: labels and annotations.
//!
//! Every stored object carries two of them for as long as it lives, most with one to five entries. A node of a `BTreeMap`
//! has room for eleven, half a KiB, more than all other metadata together; here an entry costs its texts and 32 bytes.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// A text.
type Text = Box<str>;

/// Texts by name, sorted, each name once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TextMap(Box<[(Text, Text)]>);

impl TextMap {
    /// The text of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Sets the text of a name.
    pub fn insert(&mut self, name: &str, text: &str) {
        let entry = (Text::from(name), Text::from(text));
        match self.0.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(at) => self.0[at] = entry,
            Err(at) => {
                let mut entries = std::mem::take(&mut self.0).into_vec();
                entries.insert(at, entry);
                self.0 = entries.into();
            }
        }
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&**name, &**text))
    }
}

impl<N: Into<Text>, T: Into<Text>> FromIterator<(N, T)> for TextMap {
    /// Of a name that comes twice, the last one stays.
    fn from_iter<I: IntoIterator<Item = (N, T)>>(entries: I) -> Self {
        let mut all: Vec<(Text, Text)> = entries.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(all.into())
    }
}

impl fmt::Debug for TextMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for TextMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = TextMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
                let mut entries: Vec<(Text, Text)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl JsonSchema for TextMap {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextMap".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <BTreeMap<String, String>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_text_of_a_name_stays_and_names_are_sorted() {
        let mut map: TextMap = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(map.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        map.insert("b", "4");
        map.insert("aa", "5");
        assert_eq!((map.get("b"), map.get("aa"), map.get("c")), (Some("4"), Some("5"), None));
        assert_eq!(serde_json::to_string(&map).expect("json"), r#"{"a":"2","aa":"5","b":"4"}"#);
    }

    #[test]
    fn it_reads_what_it_writes() {
        let text = r#"{"appm.dev/app":"web","tier":"front"}"#;
        let map: TextMap = serde_json::from_str(text).expect("a map");
        assert_eq!(serde_json::to_string(&map).expect("json"), text);
        assert!(serde_json::from_str::<TextMap>(r#"{"a":1}"#).is_err());
    }
}
