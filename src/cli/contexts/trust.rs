//! How a server is met for the first time: its authority is fetched over a connection that proves nothing, shown, and believed only
//! when somebody who knows says so; then the server must prove over a connection of its own that it descends from it.

use std::io::{BufRead, IsTerminal};

use super::super::{
    error::{CliError, Exit},
    screen,
};
use crate::{
    client::http::{Endpoint, HttpClient, HttpsEndpoint, Request, introduce},
    policy::certificate::{Certificate, ders as certificates, fingerprint, pem as to_pem},
};

/// The name by which a server that shows another certificate shows the one of its own authority.
const OWN_NAME: &str = "appm.localhost";

/// What is to be believed of a server.
pub(super) enum Trust<'a> {
    /// The authorities in this PEM file.
    Authority(Vec<u8>),
    /// The authority with this fingerprint.
    Fingerprint(&'a str),
    /// Whatever whoever sits at the terminal says yes to.
    Asked,
}

/// The server at `endpoint` as it is to be remembered: with the authority that it has proved to descend from.
///
/// # Errors
/// When it is not believed, or cannot prove it.
pub(super) async fn meet(mut endpoint: HttpsEndpoint, trust: Trust<'_>) -> Result<HttpsEndpoint, CliError> {
    endpoint.ca_pem = match trust {
        Trust::Authority(pem) => pem,
        Trust::Fingerprint(expected) => chosen(&introduced(&endpoint).await?, expected)?,
        Trust::Asked => asked(&endpoint, introduced(&endpoint).await?)?,
    };
    match proved(&endpoint).await {
        Ok(()) => Ok(endpoint),
        Err(first) => {
            // A certificate that was brought does not descend from the server's own authority; by another name it shows that one.
            let by_own_name = HttpsEndpoint { server_name: Some(OWN_NAME.to_owned()), ..endpoint.clone() };
            let tried = endpoint.server_name.is_none() && proved(&by_own_name).await.is_ok();
            if tried { Ok(by_own_name) } else { Err(first) }
        }
    }
}

/// The authorities that the server trusts now, fetched over a connection that is verified.
///
/// # Errors
/// When nobody answers, or not as a server of appm.
pub(super) async fn refreshed(endpoint: &HttpsEndpoint) -> Result<Vec<u8>, CliError> {
    let client = HttpClient::new(Endpoint::Https(endpoint.clone()))?;
    let pem = client.call(Request::get("/ca.pem")).await?.body.to_vec();
    if certificates(&pem).is_empty() { Err(CliError::failed("the server serves no authority")) } else { Ok(pem) }
}

async fn introduced(endpoint: &HttpsEndpoint) -> Result<Vec<u8>, CliError> {
    let pem = introduce(endpoint).await?.to_vec();
    if certificates(&pem).is_empty() {
        let error = CliError::failed(format!("{endpoint:?} shows no authority; it may be no server of appm"));
        return Err(error.help("--ca-file=FILE names the authority of its certificate"));
    }
    Ok(pem)
}

/// Nobody else answers for it: a request over a connection that is verified.
async fn proved(endpoint: &HttpsEndpoint) -> Result<(), CliError> {
    let client = HttpClient::new(Endpoint::Https(endpoint.clone()))?;
    client.call(Request::get("/version")).await?;
    Ok(())
}

/// The one authority with this fingerprint: whatever else was shown is not believed.
fn chosen(pem: &[u8], expected: &str) -> Result<Vec<u8>, CliError> {
    let plain = |text: &str| text.trim_start_matches("sha256:").replace(':', "").to_lowercase();
    let all = certificates(pem);
    match all.iter().find(|der| plain(&fingerprint(der)) == plain(expected)) {
        Some(der) => Ok(to_pem(der).into_bytes()),
        None => {
            let shown: Vec<String> = all.iter().map(|der| fingerprint(der)).collect();
            let message = format!("the server shows another authority: {}", shown.join(", "));
            Err(CliError::new(Exit::NotAllowed, message)
                .help("somebody may be in between; `appm context show local` on the server's machine says what it is"))
        }
    }
}

fn asked(endpoint: &HttpsEndpoint, pem: Vec<u8>) -> Result<Vec<u8>, CliError> {
    let all = certificates(&pem);
    let first = fingerprint(&all[0]);
    if !std::io::stdin().is_terminal() {
        let error = CliError::usage(format!("{endpoint:?} is not known yet; its authority is {first}"));
        return Err(error.help(format!("if that is right: --ca-fingerprint={first}")));
    }
    screen::remark(format_args!("{endpoint:?} is not known yet. Its authority has the fingerprint\n  {first}"));
    if let Some(expires) = Certificate::read(&all[0]).ok().map(|facts| facts.expires) {
        screen::remark(format_args!("  until {expires}"));
    }
    screen::remark(
        "`appm context show local` on its machine says the same, if nobody is in between. Is it right? [yes/no]",
    );
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| CliError::io("cannot read the answer", &e))?;
    match answer.trim() {
        "yes" | "y" => Ok(to_pem(&all[0]).into_bytes()),
        _ => Err(CliError::new(Exit::NotAllowed, "nothing was added")),
    }
}
