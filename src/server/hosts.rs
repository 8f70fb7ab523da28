//! What keeps other people's web pages out: a browser sends requests to any address for any page, with whatever it has for it.
//!
//! - **Host.** A page may point its own name at 127.0.0.1 (DNS rebinding), and is then same-origin with us. So only requests that are
//!   addressed to one of our names are answered; every other one gets 421, before anything else is looked at, on every listener. The socket
//!   too: somebody may forward a port to it.
//! - **Origin.** What a browser adds by itself (a cookie, a client certificate, the place at the socket) proves nothing about the page
//!   that asks. So whatever changes something or opens a two-way stream, and brings no token in its head, must come from a page of ours.
//! - **CORS.** Never allowed; a preflight is refused.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Method, Version,
    header::{self, HeaderName},
    http::{request::Parts, uri::Authority},
};

use super::tls::OWN_NAME;
use crate::{
    api::{Reason, Status},
    policy::certificate::host_matches,
};

/// The names by which we are known.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Hosts {
    /// These, and those of this machine for itself.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1", OWN_NAME].map(str::to_owned).into();
        all.extend(names.map(|name| name.trim_matches(['[', ']']).to_owned()));
        all.sort();
        all.dedup();
        Self(all)
    }

    /// True if a request may be addressed to `host`; `at` is the address that its connection came to.
    fn allows(&self, host: &str, at: Option<IpAddr>) -> bool {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let same = |address: IpAddr| at.is_some_and(|at| at.to_canonical() == address.to_canonical());
        self.0.iter().any(|name| host_matches(name, host)) || host.parse().is_ok_and(same)
    }

    /// True if `target`, a host with or without a port, is this server: one of its names, and one of its `ports`.
    pub(super) fn are_meant(&self, target: &str, at: Option<IpAddr>, ports: &[u16]) -> bool {
        target.parse::<Authority>().is_ok_and(|target| {
            self.allows(target.host(), at) && target.port().is_none_or(|port| ports.contains(&port.as_u16()))
        })
    }

    /// Lets a request pass that is addressed to us.
    ///
    /// # Errors
    /// 421, and 400 for a request that does not say where it goes.
    pub(super) fn admit(&self, head: &Parts, at: Option<IpAddr>) -> Result<(), Status> {
        let mut named = false;
        let written: Vec<Option<Authority>> =
            head.headers.get_all(header::HOST).iter().map(|value| value.to_str().ok()?.parse().ok()).collect();
        if written.len() > 1 {
            return Err(Status::bad_request("the Host header is there twice"));
        }
        for authority in head.uri.authority().cloned().map(Some).into_iter().chain(written) {
            let Some(authority) = authority else { return Err(Status::bad_request("the Host header cannot be read")) };
            if !self.allows(authority.host(), at) {
                let host = authority.host();
                let message = format!(
                    "this server is not known as `{host}`; `appm server --allowed-host={host}` would make it known"
                );
                return Err(Status::new(Reason::MisdirectedRequest, message));
            }
            named = true;
        }
        // Browsers always name it; probes that speak HTTP/1.0 never do.
        if named || head.version == Version::HTTP_10 {
            Ok(())
        } else {
            Err(Status::bad_request("the Host header is missing"))
        }
    }
}

/// Lets a request pass unless it may be another site's doing. `ambient`: the connection itself proves who asks.
///
/// # Errors
/// 403.
pub(super) fn same_site(head: &Parts, ambient: bool) -> Result<(), Status> {
    let headers = &head.headers;
    if head.method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return Err(Status::new(Reason::Forbidden, "pages of other sites are not served: there is no CORS here"));
    }
    let cookie = headers.contains_key(header::COOKIE);
    let reads = matches!(head.method, Method::GET | Method::HEAD) && !headers.contains_key(header::UPGRADE);
    // `CONNECT` is how HTTP/2 opens a WebSocket, and no read either. Who shows a token in the head was given it by its user.
    let at_risk = cookie || (ambient && !headers.contains_key(header::AUTHORIZATION));
    if reads || !at_risk || is_ours(head, cookie) {
        return Ok(());
    }
    Err(Status::new(Reason::Forbidden, "the request comes from a page of another site (its Origin is not this server)"))
}

