//! `fix_nated_sdp()`: the address of the source, or another one, in the SDP body.

use std::net::IpAddr;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::multipart::contents_of;
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::FlagSig;

use crate::Nathelper;
use crate::params::Params;

const fn flag(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old, help }
}

/// The flags, in the order of their old numbers.
pub(crate) const FLAGS: &[FlagSig] = &[
    flag("add-dir-active", "1", "Adds a=direction:active."),
    flag("rewrite-media-ip", "2", "Rewrites the addresses of c= lines."),
    flag("add-no-rtpproxy", "4", "Adds the line nortpproxy_str."),
    flag("rewrite-origin-ip", "8", "Rewrites the address of the o= line."),
    flag("rewrite-null-ips", "16", "Rewrites 0.0.0.0 too, which means hold."),
];

/// What is to be done to a body.
struct Work<'a> {
    adds_direction: bool,
    rewrites_media: bool,
    adds_no_rtpproxy: bool,
    rewrites_origin: bool,
    rewrites_null: bool,
    ip: IpAddr,
    /// Lines to add, as the script gives them.
    fields: &'a [u8],
}

pub(crate) fn fix_nated_sdp(call: &mut Call<'_, '_, '_>) -> Called {
    let flags = match call.ready(0) {
        Some(Ready::Flags(flags)) => (**flags).clone(),
        _ => {
            let text = call.text(0);
            match tandem_script::flags::parse(FLAGS, &String::from_utf8_lossy(&text)) {
                Ok(parsed) => parsed.flags,
                Err(e) => return call.complain(Level::Error, e),
            }
        }
    };
    let ip = match call.given(1).then(|| call.text(1)) {
        None => call.ctx.source.addr.ip(),
        Some(text) => match std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok()) {
            Some(ip) => ip,
            None => return call.complain(Level::Error, "that is no IP address"),
        },
    };
    let fields = call.text(2);
    let Some(module) = call.state::<Nathelper>() else { return Called::Returned(-1) };
    let ctx = &mut *call.ctx;
    // What other functions changed in it before stays.
    let tandem_engine::body::Body { content_type, bytes: body } = ctx.body();
    let kind = if content_type.is_empty() { &b"application/sdp"[..] } else { &content_type };
    let kind = kind.to_vec();
    let sessions = contents_of(&kind, &body, b"application/sdp");
    if body.is_empty() || sessions.is_empty() {
        return Called::Returned(-1);
    }
    let work = Work {
        adds_direction: flags.has(0),
        rewrites_media: flags.has(1),
        adds_no_rtpproxy: flags.has(2),
        rewrites_origin: flags.has(3),
        rewrites_null: flags.has(4),
        ip,
        fields: &fields,
    };
    let mut fixed = Vec::with_capacity(body.len() + 128);
    let mut done = 0;
    for session in sessions {
        fixed.extend_from_slice(body.get(done..session.start).unwrap_or_default());
        let text = body.get(session.clone()).unwrap_or_default();
        fixed.extend_from_slice(&work.fixed(text, &module.params));
        done = session.end;
    }
    fixed.extend_from_slice(body.get(done..).unwrap_or_default());
    ctx.edits.set_body(Bytes::from(kind), fixed);
    Called::Returned(1)
}

impl Work<'_> {
    fn fixed(&self, body: &[u8], params: &Params) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len() + 128);
        let mut old = Vec::new();
        for line in body.split_inclusive(|b| *b == b'\n') {
            let text = line.trim_ascii_end();
            let (media, origin) = (text.starts_with(b"c="), text.starts_with(b"o="));
            let fixed = match (media && self.rewrites_media, origin && self.rewrites_origin) {
                (true, _) => self.rewritten(text, 2),
                (_, true) => self.rewritten(text, 5),
                _ => None,
            };
            match fixed {
                Some((fixed, was)) => {
                    out.extend_from_slice(&fixed);
                    out.extend_from_slice(b"\r\n");
                    let (name, skips) = match media {
                        true => ("oldcip", params.skips_oldcip),
                        false => ("oldoip", params.skips_oldoip),
                    };
                    if !skips {
                        old.push([b"a=", name.as_bytes(), b":", was, b"\r\n"].concat());
                    }
                }
                None => out.extend_from_slice(line),
            }
        }
        if !out.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend(old.into_iter().flatten());
        self.add_lines(&mut out, params);
        out
    }

    /// The line with the new address, and the old one. `at` is the place of the address among
    /// the words of the line: `c=IN IP4 10.0.0.1`, `o=- 1 1 IN IP4 10.0.0.1`.
    fn rewritten<'l>(&self, line: &'l [u8], at: usize) -> Option<(Vec<u8>, &'l [u8])> {
        let words: Vec<&[u8]> = line.split(|b| *b == b' ').filter(|w| !w.is_empty()).collect();
        let word = *words.get(at)?;
        let end = word.iter().position(|b| *b == b'/').unwrap_or(word.len());
        let (was, behind) = word.split_at(end);
        let is_null = std::str::from_utf8(was).ok()?.parse::<IpAddr>().ok()?.is_unspecified();
        if is_null && !self.rewrites_null {
            return None;
        }
        let family: &[u8] = if self.ip.is_ipv4() { b"IP4" } else { b"IP6" };
        let ip = self.ip.to_string();
        let address = [ip.as_bytes(), behind].concat();
        let mut words = words;
        *words.get_mut(at.checked_sub(1)?)? = family;
        *words.get_mut(at)? = &address;
        Some((words.join(&b' '), was))
    }

    fn add_lines(&self, out: &mut Vec<u8>, params: &Params) {
        let mut add = |line: &[u8]| {
            out.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        };
        if self.adds_direction {
            add(b"a=direction:active");
        }
        if self.adds_no_rtpproxy && !params.nortpproxy.is_empty() {
            add(params.nortpproxy.as_bytes());
        }
        if !self.fields.is_empty() {
            add(self.fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixed(body: &[u8]) -> Vec<u8> {
        let work = Work {
            adds_direction: false,
            rewrites_media: true,
            adds_no_rtpproxy: false,
            rewrites_origin: true,
            rewrites_null: true,
            ip: IpAddr::from([203, 0, 113, 7]),
            fields: b"",
        };
        work.fixed(body, &Params::default())
    }

    #[test]
    fn lines_that_cannot_be_read_stay_as_they_are() {
        let body = b"c=\r\nc=IN\r\nc=IN IP4\r\nc=IN IP4 x.y\r\no=- 1\r\nm=audio\r\n\0\xff\r\n";
        assert_eq!(fixed(body), body);
        assert_eq!(
            fixed(b"c=IN IP4 10.0.0.1/127"),
            b"c=IN IP4 203.0.113.7/127\r\na=oldcip:10.0.0.1\r\n"
        );
    }

    /// Something like a line with an address.
    const LINE: &str = "[co]=(IN |- 1 1 IN )?(IP4|IP6|)( |)[0-9.:/a-f]{0,20}";

    proptest! {
        #[test]
        fn no_body_panics_and_what_comes_out_is_bounded(
            lines in prop::collection::vec(LINE, 0..20),
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let body = [lines.join("\r\n").as_bytes(), &noise].concat();
            let out = fixed(&body);
            prop_assert!(out.len() <= body.len() + 64 * (lines.len() + 101));
        }
    }
}
