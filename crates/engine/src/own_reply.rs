//! Replies of our own: how they are written, and when they leave without a transaction.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tandem_sip::{HeaderName, Message, ReplyOptions, write_reply};

use crate::context::{Ctx, Fate};
use crate::effect::Send;
use crate::module::Cx;
use crate::node::Node;
use crate::transport::{received, reply_target};

/// The tag that this node puts into To of its own replies: the same for every retransmission of
/// a request, and not to be guessed from outside.
pub fn local_tag(node: &Node, msg: &Message) -> LocalTag {
    let key = (msg.call_id(), msg.from_tag(), msg.cseq().map(|c| c.number).ok());
    let hash = node.tag_key.hash_one(key);
    let (high, low) = (hex((hash >> 32) as u32), hex(hash as u32));
    let mut text = [0; 16];
    let (left, right) = text.split_at_mut(8);
    left.copy_from_slice(&high);
    right.copy_from_slice(&low);
    LocalTag(text)
}

/// The eight digits of a number, all at once: every reply has two of them, and formatting costs
/// more than the hash.
const fn hex(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut digits = number as u64;
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & (ONES * 0x0f);
    // 1 where a digit is a letter.
    let letters = ((digits + ONES * 6) >> 4) & ONES;
    (digits + ONES * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64).to_be_bytes()
}

/// The text of [`local_tag`]: hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTag([u8; 16]);

impl LocalTag {
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A reply of our own to the request of `ctx`, as bytes that may be kept.
pub fn own_reply(node: &Node, ctx: &Ctx, code: u16, reason: &[u8], extra: &[u8]) -> Bytes {
    let mut out = Vec::new();
    write_own_reply(node, ctx, (code, reason), extra, &mut out);
    Bytes::from(out)
}

/// The same, for a reply that leaves at once: it shares its memory with others of its batch.
pub fn passing_reply(cx: &mut Cx<'_>, ctx: &Ctx, code: u16, reason: &[u8], extra: &[u8]) -> Bytes {
    let mut out = std::mem::take(&mut cx.worker.reply_text);
    out.clear();
    write_own_reply(cx.node, ctx, (code, reason), extra, &mut out);
    let arena = &mut cx.worker.replies;
    if arena.capacity() < out.len() {
        *arena = BytesMut::with_capacity(out.len().max(REPLIES_BYTES));
    }
    arena.extend_from_slice(&out);
    cx.worker.reply_text = out;
    arena.split().freeze()
}

/// Bytes of replies that share one allocation.
const REPLIES_BYTES: usize = 16 << 10;

fn write_own_reply(
    node: &Node,
    ctx: &Ctx,
    (code, reason): (u16, &[u8]),
    extra: &[u8],
    out: &mut Vec<u8>,
) {
    let tag = local_tag(node, &ctx.msg);
    write_tagged_reply(node, ctx, (code, reason), extra, tag.as_bytes(), out);
}

/// As [`own_reply`], with a To tag of the caller's choice.
pub fn own_reply_tagged(
    node: &Node,
    ctx: &Ctx,
    what: (u16, &[u8]),
    extra: &[u8],
    tag: &[u8],
) -> Bytes {
    let mut out = Vec::new();
    write_tagged_reply(node, ctx, what, extra, tag, &mut out);
    Bytes::from(out)
}

fn write_tagged_reply(
    node: &Node,
    ctx: &Ctx,
    (code, reason): (u16, &[u8]),
    extra: &[u8],
    tag: &[u8],
    out: &mut Vec<u8>,
) {
    let warning = if node.settings.sip_warning { warning(node, ctx) } else { String::new() };
    let contact = if (300..400).contains(&code) { redirect(ctx) } else { Vec::new() };
    let server = node.settings.server_header.as_deref().unwrap_or_default();
    let options = ReplyOptions {
        to_tag: Some(tag),
        extra_headers: &[extra, &ctx.reply_headers, &contact, server, warning.as_bytes()],
        body: (!ctx.reply_body.is_empty()).then_some((b"", &ctx.reply_body[..])),
        received: Some(received(&ctx.source, ctx.force_rport)),
        ..ReplyOptions::default()
    };
    write_reply(&ctx.msg, code, reason, &options, out);
}

/// The Contact line of a redirection: where the script has sent the request (RFC 3261 8.3). None
/// if that is nowhere else, or the script has written its own.
fn redirect(ctx: &Ctx) -> Vec<u8> {
    let is_moved = ctx.target.uri.as_deref().is_some_and(|uri| uri != ctx.msg.request_uri());
    let mut lines = ctx.reply_headers.split(|b| *b == b'\n');
    let has_own = lines.any(|l| {
        let name = l.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"contact") || name.eq_ignore_ascii_case(b"m")
    });
    if has_own || (!is_moved && ctx.branches.is_empty()) {
        return Vec::new();
    }
    let all = ctx.destinations();
    // `$ru` takes any text: what would begin another header is no destination.
    if all.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return Vec::new();
    }
    [b"Contact: ", &all[..], b"\r\n"].concat()
}

