//! Shared lines (`dialog;sla`).

use tandem_engine::module::Call;
use tandem_sip::{HeaderName, NameAddr, Uri};

use crate::record::uri_of;
use crate::request::presentity_of;
use crate::state::Presence;

/// The line that a phone subscribes to: the variable of `bla_presentity_spec`, else the user of
/// its Contact at the domain of From.
pub(crate) fn presentity(call: &mut Call<'_, '_, '_>, presence: &Presence) -> Option<Vec<u8>> {
    if let Some(var) = presence.params.bla_presentity {
        let value = call.read(var).into_bytes()?;
        return presentity_of(&Uri::parse(&value).ok()?);
    }
    let msg = &call.ctx.msg;
    let contact = msg.values(HeaderName::Contact).next()?;
    let contact = NameAddr::parse(contact.bytes).ok()?;
    let user = contact.parse_uri().ok()?.user?;
    let from = msg.from().ok()?;
    let domain = from.parse_uri().ok()?.host.to_ascii_lowercase();
    Some(uri_of(user, &domain))
}

/// The body with `domain` where the target of the remote side has an address; `None`: it has none.
pub(crate) fn with_domain(body: &[u8], domain: &[u8]) -> Option<Vec<u8>> {
    let find = |from: usize, text: &[u8]| {
        let rest = body.get(from..)?;
        rest.windows(text.len()).position(|w| w == text).map(|at| from + at)
    };
    let mut out = Vec::with_capacity(body.len() + 64);
    let (mut done, mut from) = (0, 0);
    while let Some(remote) = find(from, b"<remote") {
        let end = find(remote, b"</remote").unwrap_or(body.len());
        from = end;
        let Some(target) = find(remote, b"<target").filter(|at| *at < end) else { continue };
        let Some(uri) = find(target, b"uri=\"").map(|at| at + 5).filter(|at| *at < end) else {
            continue;
        };
        let Some(close) = find(uri, b"\"").filter(|at| *at < end) else { continue };
        let Some(Ok(parsed)) = body.get(uri..close).map(Uri::parse) else { continue };
        let Some(user) = parsed.user.filter(|_| parsed.host_ip().is_some()) else { continue };
        out.extend_from_slice(body.get(done..uri)?);
        out.extend_from_slice(&uri_of(user, domain));
        done = close;
    }
    if done == 0 {
        return None;
    }
    out.extend_from_slice(body.get(done..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_remote_targets_become_the_domain() {
        let body = b"<d><remote><target uri=\"sip:1@10.0.0.7:5062;x\"/></remote>\
                     <local><target uri=\"sip:2@10.0.0.8\"/></local>\
                     <remote><target uri=\"sip:3@[::1]\"></remote></d>";
        let fixed = String::from_utf8(with_domain(body, b"a.test").unwrap()).unwrap();
        assert!(fixed.starts_with("<d><remote><target uri=\"sip:1@a.test\"/></remote>"), "{fixed}");
        assert!(fixed.contains("sip:2@10.0.0.8") && fixed.contains("\"sip:3@a.test\""), "{fixed}");
        assert_eq!(with_domain(b"<remote><target uri=\"sip:1@host\"/></remote>", b"a"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(parts in proptest::collection::vec(0usize..7, 0..20)) {
            let words = ["<remote>", "</remote>", "<target ", "uri=\"", "sip:1@10.0.0.1", "\"", "x"];
            let body: String = parts.iter().map(|p| words[*p]).collect();
            let _ = with_domain(body.as_bytes(), b"a.test");
        }
    }
}
