//! Headers: asked for, added, removed.

use bytes::Bytes;
use tandem_engine::date::rfc1123;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_sip::{Header, HeaderName};

use crate::expressions::{expression, glob};
use crate::{NO, YES, said};

/// Headers that `get_glob_headers_values()` lists, at most.
const LISTED_MAX: usize = 255;

pub(crate) fn is_present_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    said(call.ctx.msg.header_by_text(trim_colon(&name)).is_some())
}

pub(crate) fn append_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let (lines, anchor) = (lines(&call.text(0)), call.text(1));
    let ctx = &mut *call.ctx;
    match ctx.msg.headers_by_text(trim_colon(&anchor)).last().filter(|_| !anchor.is_empty()) {
        Some(header) => ctx.edits.insert_after(header.span().end, lines),
        None if anchor.is_empty() => ctx.edits.append_header(&ctx.msg, lines),
        None => return NO,
    }
    YES
}

pub(crate) fn insert_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let (lines, anchor) = (lines(&call.text(0)), call.text(1));
    let ctx = &mut *call.ctx;
    match ctx.msg.header_by_text(trim_colon(&anchor)).filter(|_| !anchor.is_empty()) {
        Some(header) => ctx.edits.insert_before(header.span().start, lines),
        None if anchor.is_empty() => ctx.edits.prepend_header(&ctx.msg, lines),
        None => return NO,
    }
    YES
}

pub(crate) fn append_urihf(call: &mut Call<'_, '_, '_>) -> Called {
    let (prefix, suffix) = (call.text(0), call.text(1));
    let ctx = &mut *call.ctx;
    let line = lines(&[&prefix[..], ctx.msg.request_uri(), &suffix].concat());
    ctx.edits.append_header(&ctx.msg, line);
    YES
}

/// The header is for our own reply: a request that passes has the date of its sender.
pub(crate) fn append_time(call: &mut Call<'_, '_, '_>) -> Called {
    let line = format!("Date: {}\r\n", rfc1123(call.cx.now.unix_s()));
    call.ctx.reply_headers.extend_from_slice(line.as_bytes());
    YES
}

pub(crate) fn remove_hf(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    let name = trim_colon(&name);
    let known = HeaderName::of(name);
    remove(call, |header| {
        let same = header.name() == known;
        same && (known != HeaderName::Other || header.name_bytes().eq_ignore_ascii_case(name))
    })
}

pub(crate) fn remove_hf_re(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(wanted) = expression(call, 0) else { return NO };
    remove(call, |header| wanted.is_match(header.name_bytes()))
}

pub(crate) fn remove_hf_glob(call: &mut Call<'_, '_, '_>) -> Called {
    match glob(&call.text(0)) {
        Some(wanted) => remove(call, |header| wanted.is_match(header.name_bytes())),
        None => call.complain(Level::Error, "not a pattern for names"),
    }
}

fn remove(call: &mut Call<'_, '_, '_>, goes: impl Fn(&Header<'_>) -> bool) -> Called {
    let ctx = &mut *call.ctx;
    let mut removed = false;
    for header in ctx.msg.all_headers().filter(|header| goes(header)) {
        ctx.edits.remove(header.span());
        removed = true;
    }
    said(removed)
}

/// RFC 3323 4.2: the values are separated by semicolons.
pub(crate) fn is_privacy(call: &mut Call<'_, '_, '_>) -> Called {
    let wanted = call.text(0);
    let msg = &call.ctx.msg;
    let has = |header: Header<'_>| {
        let mut values = header.value().split(|b| matches!(b, b';' | b','));
        values.any(|value| value.trim_ascii().eq_ignore_ascii_case(wanted.trim_ascii()))
    };
    said(msg.headers(HeaderName::Privacy).any(has))
}

/// Index 0 of both lists is the first header.
pub(crate) fn get_glob_headers_values(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(wanted) = glob(&call.text(0)) else {
        return call.complain(Level::Error, "not a pattern for names");
    };
    let all = call.ctx.msg.all_headers().filter(|h| wanted.is_match(h.name_bytes()));
    let texts = |h: Header<'_>| {
        (Bytes::copy_from_slice(h.name_bytes()), Bytes::from(h.unfolded().into_owned()))
    };
    let found: Vec<_> = all.take(LISTED_MAX).map(texts).collect();
    if found.is_empty() {
        return NO;
    }
    for (name, value) in found.into_iter().rev() {
        for (index, text) in [(1, name), (2, value)] {
            if let Err(why) = call.set_var(index, Value::Str(text)) {
                return call.complain(Level::Error, why);
            }
        }
    }
    YES
}

pub(crate) fn trim_colon(name: &[u8]) -> &[u8] {
    name.strip_suffix(b":").unwrap_or(name).trim_ascii()
}

/// Header lines with a proper line end at the end, so that a forgotten one cannot join two
/// headers.
pub(crate) fn lines(text: &[u8]) -> Vec<u8> {
    let mut out = text.trim_ascii_end().to_vec();
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}
