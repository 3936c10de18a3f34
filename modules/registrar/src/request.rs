//! What a REGISTER asks for, read before any record is looked at.

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_clock::Chance;
use tandem_sip::{Contact, ContactList, Edits, HeaderName, Message, Method, NameAddr, Uri};
use tandem_usrloc::store::ALL_METHODS;

use crate::aor::key_of;
use crate::flags::{PathMode, SaveFlags};
use crate::params::Params;
use crate::push::PushUse;

/// Why a REGISTER is refused: the reply's code, and the text of P-Registrar-Error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) text: &'static str,
}

impl Refusal {
    /// The node is near the limit of its memory.
    pub(crate) const MEMORY: Self = Self::new(503, "Memory is short");

    /// The least that Retry-After says; 0: only what the parameter says.
    pub(crate) fn retry_after_s(self) -> u32 {
        if self.text == Self::MEMORY.text { 60 } else { 0 }
    }

    pub(crate) const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text }
    }

    pub(crate) fn reason(self) -> &'static [u8] {
        match self.code {
            400 => b"Bad Request",
            403 => b"Forbidden",
            420 => b"Bad Extension",
            503 => b"Service Unavailable",
            555 => b"Push Notification Service Not Supported",
            _ => b"Server Internal Error",
        }
    }
}

/// One contact of a REGISTER.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) uri: &'a [u8],
    /// 0: remove it.
    pub(crate) expires_s: u32,
    pub(crate) q: i16,
    pub(crate) instance: &'a [u8],
    pub(crate) methods: u32,
    pub(crate) push: PushUse,
}

/// A REGISTER in its parts.
#[derive(Clone, Debug)]
pub(crate) struct Register<'a> {
    pub(crate) contacts: SmallVec<[Wanted<'a>; 2]>,
    /// `Contact: *`: remove all.
    pub(crate) star: bool,
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: u32,
    pub(crate) user_agent: &'a [u8],
    /// Path as it is stored; empty if it is not.
    pub(crate) path: Bytes,
    /// `received` of the first Path URI.
    pub(crate) path_received: Option<Bytes>,
}

impl<'a> Register<'a> {
    /// # Errors
    /// What the client is told.
    pub(crate) fn read(
        msg: &'a Message,
        flags: &SaveFlags,
        params: &Params,
        chance: &mut Chance,
    ) -> Result<Self, Refusal> {
        let call_id = msg.call_id().ok_or(Refusal::new(400, "No Call-ID"))?;
        let cseq = msg.cseq().map_err(|_| Refusal::new(400, "Invalid CSeq number"))?.number;
        let list = msg.contact_list().map_err(|_| Refusal::new(400, "Invalid Contact"))?;
        let expires_s = msg.expires().ok().flatten().unwrap_or(params.default_expires_s);
        let (path, path_received) = read_path(msg, flags)?;
        let mut register = Self {
            contacts: SmallVec::new(),
            star: list.is_star(),
            call_id,
            cseq,
            user_agent: msg.user_agent().unwrap_or(b"n/a"),
            path,
            path_received,
        };
        if register.star {
            let given = msg.expires().ok().flatten();
            let is_zero = given == Some(0);
            return is_zero
                .then_some(register)
                .ok_or(Refusal::new(400, "Star Contact needs Expires 0"));
        }
        let ContactList::List(list) = list else { return Ok(register) };
        let allowed = allowed_methods(msg);
        for contact in &list {
            let wanted = read_contact(contact, expires_s, allowed, flags, params, chance)?;
            register.contacts.push(wanted);
        }
        Ok(register)
    }

    /// Whether a contact is a GRUU of this AoR itself.
    pub(crate) fn names_gruu_of(&self, aor: &[u8], params: &Params) -> bool {
        self.contacts.iter().any(|wanted| {
            let is_gruu = Uri::parse(wanted.uri).is_ok_and(|uri| uri.param(b"gr").is_some());
            is_gruu && key_of(wanted.uri, params).is_ok_and(|key| key == aor)
        })
    }

    /// Whether it only asks what is registered.
    pub(crate) fn is_query(&self) -> bool {
        !self.star && self.contacts.is_empty()
    }
}

fn read_contact<'a>(
    contact: &Contact<'a>,
    expires_s: u32,
    allowed: u32,
    flags: &SaveFlags,
    params: &Params,
    chance: &mut Chance,
) -> Result<Wanted<'a>, Refusal> {
    let uri = contact.uri();
    let parsed = Uri::parse(uri).map_err(|_| Refusal::new(400, "Invalid Contact URI"))?;
    if uri.len() > params.max_contact_len {
        return Err(Refusal::new(400, "Contact URI too long"));
    }
    let q = contact.q().map_err(|_| Refusal::new(400, "Invalid q parameter in Contact"))?;
    // An unreadable lifetime counts as the default one.
    let expires_s = match contact.expires() {
        Ok(own) => own.unwrap_or(expires_s),
        Err(_) => params.default_expires_s,
    };
    let methods = contact.params().value(b"methods").map(tokens_mask);
    // Who goes may go whatever the service.
    let push = match &params.push {
        Some(push) if expires_s != 0 => push.of_contact(&parsed)?,
        Some(push) => push.of_contact(&parsed).unwrap_or_default(),
        None => PushUse::None,
    };
    Ok(Wanted {
        uri,
        push,
        expires_s: lifetime(expires_s, flags, params.expires_deviation_s, chance),
        q: q.map_or(params.default_q, |q| q as i16),
        instance: contact.instance().unwrap_or_default(),
        methods: methods.unwrap_or(allowed),
    })
}

