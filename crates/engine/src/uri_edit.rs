//! Changing one part of a URI: what `$rU = "x"`, `sethost()` and `strip()` do.

use bytes::Bytes;
use tandem_sip::Uri;

/// A part of a SIP URI that a script can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    User,
    Password,
    Host,
    Port,
    /// Host and port together.
    HostPort,
}

/// The URI with one part replaced; an empty user or port is dropped. `None` when the URI cannot
/// be read or the result would not be one.
#[must_use]
pub fn with_part(uri: &[u8], part: Part, value: &[u8]) -> Option<Bytes> {
    let parsed = Uri::parse(uri).ok()?;
    // The bytes between the scheme and the parameters are what all parts live in.
    let mut out = Vec::with_capacity(uri.len() + value.len());
    out.extend_from_slice(parsed.scheme_bytes);
    out.push(b':');
    let user = if part == Part::User { value } else { parsed.user.unwrap_or_default() };
    if !user.is_empty() {
        out.extend_from_slice(user);
        let password = match part {
            Part::Password => Some(value).filter(|p| !p.is_empty()),
            _ => parsed.password,
        };
        if let Some(password) = password {
            out.push(b':');
            out.extend_from_slice(password);
        }
        out.push(b'@');
    }
    let host = if matches!(part, Part::Host | Part::HostPort) { value } else { parsed.host };
    if host.is_empty() {
        return None;
    }
    out.extend_from_slice(host);
    let port = match part {
        Part::Port => value.to_vec(),
        Part::HostPort => Vec::new(),
        _ => parsed.port.map(|p| p.to_string().into_bytes()).unwrap_or_default(),
    };
    if !port.is_empty() {
        out.push(b':');
        out.extend_from_slice(&port);
    }
    out.extend_from_slice(after_hostport(uri, &parsed));
    Uri::parse(&out).ok()?;
    Some(Bytes::from(out))
}

/// Parameters and headers as they are written, with their leading `;` or `?`.
fn after_hostport<'a>(uri: &'a [u8], parsed: &Uri<'a>) -> &'a [u8] {
    let host_end =
        (parsed.host.as_ptr() as usize + parsed.host.len()).saturating_sub(uri.as_ptr() as usize);
    let rest = uri.get(host_end..).unwrap_or_default();
    let at = rest.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(rest.len());
    rest.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(uri: &str, part: Part, value: &str) -> Option<String> {
        let bytes = with_part(uri.as_bytes(), part, value.as_bytes())?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn one_part_changes_and_the_rest_stays() {
        let uri = "sip:bob@example.org:5070;transport=udp?x=1";
        let is = |part, value, expected: &str| {
            assert_eq!(edit(uri, part, value).as_deref(), Some(expected));
        };
        is(Part::User, "al", "sip:al@example.org:5070;transport=udp?x=1");
        is(Part::User, "", "sip:example.org:5070;transport=udp?x=1");
        is(Part::Host, "[::1]", "sip:bob@[::1]:5070;transport=udp?x=1");
        is(Part::Password, "pw", "sip:bob:pw@example.org:5070;transport=udp?x=1");
        is(Part::Port, "", "sip:bob@example.org;transport=udp?x=1");
        is(Part::HostPort, "a.b:1", "sip:bob@a.b:1;transport=udp?x=1");
        assert_eq!(edit(uri, Part::Host, ""), None);
        assert_eq!(edit(uri, Part::Port, "no"), None);
    }
}
