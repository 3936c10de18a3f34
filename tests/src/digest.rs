//! Answers to challenges, without the project's own digest code.

use md5::{Digest as _, Md5};

use crate::Message;

/// The value of a parameter of a challenge.
fn part<'a>(challenge: &'a str, name: &str) -> &'a str {
    let at = challenge.find(&format!("{name}=")).unwrap_or_else(|| panic!("{name}: {challenge}"));
    let rest = &challenge[at + name.len() + 1..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => rest.split(',').next().unwrap_or_default().trim(),
    }
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// The header line that answers the MD5 challenge of a 401 to a REGISTER for `uri` (RFC 2617
/// 3.2.2).
///
/// # Panics
/// If the 401 has no such challenge.
#[must_use]
pub fn authorization(challenged: &Message, uri: &str, user: &str, password: &str) -> String {
    answer(challenged, "REGISTER", uri, user, password)
}

/// The header line that answers the MD5 challenge of a 401 or 407 to any request.
///
/// # Panics
/// If it has no such challenge.
pub(crate) fn answer(
    challenged: &Message,
    method: &str,
    uri: &str,
    user: &str,
    password: &str,
) -> String {
    let (asks, answers) = match challenged.code() {
        Some(407) => ("Proxy-Authenticate", "Proxy-Authorization"),
        _ => ("WWW-Authenticate", "Authorization"),
    };
    let challenges = challenged.lines(asks);
    let challenge = challenges.iter().find(|c| !c.contains("SHA")).expect("an MD5 challenge");
    let (realm, nonce) = (part(challenge, "realm"), part(challenge, "nonce"));
    let (ha1, ha2) = (md5(&format!("{user}:{realm}:{password}")), md5(&format!("{method}:{uri}")));
    let response = md5(&format!("{ha1}:{nonce}:00000001:abc:auth:{ha2}"));
    format!(
        "{answers}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", qop=auth, nc=00000001, cnonce=\"abc\", response=\"{response}\"\r\n"
    )
}
