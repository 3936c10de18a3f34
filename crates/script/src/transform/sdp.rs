//! `{sdp.*}`: lines and streams of a session description (RFC 4566).

use super::{Args, TransformSig, copy, on, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("sdp.line", (1, 2, 0b10), line, "a line: type, number of that type from 0"),
    row("sdp.stream", (1, 1, 0), stream, "a stream: index or media"),
    row("sdp.stream-delete", (1, 1, 0), delete, "without a stream: index, or all of a media"),
];

/// Lines with their ends.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split_inclusive(|b| *b == b'\n')
}

fn line(value: &Value, args: &Args<'_>) -> Value {
    let Some(wanted) = args.word(0) else { return Value::Null };
    let at = args.int(1).unwrap_or(0);
    on(value, |body| {
        let of_type = |l: &&[u8]| l.strip_prefix(&wanted[..]).is_some_and(|r| r.starts_with(b"="));
        let found = lines(body).filter(of_type).map(<[u8]>::trim_ascii_end);
        super::list::nth(found, at)
    })
}

/// What stands before the first `m=`, and the streams.
fn split(body: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in lines(body) {
        if line.starts_with(b"m=") {
            starts.push(at);
        }
        at += line.len();
    }
    let piece = |from: usize, to: usize| body.get(from..to).unwrap_or_default();
    let head = piece(0, starts.first().copied().unwrap_or(body.len()));
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let streams = starts.iter().zip(ends).map(|(from, to)| piece(*from, to)).collect();
    (head, streams)
}

/// Which streams an argument means: one by its index, or all of a media.
fn chosen(streams: &[&[u8]], args: &Args<'_>) -> Vec<usize> {
    if let Some(at) = args.int(0) {
        let at = if at < 0 { streams.len() as i64 + i64::from(at) } else { i64::from(at) };
        return usize::try_from(at).ok().filter(|i| *i < streams.len()).into_iter().collect();
    }
    let Some(media) = args.word(0) else { return Vec::new() };
    let is = |s: &[u8]| {
        let name = s.get(2..).and_then(|s| s.split(u8::is_ascii_whitespace).next());
        name.is_some_and(|n| n.eq_ignore_ascii_case(&media))
    };
    (0..streams.len()).filter(|i| streams.get(*i).is_some_and(|s| is(s))).collect()
}

fn stream(value: &Value, args: &Args<'_>) -> Value {
    on(value, |body| {
        let (_, streams) = split(body);
        let first = chosen(&streams, args).first().copied();
        first.and_then(|i| streams.get(i)).map_or(Value::Null, |s| copy(s))
    })
}

fn delete(value: &Value, args: &Args<'_>) -> Value {
    on(value, |body| {
        let (head, streams) = split(body);
        let gone = chosen(&streams, args);
        if gone.is_empty() {
            return Value::Null;
        }
        let kept = streams.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, s)| *s);
        Value::str([head].into_iter().chain(kept).collect::<Vec<_>>().concat())
    })
}
