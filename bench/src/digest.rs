//! Credentials for a challenge (RFC 2617, MD5).

use md5::{Digest, Md5};

/// The password of every phone.
pub(crate) const PASSWORD: &str = "secret";

fn md5(parts: &[&str]) -> String {
    let mut hash = Md5::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            hash.update(b":");
        }
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The Authorization line that answers the challenge of a 401; `None` if there is none.
pub(crate) fn credentials(reply: &[u8], user: &str, uri: &str) -> Option<String> {
    let text = std::str::from_utf8(reply).ok()?;
    let (_, challenge) = text.split_once("\r\nWWW-Authenticate: Digest ")?;
    let challenge = challenge.split("\r\n").next()?;
    let field = |name: &str| {
        let (_, after) = challenge.split_once(&format!("{name}=\""))?;
        after.split('"').next()
    };
    let (realm, nonce) = (field("realm")?, field("nonce")?);
    let ha1 = md5(&[user, realm, PASSWORD]);
    let ha2 = md5(&["REGISTER", uri]);
    let (response, more) = match challenge.contains("qop=") {
        true => {
            let parts = [ha1.as_str(), nonce, "00000001", "abcd", "auth", &ha2];
            (md5(&parts), ", qop=auth, nc=00000001, cnonce=\"abcd\"")
        }
        false => (md5(&[&ha1, nonce, &ha2]), ""),
    };
    Some(format!(
        "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\", algorithm=MD5{more}\r\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_rfc() {
        // RFC 2617 3.5.
        assert_eq!(
            md5(&["Mufasa", "testrealm@host.com", "Circle Of Life"]),
            "939e7578ed9e3c518a452acee763bce9"
        );
    }

    #[test]
    fn a_challenge_is_answered_and_nothing_else() {
        let reply = b"SIP/2.0 401 Unauthorized\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n\r\n";
        let line = credentials(reply, "u1", "sip:h").unwrap();
        assert!(line.contains("nonce=\"n\"") && line.contains("qop=auth"));
        assert_eq!(credentials(b"SIP/2.0 200 OK\r\n\r\n", "u1", "sip:h"), None);
    }
}
