//! Signatures of requests by a secret that two servers share: HMAC-SHA256 of the body, as GitHub, Gitea and GitLab send them.

use aws_lc_rs::hmac;

/// GitHub's, which Gitea and many others send, too: `sha256=` and hexadecimal digits.
pub const HUB_SIGNATURE: &str = "x-hub-signature-256";
/// Gitea's: the digits alone.
pub const GITEA_SIGNATURE: &str = "x-gitea-signature";
/// GitLab's: the secret itself.
pub const GITLAB_TOKEN: &str = "x-gitlab-token";

const PREFIX: &[u8] = b"sha256=";

/// Takes in a body piece by piece, and tells in the end whether who sent it has the secret.
pub struct Verifier {
    key: hmac::Key,
    body: hmac::Context,
    /// Nobody's: a secret that there is not takes as long as one that there is.
    none: bool,
}

impl Verifier {
    /// For bodies that are signed by this secret; without one, nobody's signature is good.
    pub fn new(secret: Option<&[u8]>) -> Self {
        let secret = secret.filter(|secret| !secret.is_empty());
        let nobodys = super::secret::random::<32>();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.unwrap_or(&nobodys));
        Self { body: hmac::Context::with_key(&key), key, none: secret.is_none() }
    }

    /// One more piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.body.update(piece);
    }

    /// True if at least one of the headers proves the secret, and each that is there. `header` finds one by its name.
    pub fn is_signed<'a>(self, header: impl Fn(&str) -> Option<&'a [u8]>) -> bool {
        let hexadecimal = hex::encode(self.body.sign());
        let is =
            |given: &[u8], expected: &[u8]| aws_lc_rs::constant_time::verify_slices_are_equal(given, expected).is_ok();
        let hub = header(HUB_SIGNATURE).map(|given| {
            given.strip_prefix(PREFIX).is_some_and(|given| is(&given.to_ascii_lowercase(), hexadecimal.as_bytes()))
        });
        let gitea = header(GITEA_SIGNATURE).map(|given| is(&given.to_ascii_lowercase(), hexadecimal.as_bytes()));
        // What two texts are signed as tells no more of either than whether they are the same.
        let own = hmac::sign(&self.key, b"token");
        let gitlab = header(GITLAB_TOKEN).map(|given| {
            let given = hmac::Key::new(hmac::HMAC_SHA256, given);
            is(hmac::sign(&given, b"token").as_ref(), own.as_ref())
        });
        let proofs: Vec<bool> = [hub, gitea, gitlab].into_iter().flatten().collect();
        !self.none && !proofs.is_empty() && proofs.into_iter().all(|proof| proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: Option<&str>, body: &str, headers: &[(&str, &str)]) -> bool {
        let mut verifier = Verifier::new(secret.map(str::as_bytes));
        body.as_bytes().chunks(3).for_each(|piece| verifier.update(piece));
        verifier.is_signed(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))
    }

    /// The example of GitHub's documentation.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const DIGITS: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn whoever_has_the_secret_is_known_in_the_three_ways_that_servers_have() {
        let hub = format!("sha256={DIGITS}");
        for headers in [
            &[(HUB_SIGNATURE, hub.as_str())][..],
            &[(GITEA_SIGNATURE, DIGITS)],
            &[(GITLAB_TOKEN, SECRET)],
            &[(HUB_SIGNATURE, hub.as_str()), (GITEA_SIGNATURE, DIGITS)],
            &[(GITEA_SIGNATURE, &DIGITS.to_uppercase())],
        ] {
            assert!(signed(Some(SECRET), BODY, headers), "{headers:?}");
        }
    }

    #[test]
    fn nobody_else_is() {
        let hub = format!("sha256={DIGITS}");
        let wrong = format!("sha256={}", DIGITS.replace('7', "8"));
        for headers in [
            &[][..],
            &[(HUB_SIGNATURE, DIGITS)],
            &[(HUB_SIGNATURE, wrong.as_str())],
            &[(HUB_SIGNATURE, "sha256=")],
            &[(HUB_SIGNATURE, hub.as_str()), (GITLAB_TOKEN, "wrong")],
            &[(HUB_SIGNATURE, wrong.as_str()), (GITEA_SIGNATURE, DIGITS)],
            &[(GITEA_SIGNATURE, &DIGITS[..63])],
            &[(GITLAB_TOKEN, "")],
            &[(GITLAB_TOKEN, "It's a Secret to Everybody ")],
        ] {
            assert!(!signed(Some(SECRET), BODY, headers), "{headers:?}");
        }
        assert!(!signed(Some(SECRET), "Hello, World", &[(HUB_SIGNATURE, hub.as_str())]));
        // No secret, or an empty one, is nobody's.
        assert!(!signed(None, BODY, &[(HUB_SIGNATURE, hub.as_str())]));
        for secret in [None, Some("")] {
            assert!(!signed(secret, BODY, &[(GITLAB_TOKEN, "")]));
        }
    }
}