/// A lifetime within the limits, varied at random; 0 stays 0.
fn lifetime(expires_s: u32, flags: &SaveFlags, deviation_s: u32, chance: &mut Chance) -> u32 {
    if expires_s == 0 {
        return 0;
    }
    let limited = |s: u32| {
        let s = s.max(flags.min_expires_s);
        if flags.max_expires_s == 0 { s } else { s.min(flags.max_expires_s) }
    };
    let wanted = limited(expires_s);
    if deviation_s == 0 {
        return wanted;
    }
    let spread = chance.below(deviation_s.saturating_mul(2).saturating_add(1));
    limited(wanted.saturating_add(spread).saturating_sub(deviation_s)).max(1)
}

fn read_path(msg: &Message, flags: &SaveFlags) -> Result<(Bytes, Option<Bytes>), Refusal> {
    if flags.path == PathMode::Off {
        return Ok((Bytes::new(), None));
    }
    let mut path = Vec::new();
    for value in msg.values(HeaderName::Path) {
        if !path.is_empty() {
            path.push(b',');
        }
        path.extend_from_slice(value.bytes);
    }
    if path.is_empty() {
        return Ok((Bytes::new(), None));
    }
    if flags.path == PathMode::Strict && !msg.has_token(HeaderName::Supported, b"path") {
        return Err(Refusal::new(420, "Path extension not supported by the client"));
    }
    let first = msg.paths().next().and_then(Result::ok);
    let first = first.ok_or(Refusal::new(400, "Invalid Path"))?;
    let received = if flags.path_received { received_of(&first) } else { None };
    Ok((Bytes::from(path), received))
}

/// The URI that `received` of a Path URI holds, escapes undone.
fn received_of(path: &NameAddr<'_>) -> Option<Bytes> {
    let uri = path.parse_uri().ok()?;
    let value = uri.param(b"received").flatten()?;
    let value = tandem_sip::unescape(value);
    let bare = value.trim_ascii_start().strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    let bare = bare.unwrap_or(&value);
    Uri::parse(bare).ok()?;
    Some(Bytes::copy_from_slice(bare))
}

/// What a REGISTER requires and this registrar does not do (RFC 3261 10.3, step 2), as Unsupported
/// lists it. A Require that the script has taken out does not count.
pub(crate) fn unknown_extensions(msg: &Message, edits: &Edits) -> String {
    let known: [&[u8]; 2] = [b"path", b"gruu"];
    let headers = msg.headers(HeaderName::Require).filter(|h| !edits.touches(h.span()));
    let names = headers.flat_map(|header| header.values()).map(|value| value.bytes);
    let unknown = names.filter(|name| !known.iter().any(|k| k.eq_ignore_ascii_case(name)));
    let unknown: Vec<_> = unknown.map(String::from_utf8_lossy).collect();
    unknown.join(", ")
}

/// The wire's bits of the methods in Allow; all when there is none.
fn allowed_methods(msg: &Message) -> u32 {
    if msg.header(HeaderName::Allow).is_none() {
        return ALL_METHODS;
    }
    // Tokens have no quotes, so commas alone part them.
    msg.headers(HeaderName::Allow).fold(0, |mask, header| mask | tokens_mask(header.value()))
}

/// The bits of `"INVITE,BYE"`.
fn tokens_mask(list: &[u8]) -> u32 {
    let list = list.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")).unwrap_or(list);
    let (mut mask, mut rest) = (0, list);
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().trim_ascii();
        mask |= if name.is_empty() { 0 } else { method_bit(name) };
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    mask
}

