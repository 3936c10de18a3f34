//! What is to go out differently than it came in.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{HeaderName, Message, Span};

/// Changes to one message, applied by [`crate::write`].
///
/// Edits say places in the received message and never see each other's text. Rules for edits
/// that meet, so that the result does not depend on anything but the order of the calls:
///
/// - A replacement drops every earlier replacement that it shares bytes with, and every earlier
///   insertion strictly inside it: the later one wins.
/// - An insertion strictly inside bytes that are already replaced is dropped, since its
///   surroundings are gone. At either end of a replacement it stays.
/// - Of insertions at one place, [`Edits::insert_before`] goes in front of those that are there,
///   [`Edits::insert_after`] behind them. All of them go in front of a replacement that starts
///   there.
/// - What would touch the empty line between headers and body, or lies outside of the message,
///   is not applied.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// By start, insertions before the replacement at the same place; never overlapping. Many
    /// messages have one, the hop count or our Via.
    list: SmallVec<[Edit; 2]>,
    body: Option<Box<NewBody>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// Empty for an insertion.
    pub(crate) span: Span,
    pub(crate) text: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct NewBody {
    pub(crate) content_type: Bytes,
    pub(crate) bytes: Bytes,
}

impl Edits {
    /// No edits; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy with room for so many more, so that it grows once.
    #[must_use]
    pub fn with_room(&self, more: usize) -> Self {
        let mut list = SmallVec::with_capacity(self.list.len() + more);
        list.extend(self.list.iter().cloned());
        Self { list, body: self.body.clone() }
    }

    /// `true` if the message leaves as it came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.body.is_none()
    }

    /// How many edits are kept, the body as one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len() + usize::from(self.body.is_some())
    }

    /// Writes `text` instead of the bytes of `span`. For an empty span this is
    /// [`Edits::insert_after`] its place.
    pub fn replace(&mut self, span: Span, text: impl Into<Bytes>) {
        if span.is_empty() {
            return self.insert_after(span.start, text);
        }
        self.list.retain(|e| !is_replaced_by(e.span, span));
        let at = self.list.partition_point(|e| {
            e.span.start < span.start || (e.span.start == span.start && e.span.is_empty())
        });
        self.list.insert(at, Edit { span, text: text.into() });
    }

    /// Leaves the bytes of `span` out.
    pub fn remove(&mut self, span: Span) {
        if !span.is_empty() {
            self.replace(span, Bytes::new());
        }
    }

    /// `true` if nothing of `span` is left.
    #[must_use]
    pub fn removes(&self, span: Span) -> bool {
        let covers = |e: &Edit| e.span.start <= span.start && span.end <= e.span.end;
        !span.is_empty() && self.list.iter().any(|e| e.text.is_empty() && covers(e))
    }

    /// Inserts `text` at `offset`, in front of what was inserted there before.
    pub fn insert_before(&mut self, offset: u32, text: impl Into<Bytes>) {
        let at = self.list.partition_point(|e| e.span.start < offset);
        self.insert(at, offset, text.into());
    }

    /// Inserts `text` at `offset`, behind what was inserted there before.
    pub fn insert_after(&mut self, offset: u32, text: impl Into<Bytes>) {
        let at = self.list.partition_point(|e| {
            e.span.start < offset || (e.span.start == offset && e.span.is_empty())
        });
        self.insert(at, offset, text.into());
    }

    fn insert(&mut self, at: usize, offset: u32, text: Bytes) {
        let before = self.list.get(..at).unwrap_or_default();
        let inside = before
            .iter()
            .rev()
            .find(|e| !e.span.is_empty())
            .is_some_and(|e| e.span.start < offset && offset < e.span.end);
        if !inside && !text.is_empty() {
            self.list.insert(at, Edit { span: Span::new(offset, offset), text });
        }
    }

    /// Adds header lines, each with its line end, behind all headers.
    pub fn append_header(&mut self, msg: &Message, lines: impl Into<Bytes>) {
        self.insert_after(msg.headers_end(), lines);
    }

    /// Adds header lines, each with its line end, in front of all headers, those included that
    /// were put there before.
    pub fn prepend_header(&mut self, msg: &Message, lines: impl Into<Bytes>) {
        self.insert_before(msg.headers_start(), lines);
    }

    /// Writes another first line; `line` has no line end.
    pub fn set_first_line(&mut self, msg: &Message, line: impl Into<Bytes>) {
        self.replace(msg.first_line_span(), line);
    }

    /// Writes another Request-URI. Does nothing to a reply.
    pub fn set_request_uri(&mut self, msg: &Message, uri: impl Into<Bytes>) {
        if msg.is_request() {
            self.replace(msg.request_uri_span(), uri);
        }
    }

    /// Writes another body, over every edit inside the old one, before or after. Content-Type
    /// and Content-Length follow. An empty body takes Content-Type away.
    pub fn set_body(&mut self, content_type: impl Into<Bytes>, body: impl Into<Bytes>) {
        let body = NewBody { content_type: content_type.into(), bytes: body.into() };
        self.body = Some(Box::new(body));
    }

    /// Leaves the body out, and Content-Type with it.
    pub fn remove_body(&mut self) {
        self.set_body(Bytes::new(), Bytes::new());
    }

    /// The body that was set, if one was.
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref().map(|b| &b.bytes)
    }

    /// The Content-Type of the body that was set, if one was.
    #[must_use]
    pub fn body_type(&self) -> Option<&Bytes> {
        self.body.as_ref().map(|b| &b.content_type)
    }

    /// `true` if something changes in the body, or it was set.
    #[must_use]
    pub fn touches_body(&self, msg: &Message) -> bool {
        let start = msg.body_span().start;
        self.body.is_some() || self.list.iter().any(|e| e.span.end >= start)
    }

    /// `true` if all changes are within headers of these names, and leave them one line each.
    #[must_use]
    pub fn stay_within(&self, msg: &Message, names: &[HeaderName]) -> bool {
        let is_inside = |edit: &Edit| {
            let mut lines = names.iter().flat_map(|name| msg.headers(*name)).map(|h| h.span());
            lines.any(|line| line.start <= edit.span.start && edit.span.end <= line.end)
        };
        let fits =
            |edit: &Edit| !edit.span.is_empty() && !edit.text.contains(&b'\n') && is_inside(edit);
        self.body.is_none() && self.list.iter().all(fits)
    }

    /// The changes but that of the whole body, in their order: done one after the other to a copy
    /// of the message, with [`Edits::replace`], they make the same edits.
    pub fn changes(&self) -> impl Iterator<Item = (Span, &Bytes)> {
        self.list.iter().map(|edit| (edit.span, &edit.text))
    }

    pub(crate) fn list(&self) -> &[Edit] {
        &self.list
    }

    pub(crate) fn new_body(&self) -> Option<&NewBody> {
        self.body.as_deref()
    }

    pub(crate) fn take_body(&mut self) -> Option<NewBody> {
        self.body.take().map(|body| *body)
    }

    /// Drops every edit that starts at `offset` or later.
    pub(crate) fn drop_from(&mut self, offset: u32) {
        self.list.retain(|e| e.span.start < offset);
    }

    /// `true` if an edit replaces bytes of `span` or inserts strictly inside of it.
    #[must_use]
    pub fn touches(&self, span: Span) -> bool {
        self.list.iter().any(|e| is_replaced_by(e.span, span))
    }
}

/// `true` if the edit at `old` does not survive a replacement of `new`.
const fn is_replaced_by(old: Span, new: Span) -> bool {
    if old.is_empty() { new.start < old.start && old.start < new.end } else { old.overlaps(new) }
}
