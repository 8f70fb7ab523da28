//! Other servers to which App Mesh's calls are passed on, as the operator declares them where this one is started: where each is, and whose
//! certificate it must show. Nothing that is stored declares one, because whoever may write it could have other people's tokens sent to them.

use std::{path::PathBuf, sync::Arc};

use hyper::http::uri::Authority;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::StartError;
use crate::client::http::{Dial, HttpsEndpoint};

/// Where an address says no port.
const PORT: u16 = 6060;
/// Calls that are with one peer at a time; more are refused.
const AT_ONCE: usize = 256;

/// Another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerServer {
    /// What callers name it by: the host of `X-Target-Host`.
    pub name: String,
    /// Where it serves HTTPS: `HOST:PORT`, or `HOST` for port 6060. Default: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The authority of its certificate, in PEM: `pki/ca.pem` of its data directory. No other one is believed.
    pub ca_file: PathBuf,
    /// The name in its certificate. Default: the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl PeerServer {
    /// One of them, or a list, as they stand in a flag or a variable.
    ///
    /// # Errors
    /// What cannot be read, in a sentence.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        let read: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        let all = match read {
            Value::Array(all) => all,
            one => vec![one],
        };
        let all = all.into_iter().map(|one| serde_path_to_error::deserialize(one).map_err(|e| e.to_string()));
        let mut all: Vec<Self> = all.collect::<Result<_, String>>()?;
        for peer in &mut all {
            peer.place()?;
            peer.ca_file = std::path::absolute(&peer.ca_file).unwrap_or_else(|_| peer.ca_file.clone());
        }
        Ok(all)
    }

    /// The same, as it is read.
    pub fn written(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// Its host and port.
    fn place(&self) -> Result<(String, u16), String> {
        let host =
            |text: &str| text.parse::<Authority>().ok().filter(|at| !at.host().is_empty() && !text.contains('@'));
        let wrong = |what: &str| format!("peer `{}`: {what}", self.name);
        if host(&self.name).is_none_or(|name| name.port().is_some()) {
            return Err(wrong("its name must be a host without a port"));
        }
        let address = self.address.as_ref().unwrap_or(&self.name);
        let at = host(address).ok_or_else(|| wrong("its address must be HOST or HOST:PORT"))?;
        let port = at.port().map_or(Some(PORT), |port| Some(port.as_u16()).filter(|port| *port > 0));
        let port = port.ok_or_else(|| wrong("its address has no port that can be reached"))?;
        Ok((at.host().trim_matches(['[', ']']).to_owned(), port))
    }
}

/// All that were declared.
#[derive(Default)]
pub(super) struct Peers(Vec<Arc<Peer>>);

/// One of them.
pub(super) struct Peer {
    /// What callers name it by.
    pub name: String,
    /// Where it is, as a request says it.
    pub authority: String,
    /// The way to it.
    pub dial: Dial,
    /// For those whose calls are with it.
    pub seats: Arc<Semaphore>,
    port: u16,
}

impl Peers {
    /// Reads their authorities.
    ///
    /// # Errors
    /// [`StartError::Peer`]: a peer that cannot be known is no peer.
    pub(super) fn open(declared: &[PeerServer]) -> Result<Self, StartError> {
        let mut all: Vec<Arc<Peer>> = Vec::new();
        for peer in declared {
            let failed = |source| StartError::Peer { name: peer.name.clone(), source };
            let invalid = |why: String| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
            let (host, port) = peer.place().map_err(invalid)?;
            if all.iter().any(|other| other.name.eq_ignore_ascii_case(&peer.name)) {
                return Err(invalid("it is there twice".to_owned()));
            }
            let ca_pem = std::fs::read(&peer.ca_file).map_err(failed)?;
            let server_name = peer.server_name.clone();
            let endpoint = HttpsEndpoint { host, port, ca_pem, token: None, server_name, client: None };
            let authority = match &endpoint.server_name {
                // A server answers to the names in its certificate.
                Some(name) => format!("{name}:{port}"),
                None => endpoint.authority(),
            };
            let dial = Dial::new(endpoint).map_err(failed)?;
            let seats = Arc::new(Semaphore::new(AT_ONCE));
            all.push(Arc::new(Peer { name: peer.name.clone(), authority, dial, seats, port }));
        }
        Ok(Self(all))
    }

    /// The peer that `target`, a host with or without a port, means. App Mesh's clients add the port by which they reach this server, one of `ours`.
    pub(super) fn meant(&self, target: &str, ours: &[u16]) -> Option<Arc<Peer>> {
        let target: Authority = target.parse().ok()?;
        let is_meant = |peer: &&Arc<Peer>| {
            let port = target.port().map(|port| port.as_u16());
            let name = target.as_str().strip_suffix(&port.map(|port| format!(":{port}")).unwrap_or_default());
            name.is_some_and(|name| name.eq_ignore_ascii_case(&peer.name))
                && port.is_none_or(|port| port == peer.port || ours.contains(&port))
        };
        self.0.iter().find(is_meant).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_meant_by_its_name_and_by_nothing_like_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca_file = dir.path().join("ca.pem");
        let pem = rcgen::generate_simple_self_signed(vec!["node-b".to_owned()]).expect("made").cert.pem();
        std::fs::write(&ca_file, pem).expect("written");
        let of = |name: &str, address: Option<&str>| PeerServer {
            name: name.to_owned(),
            address: address.map(str::to_owned),
            ca_file: ca_file.clone(),
            server_name: None,
        };
        let peers = Peers::open(&[of("node-b", Some("10.0.0.7:7000")), of("[fd00::7]", None)]).expect("declared");
        for (target, meant) in [
            ("node-b", Some("10.0.0.7:7000")),
            ("NODE-B:7000", Some("10.0.0.7:7000")),
            ("node-b:6059", Some("10.0.0.7:7000")),
            ("[fd00::7]", Some("[fd00::7]:6060")),
            ("node-b:22", None),
            ("node-b.evil.example", None),
            ("10.0.0.7", None),
            ("10.0.0.7:7000", None),
            ("x@node-b", None),
            ("node-b:", None),
            ("", None),
        ] {
            let found = peers.meant(target, &[6061, 6059]);
            assert_eq!(found.map(|peer| peer.authority.clone()).as_deref(), meant, "{target}");
        }
        let twice = [of("a", None), of("A", None)];
        assert!(matches!(Peers::open(&twice), Err(StartError::Peer { .. })));
    }

    #[test]
    fn what_is_declared_wrongly_is_said() {
        for (text, why) in [
            ("{name: 'node-b:1', caFile: a}", "a host without a port"),
            ("{name: b, address: 'u@b:1', caFile: a}", "HOST or HOST:PORT"),
            ("{name: b, address: 'b:0', caFile: a}", "no port"),
            ("{name: b}", "caFile"),
            ("{name: b, caFile: a, token: x}", "token"),
        ] {
            let refused = PeerServer::read(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let read = PeerServer::read("[{name: b, address: 'b:1', caFile: /a}]").expect("a list");
        assert_eq!(PeerServer::read(&read[0].written()), Ok(read));
    }
}
