//! `sipmsg_validate()`: is this a message that one wants to deal with?

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::sockets::Proto;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Invalid, Message, Method, NameAddr, Uri, ValueError};

use crate::YES;

/// A code and what it means.
type Fault = (i32, &'static str);

/// What is looked at beyond the headers that every message has.
#[derive(Clone, Copy, Default)]
struct Wanted {
    sdp: bool,
    headers: bool,
    no_max_forwards: bool,
    request_uri: bool,
    from: bool,
    to: bool,
    contact: bool,
}

pub(crate) fn sipmsg_validate(call: &mut Call<'_, '_, '_>) -> Called {
    let mut wanted = Wanted::default();
    for letter in call.text(0).iter() {
        match letter {
            b's' => wanted.sdp = true,
            b'h' => wanted.headers = true,
            b'm' => wanted.no_max_forwards = true,
            b'r' => wanted.request_uri = true,
            b'f' => wanted.from = true,
            b't' => wanted.to = true,
            b'c' => wanted.contact = true,
            _ => return call.complain(Level::Error, "flags of sipmsg_validate: s h m r f t c"),
        }
    }
    let is_stream = call.cx.node.sockets.get(call.ctx.source.socket);
    let is_stream = is_stream.is_some_and(|socket| socket.proto != Proto::Udp);
    let judged = judge(&call.ctx.msg, wanted, is_stream);
    let judged = judged.map_err(|(code, why)| (code, why.to_owned()));
    let Err((code, why)) = judged.and_then(|()| the_rest(&call.ctx.msg)) else { return YES };
    if call.given(1)
        && let Err(why) = call.set_var(1, Value::str(why))
    {
        return call.complain(Level::Error, why);
    }
    Called::Returned(code)
}

/// The literal flags of a script.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !"shmrftc".contains(*c)) {
        Some(other) => Err(format!("unknown flag `{other}`: s, h, m, r, f, t, c")),
        None => Ok(()),
    }
}

fn judge(msg: &Message, wanted: Wanted, is_stream: bool) -> Result<(), Fault> {
    mandatory(msg)?;
    body(msg, wanted, is_stream)?;
    if wanted.headers {
        headers(msg)?;
    }
    if msg.is_request() {
        request(msg, wanted)?;
    } else {
        reply(msg)?;
    }
    if wanted.from {
        address(msg.from(), (-24, "From cannot be read"), (-25, "bad domain in From"))?;
        user(msg.from(), (-28, "bad user in From"))?;
    }
    if wanted.to {
        address(msg.to(), (-22, "To cannot be read"), (-23, "bad domain in To"))?;
        user(msg.to(), (-29, "bad user in To"))?;
    }
    if wanted.contact { contacts(msg) } else { Ok(()) }
}

/// What else keeps the node from acting on it.
fn the_rest(msg: &Message) -> Result<(), (i32, String)> {
    let Err(problem) = msg.validate() else { return Ok(()) };
    let code = match problem {
        Invalid::RequestUri(_) => -11,
        Invalid::Header(HeaderName::From, _) => -24,
        Invalid::Header(HeaderName::To, _) => -22,
        Invalid::Header(..) => -2,
        _ => -255,
    };
    Err((code, problem.to_string()))
}

fn mandatory(msg: &Message) -> Result<(), Fault> {
    let needs = [
        (HeaderName::CallId, (-3, "no Call-ID header")),
        (HeaderName::CSeq, (-7, "no CSeq header")),
        (HeaderName::From, (-8, "no From header")),
        (HeaderName::To, (-9, "no To header")),
        (HeaderName::Via, (-10, "no Via header")),
    ];
    let missing = needs.into_iter().find(|(name, _)| msg.header(*name).is_none());
    missing.map_or(Ok(()), |(_, fault)| Err(fault))
}

fn body(msg: &Message, wanted: Wanted, is_stream: bool) -> Result<(), Fault> {
    let length = msg.content_length().map_err(|_| (-5, "bad Content-Length"))?;
    let present = msg.body().len();
    match length {
        None if is_stream => return Err((-4, "no Content-Length header")),
        Some(length) if length as usize != present => return Err((-5, "bad Content-Length")),
        _ => {}
    }
    if present == 0 {
        return Ok(());
    }
    let Some(media) = msg.content_type().filter(|t| !t.is_empty()) else {
        return Err((-21, "no Content-Type header"));
    };
    let is_sdp = tandem_engine::multipart::mime_of(media).eq_ignore_ascii_case(b"application/sdp");
    if wanted.sdp && is_sdp && !sdp_is_fine(msg.body()) {
        return Err((-6, "the session description cannot be read"));
    }
    Ok(())
}

/// Lines of one letter and `=`, starting with `v=`, with an origin, and `m=` lines of four words.
fn sdp_is_fine(body: &[u8]) -> bool {
    let lines = || body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    let formed = |line: &[u8]| matches!(line, [b'a'..=b'z', b'=', ..]) || line.is_empty();
    let media = |line: &[u8]| !line.starts_with(b"m=") || line.split(|b| *b == b' ').count() >= 4;
    lines().all(|line| formed(line) && media(line))
        && lines().next().is_some_and(|first| first.starts_with(b"v="))
        && lines().any(|line| line.starts_with(b"o="))
}

