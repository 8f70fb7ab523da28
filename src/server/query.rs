//! A URL's query parameters, by Kubernetes' names.

use crate::{
    api::{Rev, Status},
    client::http::percent_decode,
};

/// The parameters, in the order of the URL; the first of a name counts, as in Kubernetes.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Parses what stands after the question mark.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(name, true).into_owned(), percent_decode(value, true).into_owned())
                })
                .collect(),
        )
    }

    /// All of them.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// The value, or an empty text.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// True if the parameter is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// A boolean, in the spellings of Go's `ParseBool`; absent is false, and present without a value is true.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Status> {
        match self.get(name) {
            "" => Ok(self.has(name)),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(invalid(name, other, "true or false")),
        }
    }

    /// A whole number that is not negative, if the parameter is there.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| invalid(name, text, "a number that is not negative")),
        }
    }

    /// `resourceVersion`, if it is there.
    ///
    /// # Errors
    /// 400 if it is not a plain decimal.
    pub(super) fn resource_version(&self) -> Result<Option<Rev>, Status> {
        match self.get("resourceVersion") {
            "" => Ok(None),
            text => Rev::parse(text).map(Some).ok_or_else(|| {
                Status::bad_request(format!("invalid resource version \"{text}\": not a decimal number"))
            }),
        }
    }

    /// `dryRun`: `All` or nothing.
    ///
    /// # Errors
    /// 422 for any other stage, in the name of `options`.
    pub(super) fn dry_run(&self, options: &str) -> Result<bool, Status> {
        let stages = self.0.iter().filter(|(name, _)| name == "dryRun").map(|(_, stage)| stage.as_str());
        super::call::dry_run(options, stages.filter(|stage| !stage.is_empty()))
    }
}

fn invalid(name: &str, text: &str, expected: &str) -> Status {
    Status::bad_request(format!("the query parameter `{name}` must be {expected} (got \"{text}\")"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let params = Params::parse(Some("labelSelector=a%3Db%2Cc+in+%28d%29&watch=1&limit=5&x&bad=%zz%4"));
        assert_eq!(params.get("labelSelector"), "a=b,c in (d)");
        assert_eq!(params.flag("watch"), Ok(true));
        assert_eq!(params.flag("x"), Ok(true));
        assert_eq!(params.flag("none"), Ok(false));
        assert_eq!(params.number("limit"), Ok(Some(5)));
        assert_eq!(params.get("bad"), "%zz%4");
        assert!(Params::parse(Some("watch=maybe")).flag("watch").is_err());
        assert!(Params::parse(Some("limit=-1")).number("limit").is_err());
        assert!(Params::parse(Some("resourceVersion=01")).resource_version().is_err());
    }
}