fn is_ours(head: &Parts, cookie: bool) -> bool {
    let text = |headers: &HeaderMap, name| headers.get(name).map(|v| v.to_str().unwrap_or_default().to_owned());
    let to = head.uri.authority().map(|a| a.as_str().to_owned()).or_else(|| text(&head.headers, header::HOST));
    match (text(&head.headers, header::ORIGIN), text(&head.headers, SEC_FETCH_SITE)) {
        (Some(origin), _) => to.is_some_and(|to| {
            origin
                .split_once("://")
                .is_some_and(|(scheme, from)| matches!(scheme, "https" | "http") && from.eq_ignore_ascii_case(&to))
        }),
        (None, Some(site)) => matches!(site.as_str(), "same-origin" | "none"),
        // Only programs say neither; one that has a cookie took it from a browser, and can say where it is. App Mesh's clients are programs
        // that have one of their own.
        (None, None) => !cookie || head.uri.path().starts_with("/appmesh/"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn another_port_of_a_host_of_ours_is_another_server() {
        let hosts = Hosts::new(std::iter::empty());
        for (target, are_meant) in [
            ("localhost", true),
            ("127.0.0.1:6060", true),
            ("[::1]:6059", true),
            ("127.0.0.1:22", false),
            ("node-b", false),
            ("169.254.169.254:6060", false),
            ("localhost@node-b:6060", false),
            ("", false),
        ] {
            assert_eq!(hosts.are_meant(target, None, &[6060, 6059]), are_meant, "{target}");
        }
    }

    #[test]
    fn only_our_names_are_answered() {
        let names = ["host-a", "*.example.org", "[fd00::1]"].map(str::to_owned);
        let hosts = Hosts::new(names.iter());
        let at: Option<IpAddr> = "10.0.0.7".parse().ok();
        for good in [
            "localhost",
            "appm.localhost",
            "LOCALHOST:6060",
            "127.0.0.1:6060",
            "[::1]:1",
            "host-a",
            "a.example.org:443",
            "10.0.0.7",
            "[::ffff:10.0.0.7]",
            "[fd00::1]:6060",
            "localhost.",
        ] {
            assert_eq!(hosts.admit(&head("GET", "/", &[("host", good)]), at), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "a.b.example.org",
            "example.org",
            "10.0.0.8",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "0.0.0.0:6060",
            "[::]",
            "127.1",
            "2130706433",
        ] {
            let refused = hosts.admit(&head("GET", "/", &[("host", bad)]), at).expect_err(bad);
            assert_eq!(refused.reason.code(), 421, "{bad}");
        }
    }

    #[test]
    fn every_name_of_a_request_counts() {
        let hosts = Hosts::new([].iter());
        let admit = |head: &Parts| hosts.admit(head, None).map_err(|status| status.reason.code());
        assert_eq!(admit(&head("GET", "https://evil.example/", &[("host", "localhost")])), Err(421));
        assert_eq!(admit(&head("GET", "https://localhost/", &[("host", "evil.example")])), Err(421));
        assert_eq!(admit(&head("GET", "https://localhost/", &[])), Ok(()));
        assert_eq!(admit(&head("GET", "/", &[("host", "localhost"), ("host", "localhost")])), Err(400));
        assert_eq!(admit(&head("GET", "/", &[("host", "local host")])), Err(400));
        assert_eq!(admit(&head("GET", "/", &[])), Err(400));
        let mut old = head("GET", "/", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(admit(&old), Ok(()));
    }

    #[test]
    fn what_browsers_add_by_themselves_counts_only_from_our_own_pages() {
        let host = ("host", "localhost:6060");
        let (ours, other) = (("origin", "https://localhost:6060"), ("origin", "https://localhost:9999"));
        let (cookie, token) = (("cookie", "a=b"), ("authorization", "Bearer x"));
        for (method, headers, ambient, passes) in [
            ("POST", vec![ours, cookie], false, true),
            ("POST", vec![other, cookie], false, false),
            ("POST", vec![("origin", "null"), cookie], false, false),
            ("POST", vec![("origin", "https://localhost:6060.evil.example"), cookie], false, false),
            ("POST", vec![cookie], false, false),
            ("POST", vec![cookie, ("sec-fetch-site", "same-origin")], false, true),
            ("POST", vec![cookie, ("sec-fetch-site", "cross-site")], false, false),
            ("DELETE", vec![other, cookie, token], false, false),
            ("POST", vec![other, token], true, true),
            ("POST", vec![other], true, false),
            ("POST", vec![other], false, true),
            ("POST", vec![], true, true),
            ("GET", vec![other, cookie], true, true),
            ("GET", vec![other, cookie, ("upgrade", "websocket")], false, false),
            ("GET", vec![ours, cookie, ("upgrade", "websocket")], false, true),
            ("CONNECT", vec![other, cookie], false, false),
        ] {
            let headers: Vec<_> = headers.into_iter().chain([host]).collect();
            let judged = same_site(&head(method, "/x", &headers), ambient);
            assert_eq!(judged.is_ok(), passes, "{method} {headers:?} {ambient}");
        }
        assert!(same_site(&head("POST", "/appmesh/app/a/task", &[host, cookie]), false).is_ok());
        assert!(same_site(&head("POST", "/appmesh/app/a/task", &[host, cookie, other]), false).is_err());
        let preflight = [host, other, ("access-control-request-method", "POST")];
        assert!(same_site(&head("OPTIONS", "/x", &preflight), false).is_err());
    }
}
