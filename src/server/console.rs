//! `/docs`: a page that shows the API's document and tries it out, embedded, so that it works on a machine without internet.
//!
//! The page and the document need no credentials: they say what every copy of this program says. Calls that are tried out need them,
//! and whoever tries enters the token in the page, which keeps it for as long as it is open. The page may load nothing from elsewhere
//! and send nothing elsewhere, whatever its script would like to do: the Content-Security-Policy forbids it.
//!
//! The script is kept as gzip and sent so; every browser understands that. `assets/console/update` fetches it.

use hyper::StatusCode;

use super::respond::{self, Answer};

/// `style-src` must allow styles in the page, because the script makes them there; code only comes from files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../assets/console/index.html");
const START: &str = include_str!("../../assets/console/start.js");
const SCRIPT: &[u8] = include_bytes!("../../assets/console/scalar.js.gz");
const LICENSE: &str = include_str!("../../assets/console/LICENSE");

/// The file of a path, if it is one of the console's.
pub(super) fn file(path: &str) -> Option<Answer> {
    let whole = |content_type, body: &'static [u8]| respond::whole(StatusCode::OK, content_type, body);
    let mut answer = match path {
        "docs" => whole("text/html; charset=utf-8", PAGE.as_bytes()),
        "docs/start.js" => whole("text/javascript; charset=utf-8", START.as_bytes()),
        "docs/scalar.js" => {
            let mut script = whole("text/javascript; charset=utf-8", SCRIPT);
            respond::header(&mut script, "content-encoding", "gzip");
            script
        }
        "docs/license.txt" => whole("text/plain; charset=utf-8", LICENSE.as_bytes()),
        _ => return None,
    };
    respond::header(&mut answer, "content-security-policy", POLICY);
    Some(answer)
}
