//! The session description of a message, line by line (RFC 4566).
//!
//! A name is `PREFIX` or `PREFIX/N`: the line that begins so, or its Nth word, from 0. Of several
//! lines an index chooses one. A value takes the place of what was found, null takes it out, and a
//! line that is not there is added.

use std::ops::Range;

use bytes::Bytes;
use tandem_script::host::{Assign, Index};
use tandem_script::value::Value;

use super::{bytes, indexed, named, pick, write};
use crate::context::Ctx;
use crate::module::{VarCall, VariableDef};

/// Lines of one description that are looked at.
const LINES_MAX: usize = 4_096;
const SDP: &[u8] = b"application/sdp";

pub(super) const VARIABLES: &[VariableDef] = &[
    write("sdp", "The session description of the body.", whole, set_whole),
    named(write(
        "sdp",
        "The session description of the body; one there is, whatever its name.",
        whole,
        set_whole,
    )),
    named(indexed(write("sdp.line", "A line of the session description.", line, set_line))),
    named(indexed(write(
        "sdp.session",
        "A line of the part before the streams; without a name, all of it.",
        session,
        set_session,
    ))),
    named(indexed(write(
        "sdp.stream",
        "A stream by its medium (audio), or a line of it (audio/a=ptime); an index chooses the \
         stream.",
        stream,
        set_stream,
    ))),
    named(super::read("sdp.stream.idx", "Which stream is the first of a medium, from 0.", |c| {
        let text = body(c.ctx);
        let found = streams(&text).iter().position(|s| is_medium(&text, s, c.access.name));
        found.map_or(Value::Null, |n| Value::Int(n as i32))
    })),
];

/// The body, if it is a session description.
fn body(ctx: &Ctx) -> Bytes {
    let body = ctx.body();
    let end = body.content_type.iter().position(|b| *b == b';');
    let kind = body.content_type.get(..end.unwrap_or(body.content_type.len()));
    let is_sdp = kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(SDP));
    if is_sdp { body.bytes } else { Bytes::new() }
}

fn whole(call: &mut VarCall<'_, '_>) -> Value {
    let text = body(call.ctx);
    if text.is_empty() { Value::Null } else { Value::Str(text) }
}

fn set_whole(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    match value.into_bytes() {
        Some(text) => call.ctx.edits.set_body(Bytes::from_static(SDP), text),
        None => call.ctx.edits.remove_body(),
    }
    Ok(())
}

/// Places of the lines within a part, without their ends.
fn lines(text: &[u8], part: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = part.start;
    while at < part.end && found.len() < LINES_MAX {
        let rest = text.get(at..part.end).unwrap_or_default();
        let len = rest.iter().position(|b| *b == b'\n');
        let line = rest.get(..len.unwrap_or(rest.len())).unwrap_or_default();
        let bare = line.strip_suffix(b"\r").unwrap_or(line);
        if !bare.is_empty() {
            found.push(at..at + bare.len());
        }
        at += len.map_or(rest.len(), |len| len + 1);
    }
    found
}