fn headers(msg: &Message) -> Result<(), Fault> {
    let fault = (-2, "a header cannot be read");
    let addresses = [
        HeaderName::Route,
        HeaderName::RecordRoute,
        HeaderName::Path,
        HeaderName::PAssertedIdentity,
        HeaderName::PPreferredIdentity,
        HeaderName::ReferTo,
        HeaderName::Diversion,
    ];
    let fine = msg.vias().all(|via| via.is_ok())
        && msg.cseq().is_ok()
        && msg.from().is_ok()
        && msg.to().is_ok()
        && msg.expires().is_ok()
        && msg.max_forwards().is_ok()
        && msg.contact_list().is_ok()
        && addresses.into_iter().all(|name| msg.addrs(name).all(|addr| addr.is_ok()));
    if fine { Ok(()) } else { Err(fault) }
}

fn request(msg: &Message, wanted: Wanted) -> Result<(), Fault> {
    if !wanted.no_max_forwards && msg.header(HeaderName::MaxForwards).is_none() {
        return Err((-13, "no Max-Forwards header"));
    }
    let method = msg.method();
    let makes_target = matches!(method, Method::Invite | Method::Subscribe | Method::Refer);
    if makes_target && msg.header(HeaderName::Contact).is_none() {
        return Err((-14, "no Contact header"));
    }
    if method != Method::Register && msg.header(HeaderName::Path).is_some() {
        return Err((-15, "a Path header in a request that is no REGISTER"));
    }
    if wanted.request_uri {
        let uri = msg.parse_request_uri().map_err(|_| (-11, "the Request-URI cannot be read"))?;
        if uri.is_sip() && !is_host(uri.host_bare()) {
            return Err((-12, "bad domain in the Request-URI"));
        }
        if !uri.user.is_none_or(is_user) {
            return Err((-27, "bad user in the Request-URI"));
        }
    }
    Ok(())
}

fn reply(msg: &Message) -> Result<(), Fault> {
    let needs = [
        (405, HeaderName::Allow, (-16, "no Allow header in a 405")),
        (423, HeaderName::MinExpires, (-17, "no Min-Expires header in a 423")),
        (407, HeaderName::ProxyAuthenticate, (-18, "no Proxy-Authenticate header in a 407")),
        (420, HeaderName::Unsupported, (-19, "no Unsupported header in a 420")),
        (401, HeaderName::WwwAuthenticate, (-20, "no WWW-Authenticate header in a 401")),
    ];
    let lacks = |(status, name, _): &(u16, HeaderName, Fault)| {
        msg.status() == *status && msg.header(*name).is_none()
    };
    needs.into_iter().find(lacks).map_or(Ok(()), |(_, _, fault)| Err(fault))
}

fn address(
    found: Result<NameAddr<'_>, ValueError>,
    unreadable: Fault,
    bad_domain: Fault,
) -> Result<(), Fault> {
    let addr = found.map_err(|_| unreadable)?;
    let uri = addr.parse_uri().map_err(|_| unreadable)?;
    if uri.is_sip() && !is_host(uri.host_bare()) { Err(bad_domain) } else { Ok(()) }
}

fn user(found: Result<NameAddr<'_>, ValueError>, fault: Fault) -> Result<(), Fault> {
    let user = found.ok().and_then(|addr| addr.parse_uri().ok()).and_then(|uri: Uri<'_>| uri.user);
    if user.is_none_or(is_user) { Ok(()) } else { Err(fault) }
}

fn contacts(msg: &Message) -> Result<(), Fault> {
    let list = match msg.contact_list() {
        Err(ValueError::Star) => return Err((-30, "`*` beside other contacts")),
        Err(_) => return Err((-26, "Contact cannot be read")),
        Ok(list) => list,
    };
    if list.is_star() && (msg.method() != Method::Register || msg.expires() != Ok(Some(0))) {
        return Err((-30, "`*` without Expires: 0 in a REGISTER"));
    }
    let fine = list.contacts().iter().all(|contact| contact.addr.parse_uri().is_ok());
    if fine { Ok(()) } else { Err((-26, "Contact cannot be read")) }
}

/// An address, or labels of letters, digits and hyphens that do not end in one.
fn is_host(host: &[u8]) -> bool {
    if tandem_sip::host_ip(host).is_some() {
        return true;
    }
    let label = |l: &[u8]| {
        let ends = !l.starts_with(b"-") && !l.ends_with(b"-");
        !l.is_empty()
            && l.len() <= 63
            && ends
            && l.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    !host.is_empty() && host.len() <= 255 && host.split(|b| *b == b'.').all(label)
}

/// RFC 3261 25.1: unreserved, user-unreserved, or an escape.
fn is_user(user: &[u8]) -> bool {
    let mut rest = user;
    while let [first, more @ ..] = rest {
        rest = match (first, more) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (b'%', _) => return false,
            (b, _) if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/#[]".contains(b) => more,
            _ => return false,
        };
    }
    true
}
