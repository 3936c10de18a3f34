//! The body, and the parts of one that has several (RFC 2046 5.1).

use tandem_script::host::Index;
use tandem_script::value::Value;
use tandem_sip::{Message, unquote};

use super::{bytes, indexed, message, named, of_msg, pick, read, some};
use crate::module::{VarCall, VariableDef};

/// Parts of one body that are looked at.
const PARTS_MAX: usize = 64;

pub(super) const VARIABLES: &[VariableDef] = &[
    indexed(read("cT", "Content-Type; of a part of the body with an index.", |c| {
        let Some(msg) = message(c) else { return Value::Null };
        match c.access.index {
            Index::None | Index::Append => of_msg(c, Message::content_type),
            index => pick(&parts(msg).iter().map(|p| p.0).collect::<Vec<_>>(), index),
        }
    })),
    indexed(read("rb", "Body; a part of it with an index.", |c| {
        let Some(msg) = message(c) else { return Value::Null };
        match c.access.index {
            Index::None | Index::Append => of_msg(c, |m| some(m.body())),
            index => pick(&parts(msg).iter().map(|p| p.1).collect::<Vec<_>>(), index),
        }
    })),
    named(indexed(read("rb", "The parts of the body that have a type.", of_type))),
];

fn of_type(call: &mut VarCall<'_, '_>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let wanted = call.access.name;
    let is = |kind: &[u8]| {
        let end = kind.iter().position(|b| *b == b';').unwrap_or(kind.len());
        kind.get(..end).unwrap_or(kind).trim_ascii().eq_ignore_ascii_case(wanted)
    };
    let found: Vec<&[u8]> = parts(msg).into_iter().filter(|p| is(p.0)).map(|p| p.1).collect();
    match call.access.index {
        Index::None => bytes(found.first().copied()),
        index => pick(&found, index),
    }
}

/// Type and content of each part; a body without parts is one.
fn parts(msg: &Message) -> Vec<(&[u8], &[u8])> {
    let Some(kind) = msg.content_type() else { return Vec::new() };
    match boundary(kind) {
        Some(boundary) => split(msg.body(), &boundary),
        None if msg.body().is_empty() => Vec::new(),
        None => vec![(kind, msg.body())],
    }
}

fn boundary(kind: &[u8]) -> Option<Vec<u8>> {
    if !kind.get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let at = kind.iter().position(|b| *b == b';')?;
    let params = tandem_sip::Params::new(kind.get(at..)?);
    let value = params.value(b"boundary")?;
    Some([b"--", &unquote(value)[..]].concat()).filter(|b| b.len() > 2)
}

fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut found = Vec::new();
    let mut rest = body;
    let mut open = false;
    while found.len() < PARTS_MAX {
        let at = memchr_line(rest, boundary);
        if open {
            let end = at.unwrap_or(rest.len());
            let piece = rest.get(..end).unwrap_or_default();
            // The line end before the boundary belongs to the boundary.
            let piece = piece.strip_suffix(b"\r\n").or(piece.strip_suffix(b"\n")).unwrap_or(piece);
            found.extend(part(piece));
        }
        let Some(at) = at else { break };
        let behind = rest.get(at + boundary.len()..).unwrap_or_default();
        if behind.starts_with(b"--") {
            break;
        }
        let line = behind.iter().position(|b| *b == b'\n').map_or(behind.len(), |n| n + 1);
        rest = behind.get(line..).unwrap_or_default();
        open = true;
    }
    found
}

/// Where a line starts with the boundary.
fn memchr_line(text: &[u8], boundary: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        if text.get(at..)?.starts_with(boundary) {
            return Some(at);
        }
        at += text.get(at..)?.iter().position(|b| *b == b'\n')? + 1;
    }
}

fn part(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (headers, content) = match piece.strip_prefix(b"\r\n").or(piece.strip_prefix(b"\n")) {
        Some(content) => (&b""[..], content),
        None => {
            let find = |end: &[u8]| piece.windows(end.len()).position(|w| w == end);
            let (at, len) = match (find(b"\r\n\r\n"), find(b"\n\n")) {
                (Some(at), other) if other.is_none_or(|o| at <= o) => (at, 4),
                (_, Some(at)) => (at, 2),
                _ => return None,
            };
            (piece.get(..at)?, piece.get(at + len..)?)
        }
    };
    let lines = headers.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let kind = lines.rev().find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = line.get(..colon)?.trim_ascii();
        let is = name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c");
        is.then(|| line.get(colon + 1..).unwrap_or_default().trim_ascii())
    });
    // RFC 2046 5.1: a part without a type is plain text.
    Some((kind.unwrap_or(b"text/plain"), content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_with_parts_is_taken_apart() {
        let body = b"preamble\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n\
            --b1\r\n\r\nplain\r\n--b1--\r\nrest";
        let parts = split(body, b"--b1");
        assert_eq!(
            parts,
            [(&b"application/sdp"[..], &b"v=0\r\n"[..]), (&b"text/plain"[..], &b"plain"[..])]
        );
        let kind = b"multipart/mixed; boundary=\"b1\"";
        assert_eq!(boundary(kind), Some(b"--b1".to_vec()));
        assert_eq!(boundary(b"application/sdp"), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            split(&body, b"--");
            split(&body, b"\n");
            boundary(&body);
        }
    }
}
