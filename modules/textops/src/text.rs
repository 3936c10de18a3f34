//! What is searched, and how a change of it becomes an edit of the message.

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_sip::Span;

/// Matches of one function in one text, at most; the rest stays as it is.
const CHANGES_MAX: usize = 10_000;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    Message,
    /// Everything behind the first line, which has functions of its own.
    HeadersAndBody,
    Body,
}

/// The text of a part.
pub(crate) struct Text {
    pub(crate) bytes: Bytes,
    /// Where it starts in the message; `None`: it is a body that was set anew.
    start: Option<u32>,
}

impl Text {
    pub(crate) fn of(ctx: &Ctx, part: Part) -> Self {
        let (msg, end) = (&ctx.msg, ctx.msg.as_bytes().len() as u32);
        let span = match part {
            Part::Message => Span::new(0, end),
            Part::HeadersAndBody => Span::new(msg.headers_start(), end),
            Part::Body => {
                if let Some(body) = ctx.edits.body() {
                    return Self { bytes: body.clone(), start: None };
                }
                msg.body_span()
            }
        };
        Self { bytes: msg.bytes().slice(span.range()), start: Some(span.start) }
    }

    /// Makes changes, in order: what lies between two offsets becomes another text. `false` if
    /// there are none.
    pub(crate) fn change(&self, ctx: &mut Ctx, changes: Vec<(usize, usize, Vec<u8>)>) -> bool {
        if changes.is_empty() {
            return false;
        }
        let changes = changes.into_iter().take(CHANGES_MAX);
        let Some(start) = self.start else {
            self.set_body(ctx, changes);
            return true;
        };
        for (from, to, text) in changes {
            let span = Span::new(start + from as u32, start + to as u32);
            ctx.edits.replace(span, text);
        }
        true
    }

    fn set_body(&self, ctx: &mut Ctx, changes: impl Iterator<Item = (usize, usize, Vec<u8>)>) {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        for (from, to, text) in changes {
            out.extend_from_slice(self.bytes.get(at..from).unwrap_or_default());
            out.extend_from_slice(&text);
            at = to;
        }
        out.extend_from_slice(self.bytes.get(at..).unwrap_or_default());
        let content_type = ctx.body().content_type;
        ctx.edits.set_body(content_type, out);
    }
}