/// Places of the streams: from their m= to the next one.
fn streams(text: &[u8]) -> Vec<Range<usize>> {
    let all = lines(text, 0..text.len());
    let is_start = |l: &&Range<usize>| text.get((*l).clone()).is_some_and(|l| l.starts_with(b"m="));
    let starts: Vec<usize> = all.iter().filter(is_start).map(|l| l.start).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The part before the streams.
fn session_part(text: &[u8]) -> Range<usize> {
    0..streams(text).first().map_or(text.len(), |s| s.start)
}

fn is_medium(text: &[u8], stream: &Range<usize>, medium: &[u8]) -> bool {
    let line = text.get(stream.clone()).and_then(|t| t.strip_prefix(b"m="));
    let name = line.and_then(|l| l.split(|b| b.is_ascii_whitespace()).next());
    medium.is_empty() || name.is_some_and(|name| name.eq_ignore_ascii_case(medium))
}

/// `PREFIX/N` in its parts.
fn parts(name: &[u8]) -> (&[u8], Option<usize>) {
    let slash = name.iter().rposition(|b| *b == b'/');
    let number = slash.and_then(|at| std::str::from_utf8(name.get(at + 1..)?).ok()?.parse().ok());
    match (slash, number) {
        (Some(at), Some(number)) => (name.get(..at).unwrap_or(name), Some(number)),
        _ => (name, None),
    }
}

fn words(text: &[u8], line: &Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for at in line.clone().chain([line.end]) {
        let is_space = at == line.end || text.get(at).is_none_or(u8::is_ascii_whitespace);
        match (start, is_space) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// The places in a part that a name means.
fn found(text: &[u8], part: Range<usize>, name: &[u8]) -> Vec<Range<usize>> {
    let (prefix, word) = parts(name);
    let fits = |l: &Range<usize>| text.get(l.clone()).is_some_and(|l| l.starts_with(prefix));
    let lines = lines(text, part).into_iter().filter(fits);
    match word {
        None => lines.collect(),
        Some(n) => lines.filter_map(|line| words(text, &line).get(n).cloned()).collect(),
    }
}

fn get_in(text: &[u8], part: Range<usize>, name: &[u8], index: Index) -> Value {
    let places = found(text, part, name);
    let texts: Vec<&[u8]> = places.iter().filter_map(|p| text.get(p.clone())).collect();
    pick(&texts, index)
}

/// Which of `count` an index means.
fn chosen(index: Index, count: usize) -> Option<usize> {
    match index {
        Index::None | Index::All => (count > 0).then_some(0),
        Index::Append => None,
        Index::At(n) => match usize::try_from(n) {
            Ok(n) => (n < count).then_some(n),
            Err(_) => count.checked_sub(n.unsigned_abs() as usize),
        },
    }
}

fn set_in(
    call: &mut VarCall<'_, '_>,
    text: &[u8],
    part: Range<usize>,
    name: &[u8],
    value: Value,
) -> Result<(), String> {
    let places = found(text, part.clone(), name);
    let place = chosen(call.access.index, places.len()).and_then(|n| places.get(n));
    let (_, word) = parts(name);
    let new = value.into_bytes();
    let (place, new) = match (place, new) {
        (Some(place), Some(new)) => (place.clone(), new.to_vec()),
        (Some(place), None) if word.is_some() => (place.clone(), Vec::new()),
        (Some(place), None) => (with_end(text, place), Vec::new()),
        (None, None) => return Ok(()),
        (None, Some(_)) if word.is_some() => return Err("there is no such line".to_owned()),
        (None, Some(new)) => (part.end..part.end, [&new[..], b"\r\n"].concat()),
    };
    put(call.ctx, text, place, &new);
    Ok(())
}

/// A line with its end.
fn with_end(text: &[u8], line: &Range<usize>) -> Range<usize> {
    let rest = text.get(line.end..).unwrap_or_default();
    let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |n| n + 1);
    line.start..line.end + end
}

fn put(ctx: &mut Ctx, text: &[u8], place: Range<usize>, new: &[u8]) {
    let before = text.get(..place.start).unwrap_or_default();
    let behind = text.get(place.end..).unwrap_or_default();
    let lacks_end = place.is_empty() && !before.is_empty() && !before.ends_with(b"\n");
    let end: &[u8] = if lacks_end { b"\r\n" } else { b"" };
    let body = [before, end, new, behind].concat();
    ctx.edits.set_body(Bytes::from_static(SDP), body);
}

fn line(call: &mut VarCall<'_, '_>) -> Value {
    let text = body(call.ctx);
    get_in(&text, 0..text.len(), call.access.name, call.access.index)
}

fn set_line(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let text = body(call.ctx);
    let name = call.access.name;
    set_in(call, &text, 0..text.len(), name, value)
}

fn session(call: &mut VarCall<'_, '_>) -> Value {
    let text = body(call.ctx);
    let part = session_part(&text);
    match call.access.name {
        b"" => bytes(text.get(part).filter(|part| !part.is_empty())),
        name => get_in(&text, part, name, call.access.index),
    }
}

fn set_session(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let text = body(call.ctx);
    let (part, name) = (session_part(&text), call.access.name);
    if name.is_empty() {
        put(call.ctx, &text, part, &value.into_bytes().unwrap_or_default());
        return Ok(());
    }
    set_in(call, &text, part, name, value)
}

/// The stream that a name and an index mean, and the line of it.
fn stream_place<'a>(text: &[u8], name: &'a [u8], index: Index) -> Option<(Range<usize>, &'a [u8])> {
    let slash = name.iter().position(|b| *b == b'/');
    let (medium, line) = match slash {
        Some(at) => (name.get(..at)?, name.get(at + 1..)?),
        None => (name, &b""[..]),
    };
    let fitting: Vec<_> =
        streams(text).into_iter().filter(|s| is_medium(text, s, medium)).collect();
    let n = chosen(index, fitting.len())?;
    Some((fitting.get(n)?.clone(), line))
}

fn stream(call: &mut VarCall<'_, '_>) -> Value {
    let text = body(call.ctx);
    match stream_place(&text, call.access.name, call.access.index) {
        None => Value::Null,
        Some((part, b"")) => bytes(text.get(part)),
        Some((part, line)) => get_in(&text, part, line, Index::None),
    }
}

fn set_stream(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let text = body(call.ctx);
    let name = call.access.name;
    match stream_place(&text, name, call.access.index) {
        None => match value.into_bytes() {
            Some(new) => put(call.ctx, &text, text.len()..text.len(), &new),
            None => return Ok(()),
        },
        Some((part, b"")) => put(call.ctx, &text, part, &value.into_bytes().unwrap_or_default()),
        Some((part, line)) => {
            call.access.index = Index::None;
            return set_in(call, &text, part, line, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_description_panics(text in "([vmsao]=[ a-z0-9/]{0,9}(\r\n|\n|\r)?){0,9}", name in "[a-z=/0-9]{0,7}") {
            let text = text.as_bytes();
            for part in streams(text).into_iter().chain([session_part(text), 0..text.len()]) {
                let places = found(text, part, name.as_bytes());
                prop_assert!(places.iter().all(|p| text.get(p.clone()).is_some()));
            }
            let _ = stream_place(text, name.as_bytes(), Index::At(-1));
        }
    }
}