/// The bit that the wire and SQL have for a method.
pub(crate) fn method_bit(name: &[u8]) -> u32 {
    match Method::of(name) {
        Method::Invite => 1,
        Method::Cancel => 2,
        Method::Ack => 4,
        Method::Bye => 8,
        Method::Info => 16,
        Method::Options => 32,
        Method::Update => 64,
        Method::Register => 128,
        Method::Message => 256,
        Method::Subscribe => 512,
        Method::Notify => 1024,
        Method::Prack => 2048,
        Method::Refer => 4096,
        Method::Publish => 8192,
        Method::Other => 16384,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_usrloc::store::Matching;

    fn flags() -> SaveFlags {
        SaveFlags::of_params(&Params::default(), &Matching::Uri)
    }

    fn message(lines: &str) -> Message {
        let text = format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\
             From: <sip:a@example.org>;tag=1\r\nTo: <sip:a@example.org>\r\nCall-ID: c\r\n\
             CSeq: 7 REGISTER\r\n{lines}\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn read<R>(
        lines: &str,
        flags: &SaveFlags,
        look: impl FnOnce(&Register<'_>) -> R,
    ) -> Result<R, Refusal> {
        let msg = message(lines);
        let mut chance = Chance::from_number(1);
        Register::read(&msg, flags, &Params::default(), &mut chance).map(|r| look(&r))
    }

    fn lifetimes(lines: &str) -> Vec<u32> {
        read(lines, &flags(), |r| r.contacts.iter().map(|c| c.expires_s).collect()).unwrap()
    }

    #[test]
    fn a_lifetime_comes_from_the_contact_then_the_header_then_the_default() {
        let lines = "Expires: 100\r\nContact: <sip:a@h>;expires=200, <sip:b@h>\r\n";
        assert_eq!(lifetimes(lines), [200, 100]);
        assert_eq!(lifetimes("Contact: <sip:a@h>\r\n"), [3600]);
        assert_eq!(lifetimes("Contact: <sip:a@h>;expires=soon\r\n"), [3600]);
        assert_eq!(lifetimes("Contact: <sip:a@h>;expires=1\r\n"), [60], "raised to min_expires");
        assert_eq!(lifetimes("Contact: <sip:a@h>;expires=0\r\n"), [0], "a removal stays one");
    }

    #[test]
    fn a_lifetime_varies_within_its_bounds() {
        let flags = SaveFlags { max_expires_s: 130, ..flags() };
        let mut chance = Chance::from_number(7);
        let all: Vec<u32> = (0..200).map(|_| lifetime(120, &flags, 20, &mut chance)).collect();
        assert!(all.iter().all(|s| (100..=130).contains(s)));
        assert!(all.iter().any(|s| *s < 110) && all.iter().any(|s| *s > 125));
    }

    #[test]
    fn a_star_stands_alone_with_expires_0() {
        let star = |lines: &str| read(lines, &flags(), |r| r.star);
        assert_eq!(star("Contact: *\r\nExpires: 0\r\n"), Ok(true));
        assert_eq!(star("Contact: *\r\n").unwrap_err().code, 400);
        assert_eq!(star("Contact: *\r\nExpires: 5\r\n").unwrap_err().code, 400);
        assert_eq!(star("Contact: *, <sip:a@h>\r\nExpires: 0\r\n").unwrap_err().code, 400);
    }

    #[test]
    fn bad_contacts_are_refused_with_400() {
        for line in [
            "Contact: <sip:a@h>;q=2\r\n".to_owned(),
            "Contact: <nonsense>\r\n".to_owned(),
            "Contact: <sip:a@h\r\n".to_owned(),
            format!("Contact: <sip:{}@h>\r\n", "a".repeat(300)),
        ] {
            assert_eq!(read(&line, &flags(), |_| ()).unwrap_err().code, 400, "{line}");
        }
    }

    #[test]
    fn path_is_kept_in_the_modes_that_say_so() {
        let lines = "Path: <sip:p1;lr>, <sip:p2;lr>\r\nContact: <sip:a@h>\r\n";
        let path = |flags: &SaveFlags| read(lines, flags, |r| r.path.clone());
        assert_eq!(path(&flags()).unwrap(), "");
        let lazy = SaveFlags { path: PathMode::Lazy, ..flags() };
        assert_eq!(path(&lazy).unwrap(), "<sip:p1;lr>,<sip:p2;lr>");
        let strict = SaveFlags { path: PathMode::Strict, ..flags() };
        assert_eq!(path(&strict).unwrap_err().code, 420);
        let supported = format!("{lines}Supported: path\r\n");
        assert!(read(&supported, &strict, |r| r.path.len()).unwrap() > 0);
    }

    #[test]
    fn path_received_is_the_address_behind_the_edge() {
        let lines = "Path: <sip:edge;lr;received=sip:10.0.0.9:5062%3btransport=udp>\r\n";
        let flags = SaveFlags { path: PathMode::Lazy, path_received: true, ..flags() };
        let received = read(lines, &flags, |r| r.path_received.clone()).unwrap();
        assert_eq!(received.unwrap(), "sip:10.0.0.9:5062;transport=udp");
    }

    #[test]
    fn methods_come_from_the_contact_or_from_allow() {
        let methods = |lines: &str| read(lines, &flags(), |r| r.contacts[0].methods).unwrap();
        assert_eq!(methods("Contact: <sip:a@h>\r\n"), ALL_METHODS);
        assert_eq!(methods("Contact: <sip:a@h>\r\nAllow: INVITE, BYE, ACK\r\n"), 13);
        assert_eq!(methods("Contact: <sip:a@h>;methods=\"INVITE,FOO\"\r\n"), 16385);
    }
}
