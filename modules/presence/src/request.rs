//! What PUBLISH and SUBSCRIBE say.

use tandem_engine::module::Call;
use tandem_sip::{Header, HeaderName, Message, Params, Uri};

use crate::package::Refusal;
use crate::record::{Key, ROUTES_BYTES_MAX, TEXT_BYTES_MAX, uri_of};

/// Bytes of the name of an event, at most.
const EVENT_BYTES_MAX: usize = 64;

/// The Event header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Name of the package, in lower case: `presence`, `dialog;sla`.
    pub(crate) package: Vec<u8>,
    pub(crate) id: Vec<u8>,
}

/// How packages are found by their names: in lower case, without spaces.
pub(crate) fn package_key(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|b| !b.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect()
}

impl Event {
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let (name, params) = value.split_at_checked(end)?;
        let mut package = package_key(name);
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
        if package.is_empty() || package.len() > EVENT_BYTES_MAX || !package.iter().all(token) {
            return None;
        }
        let params = Params::new(params);
        // Shared lines are a package of their own, told apart by a parameter without a value.
        if package == b"dialog" {
            for kind in [&b"sla"[..], b"ma"] {
                if params.get(kind).is_some() {
                    package = b"dialog;sla".to_vec();
                }
            }
        }
        let id = params.value(b"id").unwrap_or_default();
        let fits = id.len() <= EVENT_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
        fits.then(|| Self { package, id: id.to_vec() })
    }

    pub(crate) fn of(msg: &Message) -> Option<Self> {
        Self::parse(msg.header(HeaderName::Event)?.value())
    }
}

/// What a request asks for and this server does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Names in Require (RFC 3261 8.2.2.3).
    Extension(String),
    /// The body is encoded (RFC 3261 8.2.3).
    Encoding,
}

impl Beyond {
    /// A header that the script has taken out does not count.
    pub(crate) fn of(call: &Call<'_, '_, '_>) -> Option<Self> {
        let (msg, edits) = (&call.ctx.msg, &call.ctx.edits);
        let stays = |header: &Header<'_>| !edits.touches(header.span());
        let required = msg.headers(HeaderName::Require).filter(stays);
        let names = required.flat_map(|header| header.values());
        let names: Vec<_> = names.map(|name| String::from_utf8_lossy(name.bytes)).collect();
        if !names.is_empty() {
            return Some(Self::Extension(names.join(", ")));
        }
        let mut encodings = msg.headers(HeaderName::ContentEncoding).filter(stays);
        let is_encoded = encodings.any(|h| !h.value().eq_ignore_ascii_case(b"identity"));
        (is_encoded && !msg.body().is_empty()).then_some(Self::Encoding)
    }
}

/// `sip:user@domain` of a URI, which is how presentities are known: without port, parameters and
/// password, with the domain in lower case.
pub(crate) fn presentity_of(uri: &Uri<'_>) -> Option<Vec<u8>> {
    let user = uri.user.unwrap_or_default();
    let host = uri.host.to_ascii_lowercase();
    let fits = !host.is_empty() && user.len() + host.len() <= 255;
    fits.then(|| uri_of(user, &host))
}

/// The key of a URI as operators and modules write it.
pub(crate) fn key_of(uri: &[u8], event: &[u8]) -> Option<Key> {
    let uri = Uri::parse(uri).ok()?;
    Some(Key::new(&presentity_of(&uri)?, &package_key(event)))
}

/// Seconds that are asked for.
///
/// # Errors
/// 400, for what is no number.
pub(crate) fn expires(msg: &Message, default_s: u32) -> Result<u32, Refusal> {
    match msg.expires() {
        Ok(seconds) => Ok(seconds.unwrap_or(default_s)),
        Err(_) => Err(Refusal::new(400, "Bad Expires")),
    }
}

/// The route set of a request as a Route header, the next hop first (RFC 3261 12.1.1).
///
/// # Errors
/// 400, for one that is too long to be kept.
pub(crate) fn route_set(msg: &Message) -> Result<Vec<u8>, Refusal> {
    let mut routes = Vec::new();
    for value in msg.values(HeaderName::RecordRoute) {
        if !routes.is_empty() {
            routes.push(b',');
        }
        routes.extend_from_slice(value.bytes);
    }
    if routes.len() > ROUTES_BYTES_MAX || !is_one_line(&routes) {
        return Err(Refusal::new(400, "Bad Record-Route"));
    }
    Ok(routes)
}

/// A text that is kept: on one line, and of some length.
pub(crate) fn is_keepable(text: &[u8]) -> bool {
    text.len() <= TEXT_BYTES_MAX && is_one_line(text)
}

pub(crate) fn is_one_line(text: &[u8]) -> bool {
    !text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Header lines, each with its end, as they may stand in a message.
pub(crate) fn are_lines(text: &[u8]) -> bool {
    let is_whole = text.ends_with(b"\r\n") && !text.starts_with(b"\r\n");
    text.is_empty() || (is_whole && !text.windows(4).any(|w| w == b"\r\n\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_has_a_package_and_an_id() {
        let of = |text: &str| {
            let event = Event::parse(text.as_bytes())?;
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            Some((text(event.package), text(event.id)))
        };
        let some = |package: &str, id: &str| Some((package.to_owned(), id.to_owned()));
        assert_eq!(of("presence"), some("presence", ""));
        assert_eq!(of("Presence.WInfo ; id=7"), some("presence.winfo", "7"));
        assert_eq!(of("dialog;sla"), some("dialog;sla", ""));
        assert_eq!(of("dialog;id=a;ma"), some("dialog;sla", "a"));
        assert_eq!(of("dialog;shared"), some("dialog", ""));
        for bad in ["", ";id=1", "presence;id=a\r\n b", "a b c@", &"x".repeat(70)] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_presentity_is_user_and_domain() {
        let of = |uri: &str| key_of(uri.as_bytes(), b"presence").map(|k| k.uri.to_vec());
        assert_eq!(of("sip:Bob:pw@Example.ORG:5080;x=y"), Some(b"sip:Bob@example.org".to_vec()));
        assert_eq!(of("sip:host"), Some(b"sip:host".to_vec()));
        assert_eq!(of("tel:+1"), None);
        assert_eq!(of(&format!("sip:{}@h", "u".repeat(300))), None);
    }

    proptest! {
        #[test]
        fn no_event_panics(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Event::parse(&value);
        }
    }
}
