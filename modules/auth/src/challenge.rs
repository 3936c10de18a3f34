//! Asking for credentials.

use std::borrow::Cow;

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{Algorithm, AuthRole, Method};

use crate::authorize::{Auth, realm_of};

/// Algorithms in one challenge, at most.
const ALGORITHMS_MAX: usize = 6;

pub(crate) fn www_challenge(call: &mut Call<'_, '_, '_>) -> Called {
    challenge(call, AuthRole::Server)
}

pub(crate) fn proxy_challenge(call: &mut Call<'_, '_, '_>) -> Called {
    challenge(call, AuthRole::Proxy)
}

fn challenge(call: &mut Call<'_, '_, '_>, role: AuthRole) -> Called {
    let Some(auth) = call.state::<Auth>() else { return Called::Returned(-1) };
    // RFC 3261 22.1: neither can be sent again with credentials.
    if matches!(call.ctx.msg.method(), Method::Ack | Method::Cancel) {
        return call.complain(Level::Warning, "an ACK or CANCEL cannot be challenged");
    }
    let given = call.text(0);
    let Some(realm) = realm_of(&auth, &call.ctx.msg, role, &given) else {
        return call.complain(Level::Warning, "no realm: the domain of the user cannot be read");
    };
    let (qop, algorithms) = (call.text(1), call.text(2));
    let qop = match qop_of(&String::from_utf8_lossy(&qop)) {
        Ok(qop) => qop,
        Err(why) => return call.complain(Level::Error, why),
    };
    let algorithms = match algorithms_of(&String::from_utf8_lossy(&algorithms)) {
        Ok(algorithms) => algorithms,
        Err(why) => return call.complain(Level::Error, why),
    };
    let stale = auth.is_stale(call.ctx);
    let nonce = auth.new_nonce(call.cx.now, call.cx.node);
    let before = call.ctx.reply_headers.len();
    let lines = &mut call.ctx.reply_headers;
    let name = role.challenge_header().as_str();
    if algorithms.is_empty() {
        write_line(lines, name, &realm, &nonce, stale, &qop, None);
    }
    for algorithm in algorithms {
        write_line(lines, name, &realm, &nonce, stale, &qop, Some(algorithm));
    }
    let reason: &[u8] = match role {
        AuthRole::Server => b"Unauthorized",
        AuthRole::Proxy => b"Proxy Authentication Required",
    };
    let sent = tandem_signaling::reply(call.cx, call.ctx, role.status(), reason);
    call.ctx.reply_headers.truncate(before);
    Called::Returned(if sent { 1 } else { -1 })
}

fn write_line(
    out: &mut Vec<u8>,
    name: &str,
    realm: &[u8],
    nonce: &[u8],
    stale: bool,
    qop: &str,
    algorithm: Option<Algorithm>,
) {
    let mut push = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    push(&[name.as_bytes(), b": Digest realm=\"", &quotable(realm), b"\", nonce=\"", nonce, b"\""]);
    if !qop.is_empty() {
        push(&[b", qop=\"", qop.as_bytes(), b"\""]);
    }
    if let Some(algorithm) = algorithm {
        push(&[b", algorithm=", algorithm.as_str().as_bytes()]);
    }
    if stale {
        push(&[b", stale=true"]);
    }
    push(&[b"\r\n"]);
}

/// A realm that cannot break out of its quotes.
fn quotable(realm: &[u8]) -> Cow<'_, [u8]> {
    let is_bad = |b: &u8| matches!(b, b'"' | b'\\' | b'\r' | b'\n');
    if realm.iter().any(is_bad) {
        return Cow::Owned(realm.iter().copied().filter(|b| !is_bad(b)).collect());
    }
    Cow::Borrowed(realm)
}

/// The qop of a challenge as it is written; `0` and `1` are the forms of 2.x.
fn qop_of(text: &str) -> Result<Cow<'static, str>, String> {
    match text {
        "" | "0" => return Ok("".into()),
        "1" | "auth" => return Ok("auth".into()),
        "auth-int" => return Ok("auth-int".into()),
        _ => {}
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() == 2 && parts.contains(&"auth") && parts.contains(&"auth-int") {
        return Ok(parts.join(",").into());
    }
    Err(format!("`{text}` is no qop: write `auth`, `auth-int` or `auth,auth-int`"))
}

fn algorithms_of(text: &str) -> Result<Vec<Algorithm>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for token in text.split(',').map(str::trim) {
        let known = Some(token).filter(|t| !t.is_empty()).map(str::as_bytes);
        let Some(algorithm) = known.and_then(Algorithm::of) else {
            let names: Vec<&str> = Algorithm::ALL.iter().map(|a| a.as_str()).collect();
            return Err(format!("`{token}` is no algorithm; there are {}", names.join(", ")));
        };
        // RFC 8760 2.3: each algorithm once.
        if !all.contains(&algorithm) && all.len() < ALGORITHMS_MAX {
            all.push(algorithm);
        }
    }
    Ok(all)
}

pub(crate) fn check_qop(text: &str) -> Result<(), String> {
    qop_of(text).map(|_| ())
}

pub(crate) fn check_algorithms(text: &str) -> Result<(), String> {
    algorithms_of(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qop_and_algorithms_are_what_the_rfcs_know() {
        assert_eq!(qop_of("auth-int,auth").as_deref(), Ok("auth-int,auth"));
        assert_eq!(qop_of("1").as_deref(), Ok("auth"));
        assert!(qop_of("auth,auth").is_err() && qop_of("conf").is_err());
        assert_eq!(algorithms_of("md5, SHA-256,MD5"), Ok(vec![Algorithm::Md5, Algorithm::Sha256]));
        assert!(algorithms_of("MD5,").is_err() && algorithms_of("SHA-1").is_err());
    }

    #[test]
    fn a_realm_stays_inside_its_quotes() {
        assert_eq!(&*quotable(b"a\"\r\nb\\"), b"ab");
    }
}
