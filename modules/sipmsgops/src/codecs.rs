//! Codecs and streams of a session description.

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::body::Body;
use crate::expressions::expression;
use crate::sdp::{Change, Sdp, Stream};
use crate::{NO, said};

pub(crate) fn codec_exists(call: &mut Call<'_, '_, '_>) -> Called {
    let (name, clock) = (call.text(0), call.text(1));
    exists(call, &|n, c| is_codec(n, c, &name, &clock))
}

pub(crate) fn codec_exists_re(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(wanted) = expression(call, 0) else { return NO };
    exists(call, &|name, _| wanted.is_match(name))
}

pub(crate) fn codec_delete(call: &mut Call<'_, '_, '_>) -> Called {
    by_name(call, Change::Delete)
}

pub(crate) fn codec_delete_re(call: &mut Call<'_, '_, '_>) -> Called {
    by_expression(call, Change::Delete, true)
}

pub(crate) fn codec_delete_except_re(call: &mut Call<'_, '_, '_>) -> Called {
    by_expression(call, Change::Delete, false)
}

pub(crate) fn codec_move_up(call: &mut Call<'_, '_, '_>) -> Called {
    by_name(call, Change::Up)
}

pub(crate) fn codec_move_up_re(call: &mut Call<'_, '_, '_>) -> Called {
    by_expression(call, Change::Up, true)
}

pub(crate) fn codec_move_down(call: &mut Call<'_, '_, '_>) -> Called {
    by_name(call, Change::Down)
}

pub(crate) fn codec_move_down_re(call: &mut Call<'_, '_, '_>) -> Called {
    by_expression(call, Change::Down, true)
}

fn is_codec(name: &[u8], clock: &[u8], wanted: &[u8], wanted_clock: &[u8]) -> bool {
    name.eq_ignore_ascii_case(wanted) && (wanted_clock.is_empty() || clock == wanted_clock)
}

fn by_name(call: &mut Call<'_, '_, '_>, change: Change) -> Called {
    let (name, clock) = (call.text(0), call.text(1));
    changed(call, |sdp| sdp.with_codecs(&|n, c| is_codec(n, c, &name, &clock), change))
}

fn by_expression(call: &mut Call<'_, '_, '_>, change: Change, matching: bool) -> Called {
    let Some(wanted) = expression(call, 0) else { return NO };
    changed(call, |sdp| sdp.with_codecs(&|n, _| wanted.is_match(n) == matching, change))
}

pub(crate) fn stream_exists(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((line, other)) = stream_expressions(call) else { return NO };
    let body = Body::of(call.ctx);
    let Some(at) = body.sdp() else { return NO };
    let text = body.bytes.slice(at);
    let sdp = Sdp::new(&text);
    let found = sdp.streams().any(|stream| is_stream(stream, &line, other.as_deref()));
    said(found)
}

pub(crate) fn stream_delete(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((line, other)) = stream_expressions(call) else { return NO };
    changed(call, |sdp| sdp.without_streams(&|stream| is_stream(stream, &line, other.as_deref())))
}

pub(crate) fn is_audio_on_hold(call: &mut Call<'_, '_, '_>) -> Called {
    let body = Body::of(call.ctx);
    let Some(at) = body.sdp() else { return NO };
    Called::Returned(Sdp::new(&body.bytes.slice(at)).hold().unwrap_or(-1))
}

type Expression = std::sync::Arc<regex::bytes::Regex>;

fn stream_expressions(call: &mut Call<'_, '_, '_>) -> Option<(Expression, Option<Expression>)> {
    let line = expression(call, 0)?;
    let other = match call.given(1) {
        true => Some(expression(call, 1)?),
        false => None,
    };
    Some((line, other))
}

/// The `m=` line matches, and, if asked for, another line of the stream.
fn is_stream(
    stream: Stream<'_, '_>,
    line: &Expression,
    other: Option<&regex::bytes::Regex>,
) -> bool {
    let Some((first, rest)) = stream.lines.split_first() else { return false };
    let first = first.trim_ascii_end().get(2..).unwrap_or_default();
    let has = |other: &regex::bytes::Regex| rest.iter().any(|l| other.is_match(l.trim_ascii_end()));
    line.is_match(first) && other.is_none_or(has)
}

fn exists(call: &mut Call<'_, '_, '_>, wanted: &dyn Fn(&[u8], &[u8]) -> bool) -> Called {
    let body = Body::of(call.ctx);
    let Some(at) = body.sdp() else { return NO };
    said(Sdp::new(&body.bytes.slice(at)).has_codec(wanted))
}

/// Puts a changed description into the body; -1 if there is none, or nothing to change in it.
fn changed(
    call: &mut Call<'_, '_, '_>,
    change: impl FnOnce(&Sdp<'_>) -> Option<Vec<u8>>,
) -> Called {
    let body = Body::of(call.ctx);
    let Some(at) = body.sdp() else {
        return call.complain(Level::Debug, "the message has no session description");
    };
    let Some(new) = change(&Sdp::new(&body.bytes.slice(at.clone()))) else { return NO };
    let (before, after) = (body.bytes.slice(..at.start), body.bytes.slice(at.end..));
    call.ctx.edits.set_body(body.content_type, [&before[..], &new, &after].concat());
    Called::Returned(1)
}