/// What was seen of a request, for people who look for a fault (RFC 3261 20.43, code 392).
fn warning(node: &Node, ctx: &Ctx) -> String {
    let own = node.sockets.get(ctx.source.socket).map(|s| s.sent_by()).unwrap_or_default();
    let shown = |uri: &[u8]| String::from_utf8_lossy(uri).replace(['"', '\\', '\r', '\n'], "");
    let (from, vias) = (ctx.source.addr, ctx.msg.values(HeaderName::Via).count());
    let (ip, port) = (from.ip(), from.port());
    let (received, now) = (shown(ctx.msg.request_uri()), shown(ctx.request_uri()));
    format!(
        "Warning: 392 {own} \"Noisy feedback tells:  req_src_ip={ip} req_src_port={port} \
         in_uri={received} out_uri={now} via_cnt=={vias}\"\r\n"
    )
}

/// When a reply of our own leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Now,
    /// When a peer has acknowledged what was changed for it.
    Gated,
}

/// Sends a reply without state. An ACK is never answered.
pub fn reply_stateless(
    cx: &mut Cx<'_>,
    ctx: &mut Ctx,
    code: u16,
    reason: &[u8],
    extra: &[u8],
    leave: Leave,
) -> bool {
    if !ctx.msg.is_request() || ctx.msg.method() == tandem_sip::Method::Ack {
        return false;
    }
    let to = reply_target(&cx.node.sockets, &ctx.msg, &ctx.source, ctx.force_rport);
    if !cx.node.streams.may_reply(ctx.flags, ctx.source.socket, to) {
        return false;
    }
    let payload = passing_reply(cx, ctx, code, reason, extra);
    ctx.is_answered |= code >= 200;
    cx.tell_stateless(ctx, &payload);
    let send = Send { socket: ctx.source.socket, to, payload, ticket: 0 };
    match leave {
        Leave::Now => cx.out.send(send),
        Leave::Gated => cx.out.send_gated(send),
    }
    true
}

/// What became of a request whose error was to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReply {
    /// It was answered without state.
    Stateless,
    /// Through its transaction.
    Stateful,
    /// It had its final reply already, and gets no other.
    Before,
    /// It takes no reply.
    None,
}

/// Answers a request with what went wrong: why it could not be sent on, else the error that its
/// context holds, else 500.
pub fn reply_error(cx: &mut Cx<'_>, ctx: &mut Ctx) -> ErrorReply {
    let fate = cx.fate(ctx);
    if ctx.is_answered || fate == Some(Fate::Answered) {
        return ErrorReply::Before;
    }
    if let Some(Fate::Failed(code, reason)) = fate {
        (ctx.error.code, ctx.error.reason) = (code, reason.into());
    }
    if ctx.error.code == 0 {
        (ctx.error.code, ctx.error.reason) = (500, "Server Internal Error".into());
    }
    let (code, reason) = (ctx.error.code, ctx.error.reason.clone());
    if fate.is_some() && cx.reply_stateful(ctx, code, reason.as_bytes()) {
        return ErrorReply::Stateful;
    }
    match reply_stateless(cx, ctx, code, reason.as_bytes(), b"", Leave::Now) {
        true => ErrorReply::Stateless,
        false => ErrorReply::None,
    }
}

impl Cx<'_> {
    /// Tells the modules that attached something to a request how it was answered without a
    /// transaction.
    pub fn tell_stateless(&mut self, ctx: &Ctx, reply: &Bytes) {
        if ctx.attached.is_empty() {
            return;
        }
        let node = Arc::clone(self.node);
        for (slot, section) in ctx.attached.iter() {
            let module = node.modules.get(usize::from(*slot)).and_then(|s| s.state.as_ref());
            if let Some(module) = module {
                self.for_slot(*slot, |cx| module.replied_stateless(cx, section, reply));
            }
        }
    }

    /// Whether a transaction waits for an ACK. Its tag does not tell: replies of our own have the
    /// same one with a transaction and without.
    pub fn awaits_ack(&self, ack: &Message) -> bool {
        self.node.loaded().any(|(.., module)| module.awaits_ack(ack))
    }

    /// What became of the request of `ctx` in its transaction; `None`: it has none.
    fn fate(&self, ctx: &Ctx) -> Option<Fate> {
        // Whoever keeps a transaction has attached it.
        let mut modules = self.node.loaded().filter(|_| ctx.has_sections());
        modules.find_map(|(slot, _, module)| module.fate(slot, ctx))
    }

    /// Answers the request of `ctx` through its transaction; `false`: no module keeps one for it.
    pub fn reply_stateful(&mut self, ctx: &mut Ctx, code: u16, reason: &[u8]) -> bool {
        // Whoever keeps a transaction has attached it.
        if !ctx.has_sections() {
            return false;
        }
        let node = Arc::clone(self.node);
        node.loaded().any(|(slot, _, module)| {
            self.for_slot(slot, |cx| module.reply_stateful(cx, ctx, code, reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn digits_are_those_of_the_usual_formatting() {
        for number in [0, 1, 9, 10, 0x0123_4567, 0x89ab_cdef, 0xdead_beef, u32::MAX] {
            assert_eq!(hex(number).as_slice(), format!("{number:08x}").as_bytes());
        }
    }
}
