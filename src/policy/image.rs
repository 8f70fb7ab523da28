//! Names of images, and whose credentials a registry gets.

use std::collections::BTreeMap;

/// The registry of a name without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// What an engine is asked for: without a tag or a digest it would fetch every tag there is.
pub fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Registry and repository: `redis:7` is `docker.io/library/redis`.
fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
        None => (DEFAULT_REGISTRY, format!("library/{name}")),
    };
    let tag = path.rfind(':').filter(|at| !path[*at..].contains('/'));
    format!("{registry}/{}", &path[..tag.unwrap_or(path.len())])
}

/// Which of the credentials, by the places that they are for, an image's registry gets: those for the longest part of
/// its name. Places are written as in Docker's configuration: `https://index.docker.io/v1/`, `registry.example/team`.
pub fn choose<'a, T>(image: &str, all: &'a BTreeMap<String, T>) -> Option<&'a T> {
    let wanted = repository(image);
    let fits = all.iter().filter_map(|(place, login)| {
        let place = plain(place);
        let rest = wanted.strip_prefix(&place)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((place.len(), login))
    });
    fits.max_by_key(|(length, _)| *length).map(|(_, login)| login)
}

fn plain(place: &str) -> String {
    let place = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let place = place.trim_end_matches('/');
    let place = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place);
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        for (image, asked) in [
            ("redis", "redis:latest"),
            ("redis:7", "redis:7"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("registry.example/web@sha256:ab", "registry.example/web@sha256:ab"),
        ] {
            assert_eq!(tagged(image), asked);
        }
    }

    #[test]
    fn a_registry_gets_the_credentials_that_are_meant_for_it_and_no_others() {
        let places = ["https://index.docker.io/v1/", "registry.example", "registry.example/team", "localhost:5000"];
        let all: BTreeMap<String, &str> = places.into_iter().map(|place| (place.to_owned(), place)).collect();
        for (image, place) in [
            ("redis:7", Some("https://index.docker.io/v1/")),
            ("docker.io/library/redis", Some("https://index.docker.io/v1/")),
            ("registry.example/web:1", Some("registry.example")),
            ("registry.example/team/web:1", Some("registry.example/team")),
            ("registry.example/teamwork/web", Some("registry.example")),
            ("localhost:5000/web@sha256:ab", Some("localhost:5000")),
            ("localhost/web", None),
            ("registry.example.org/web", None),
        ] {
            assert_eq!(choose(image, &all).copied(), place, "{image}");
        }
    }
}
