//! From a message and its edits to the bytes that leave, in one pass.

use bytes::Bytes;

use crate::edits::{Edit, Edits};
use crate::scan::{slice, tail};
use crate::{HeaderName, Message, Span};

/// Appends the message with its edits to `out`. Bytes that no edit names are copied as they are.
/// If the body changes, Content-Length says its new length, and is added if it was not there.
pub fn write(msg: &Message, edits: &Edits, out: &mut Vec<u8>) {
    let Some(length) = new_body_length(msg, edits) else {
        return copy(msg, edits.list(), out);
    };
    let edits = with_length(msg, edits, length);
    copy(msg, edits.list(), out);
}

fn copy(msg: &Message, list: &[Edit], out: &mut Vec<u8>) {
    let buf = msg.as_bytes();
    let added: usize = list.iter().map(|e| e.text.len()).sum();
    out.reserve(buf.len() + added);
    let mut at = 0;
    for edit in list.iter().filter(|e| fits(msg, e.span)) {
        out.extend_from_slice(slice(buf, at, edit.span.start as usize));
        out.extend_from_slice(&edit.text);
        at = edit.span.end as usize;
    }
    out.extend_from_slice(tail(buf, at));
}

/// `false` for what lies outside of the message or would touch the empty line.
fn fits(msg: &Message, span: Span) -> bool {
    let end = msg.as_bytes().len() as u32;
    span.end <= end && (span.end <= msg.headers_end() || span.start >= msg.body_span().start)
}

/// The new length of the body in bytes, if something changes in it.
fn new_body_length(msg: &Message, edits: &Edits) -> Option<usize> {
    if let Some(body) = edits.new_body() {
        return Some(body.bytes.len());
    }
    let start = msg.body_span().start;
    let inside = |e: &&Edit| e.span.start >= start && fits(msg, e.span);
    let mut changed = false;
    let mut length = msg.body().len();
    for edit in edits.list().iter().rev().take_while(|e| e.span.start >= start).filter(inside) {
        changed = true;
        length = (length + edit.text.len()).saturating_sub(edit.span.len() as usize);
    }
    changed.then_some(length)
}

/// The edits with the body, its type and its length as edits like all others.
fn with_length(msg: &Message, edits: &Edits, length: usize) -> Edits {
    let mut edits = edits.clone();
    if let Some(body) = edits.take_body() {
        edits.drop_from(msg.body_span().start);
        let has_type = msg.header(HeaderName::ContentType).is_some();
        if !body.bytes.is_empty() && !body.content_type.is_empty() {
            set_value(msg, &mut edits, HeaderName::ContentType, body.content_type);
        } else if body.bytes.is_empty() && has_type {
            msg.headers(HeaderName::ContentType).for_each(|h| edits.remove(h.span()));
        }
        edits.replace(msg.body_span(), body.bytes);
    }
    set_value(msg, &mut edits, HeaderName::ContentLength, length.to_string().into());
    edits
}

/// Gives a header another value where it stands, or behind all headers if it is not there or is
/// edited already.
fn set_value(msg: &Message, edits: &mut Edits, name: HeaderName, value: Bytes) {
    if let Some(header) = msg.header(name) {
        if !edits.touches(header.span()) {
            return edits.replace(header.value_span(), value);
        }
        edits.remove(header.span());
    }
    let mut line = Vec::with_capacity(name.as_str().len() + value.len() + 4);
    for part in [name.as_str().as_bytes(), b": ", &value, b"\r\n"] {
        line.extend_from_slice(part);
    }
    edits.append_header(msg, line);
}
