//! The body as it stands, and functions that change it.

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::multipart::{Part, boundary_of, mime_of, parts};
use tandem_script::host::Called;
use tandem_script::value::Value;

use crate::{NO, YES, said};

/// The body with what was changed so far, and its type.
pub(crate) struct Body {
    pub(crate) content_type: Bytes,
    pub(crate) bytes: Bytes,
}

impl Body {
    /// The body that would leave now.
    pub(crate) fn of(ctx: &Ctx) -> Self {
        let tandem_engine::body::Body { content_type, bytes } = ctx.body();
        Self { content_type, bytes }
    }

    /// Its parts, if it has several.
    pub(crate) fn parts(&self) -> Option<Vec<Part>> {
        Some(parts(&self.bytes, &boundary_of(&self.content_type)?))
    }

    /// The content of a type: the whole body, or the first part of it.
    pub(crate) fn find(&self, mime: &[u8]) -> Option<std::ops::Range<usize>> {
        if self.bytes.is_empty() {
            return None;
        }
        if mime.is_empty() || mime_of(&self.content_type).eq_ignore_ascii_case(mime) {
            return Some(0..self.bytes.len());
        }
        let found = self.parts()?.into_iter().find(|p| p.mime.eq_ignore_ascii_case(mime))?;
        Some(found.content)
    }

    /// The session description.
    pub(crate) fn sdp(&self) -> Option<std::ops::Range<usize>> {
        self.find(b"application/sdp")
    }
}

pub(crate) fn has_body(call: &mut Call<'_, '_, '_>) -> Called {
    let wanted = call.text(0);
    said(Body::of(call.ctx).find(&wanted).is_some())
}

pub(crate) fn get_updated_body_part(call: &mut Call<'_, '_, '_>) -> Called {
    let wanted = call.text(0);
    let body = Body::of(call.ctx);
    let Some(found) = body.find(&wanted) else { return NO };
    match call.set_var(1, Value::Str(body.bytes.slice(found))) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

/// Deletes the parts of a type, or, reverted, all but them; without a type, the body.
pub(crate) fn remove_body_part(call: &mut Call<'_, '_, '_>) -> Called {
    let (wanted, revert) = (call.text(0), !call.text(1).is_empty());
    let body = Body::of(call.ctx);
    if body.bytes.is_empty() {
        return NO;
    }
    let goes = |mime: &[u8]| wanted.is_empty() || (mime.eq_ignore_ascii_case(&wanted) != revert);
    let Some(all) = body.parts() else {
        let gone = goes(mime_of(&body.content_type));
        if gone {
            call.ctx.edits.remove_body();
        }
        return said(gone);
    };
    let (gone, stays): (Vec<&Part>, Vec<&Part>) = all.iter().partition(|p| goes(&p.mime));
    if gone.is_empty() {
        return NO;
    }
    match stays.as_slice() {
        [] => {
            call.ctx.edits.remove_body();
            return YES;
        }
        [last] => {
            unwrap(call.ctx, &body.bytes, last);
            return YES;
        }
        _ => {}
    }
    let mut out = Vec::with_capacity(body.bytes.len());
    let mut at = 0;
    for part in gone {
        out.extend_from_slice(body.bytes.get(at..part.whole.start).unwrap_or_default());
        at = part.whole.end;
    }
    out.extend_from_slice(body.bytes.get(at..).unwrap_or_default());
    call.ctx.edits.set_body(body.content_type, out);
    YES
}

/// The last part becomes the body: who cannot read several parts can read it then. Its headers
/// (RFC 2046 5.1: only those that start with Content- have a meaning) become those of the message.
fn unwrap(ctx: &mut Ctx, bytes: &Bytes, part: &Part) {
    let mut content_type = Bytes::from_static(b"text/plain");
    let mut others = Vec::new();
    for (name, value) in part.headers(bytes) {
        if name.eq_ignore_ascii_case(b"Content-Type") {
            content_type = bytes.slice_ref(value);
        } else if starts(name, b"Content-") && !name.eq_ignore_ascii_case(b"Content-Length") {
            others.extend([name, b": ", value, b"\r\n"].concat());
        }
    }
    if !others.is_empty() {
        ctx.edits.append_header(&ctx.msg, others);
    }
    ctx.edits.set_body(content_type, bytes.slice(part.content.clone()));
}

fn starts(name: &[u8], with: &[u8]) -> bool {
    name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// Adds a part; a body of one part becomes one of several.
pub(crate) fn add_body_part(call: &mut Call<'_, '_, '_>) -> Called {
    let (content, mime, headers) = (call.text(0), call.text(1), call.text(2));
    if mime.is_empty() {
        return call.complain(Level::Error, "a body part has a type, such as application/sdp");
    }
    let headers = crate::headers::lines(&headers);
    let body = Body::of(call.ctx);
    if body.bytes.is_empty() {
        call.ctx.edits.set_body(mime, content);
        if !headers.is_empty() {
            let ctx = &mut *call.ctx;
            ctx.edits.append_header(&ctx.msg, headers);
        }
        return YES;
    }
    let part = [b"Content-Type: ", &mime[..], b"\r\n", &headers, b"\r\n", &content].concat();
    if let Some(boundary) = boundary_of(&body.content_type) {
        let close = [b"--", &boundary[..], b"--"].concat();
        let Some(at) = find(&body.bytes, &close) else { return NO };
        let (before, after) = body.bytes.split_at(at);
        let joined = [before, b"--", &boundary, b"\r\n", &part, b"\r\n", after].concat();
        call.ctx.edits.set_body(body.content_type, joined);
        return YES;
    }
    let boundary = new_boundary(&[&body.bytes, &part]);
    let first = [b"Content-Type: ", &body.content_type[..], b"\r\n\r\n", &body.bytes].concat();
    let mark = [b"--", boundary.as_bytes()].concat();
    let joined =
        [&mark, &b"\r\n"[..], &first, b"\r\n", &mark, b"\r\n", &part, b"\r\n", &mark, b"--\r\n"];
    let content_type = format!("multipart/mixed;boundary=\"{boundary}\"");
    call.ctx.edits.set_body(content_type, joined.concat());
    YES
}

/// A boundary that no part contains.
fn new_boundary(parts: &[&[u8]]) -> String {
    let free = (1..10_000u32).map(|n| format!("part-boundary-{n}"));
    let mut free = free.filter(|b| !parts.iter().any(|part| find(part, b.as_bytes()).is_some()));
    free.next().unwrap_or_default()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len().max(1)).position(|window| window == wanted)
}
