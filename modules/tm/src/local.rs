//! Requests of this node itself: made, shown to local_route, sent, and their replies brought to
//! whoever asked for them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tandem_engine::attached::Attached;
use tandem_engine::context::{Branch, Ctx, Source};
use tandem_engine::module::Cx;
use tandem_engine::own_reply::own_reply;
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::transport::push_via;
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_sip::{Message, Method, push_number};
use tandem_transaction::{Kind, Transaction};

use crate::draft::{Draft, Way};
use crate::launch::Errand;
use crate::record::{Busy, Record, Role, Section};
use crate::stats;
use crate::table::{Room, Tx};
use crate::tm::Tm;

/// A request to send. Values are those of header fields, without name and line end.
#[derive(Clone, Debug, Default)]
pub struct LocalRequest {
    pub method: Bytes,
    pub uri: Bytes,
    /// With its tag; one is added if there is none.
    pub from: Bytes,
    pub to: Bytes,
    /// Empty: a new one is made.
    pub call_id: Bytes,
    /// 0: the first of its call.
    pub cseq: u32,
    /// Further header lines, each with its end.
    pub headers: Bytes,
    /// Its Content-Type is one of `headers`.
    pub body: Bytes,
    /// Where to send instead of to the URI (or the first Route).
    pub next_hop: Option<Bytes>,
    pub socket: Option<SocketId>,
    /// `None`: the usual number.
    pub max_forwards: Option<u32>,
    /// What its routes see, and who hears of its transaction.
    pub attached: Attached,
    /// `$avp(uac_ctx)` of its routes.
    pub context: Option<Bytes>,
    /// What is said here is fit to be sent as it is, CSeq, Call-ID and the tag of From included;
    /// and of a 2xx only the code is wanted.
    pub is_plain: bool,
}

/// Who hears of the replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    /// A management command.
    Command {
        request: u64,
        uri: Bytes,
        next_hop: Bytes,
    },
    /// [`tandem_engine::module::Module::local_reply`] of the module in this slot.
    Module {
        slot: u16,
        token: u64,
    },
}

/// What makes Call-IDs of this node: a start nobody can guess, and a counter.
#[derive(Debug)]
pub(crate) struct CallIds {
    start: u64,
    next: AtomicU32,
}

impl CallIds {
    pub(crate) fn new(start: u64) -> Self {
        Self { start, next: AtomicU32::new(1) }
    }

    fn make(&self, host: &str) -> Bytes {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Bytes::from(format!("{:016x}-{n:x}@{host}", self.start))
    }
}

/// Max-Forwards of our requests (RFC 3261 8.1.1.6).
const MAX_FORWARDS: u32 = 70;
/// CSeq number of a request that begins a call.
const FIRST_CSEQ: u32 = 10;

impl LocalRequest {
    /// The request, with our Via on top if its branch is known; else it is put on when it leaves.
    pub(crate) fn bytes(
        &self,
        tm: &Tm,
        cx: &mut Cx<'_>,
        socket: SocketId,
        via_branch: Option<&[u8]>,
    ) -> Bytes {
        let mut out = Vec::with_capacity(512 + self.headers.len() + self.body.len());
        let add = |out: &mut Vec<u8>, parts: &[&[u8]]| {
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        add(&mut out, &[&self.method, b" ", &self.uri, b" SIP/2.0\r\n"]);
        if let Some(branch) = via_branch {
            push_via(&mut out, cx.node, socket, branch);
        }
        add(&mut out, &[b"To: ", &self.to, b"\r\nFrom: ", &self.from]);
        if !has_tag(&self.from) {
            let mut tag = String::new();
            let _ = write!(tag, ";tag={:016x}", cx.worker.chance.u64());
            add(&mut out, &[tag.as_bytes()]);
        }
        let cseq = if self.cseq == 0 { FIRST_CSEQ } else { self.cseq };
        add(&mut out, &[b"\r\nCSeq: "]);
        push_number(&mut out, cseq);
        add(&mut out, &[b" ", &self.method, b"\r\nCall-ID: "]);
        if self.call_id.is_empty() {
            let host = cx.node.sockets.get(socket).map(|s| s.addr.ip().to_string());
            add(&mut out, &[&tm.call_ids.make(&host.unwrap_or_default())]);
        } else {
            add(&mut out, &[&self.call_id]);
        }
        add(&mut out, &[b"\r\nMax-Forwards: "]);
        push_number(&mut out, self.max_forwards.unwrap_or(MAX_FORWARDS));
        add(&mut out, &[b"\r\n"]);
        if let Some(agent) = cx.node.user_agent() {
            add(&mut out, &[agent, b"\r\n"]);
        }
        add(&mut out, &[&self.headers, b"Content-Length: "]);
        push_number(&mut out, u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        add(&mut out, &[b"\r\n\r\n", &self.body]);
        Bytes::from(out)
    }
}

/// Where the Route of a request of ours leads it first.
fn first_route(msg: &Message) -> Result<Option<Bytes>, String> {
    let first = msg.routes().next().transpose();
    let first = first.map_err(|e| format!("its Route cannot be read: {e}"))?;
    Ok(first.map(|route| Bytes::copy_from_slice(route.uri)))
}

fn has_tag(value: &[u8]) -> bool {
    let params = value.rsplit(|b| *b == b'>').next().unwrap_or(value);
    params
        .split(|b| *b == b';')
        .any(|p| p.trim_ascii().len() >= 4 && { p.trim_ascii()[..4].eq_ignore_ascii_case(b"tag=") })
}

impl Tm {
    /// Sends a request of this node. `cx` is that of this module ([`Cx::for_slot`]).
    ///
    /// # Errors
    /// In words, when it cannot be sent at all; what goes wrong later the owner hears.
    pub fn send_request(
        &self,
        cx: &mut Cx<'_>,
        request: &LocalRequest,
        owner: Owner,
    ) -> Result<(), String> {
        if self.len() >= Room::of(cx.node.memory.total()).all {
            return Err("too many transactions".to_owned());
        }
        let udp = cx.node.sockets.of(Proto::Udp).next().map(|(id, _)| id);
        let any = || cx.node.sockets.iter().find(|(_, s)| s.proto.is_sip()).map(|(id, _)| id);
        let socket = request.socket.or(udp).or_else(any).ok_or("there is no socket")?;
        if let Some(()) = self.send_plain(cx, request, socket, &owner) {
            return Ok(());
        }
        let bytes = request.bytes(self, cx, socket, None);
        let msg = Message::parse(bytes).map_err(|e| e.to_string())?;
        if !msg.is_request() {
            return Err("this is no request".to_owned());
        }
        let addr = cx.node.sockets.get(socket).map(|s| s.addr).ok_or("there is no socket")?;
        let source = Source { addr, socket, local_ip: addr.ip() };
        let mut ctx = Box::new(Ctx::new(msg, source, Routes::LOCAL));
        let dst_uri =
            request.next_hop.clone().map_or_else(|| first_route(&ctx.msg), |h| Ok(Some(h)))?;
        ctx.target = Branch { dst_uri, ..Branch::default() };
        ctx.target.socket = request.socket;
        ctx.attached = request.attached.clone();
        if let Some(context) = &request.context {
            let _ = ctx.avps.insert(b"uac_ctx", Value::Str(context.clone()), false);
        }
        let tx = self.local_transaction(cx, &ctx, owner);
        self.show_local(cx, &tx, ctx);
        Ok(())
    }

    /// A transaction whose request is our own.
    pub(crate) fn local_transaction(&self, cx: &mut Cx<'_>, ctx: &Ctx, owner: Owner) -> Arc<Tx> {
        let invite = ctx.msg.method() == Method::Invite;
        let kind = if invite { Kind::Invite } else { Kind::NonInvite };
        let machine = Transaction::local(kind, self.params.timers, self.params.settings);
        let mut record = Box::new(Record::new(machine, &cx.node.sockets, ctx));
        record.owner = Some(Box::new(owner));
        self.count(cx, stats::UAC_TRANSACTIONS);
        self.table.insert_local(record, &mut cx.worker.chance)
    }

    /// Runs local_route and the route of `local_request_route`, then sends.
    fn show_local(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, ctx: Box<Ctx>) {
        let shown = cx.unnamed_route(Routes::LOCAL);
        let named = self.params.local_request_route.as_deref();
        let named = named.and_then(|name| cx.named_route(name));
        let (first, next) = match (shown, named) {
            (Some(first), next) => (first, next),
            (None, Some(only)) => (only, None),
            (None, None) => return self.send_shown(cx, tx, ctx),
        };
        self.run_local(cx, tx, ctx, first, next);
    }

    fn run_local(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        mut ctx: Box<Ctx>,
        route: RouteId,
        next: Option<RouteId>,
    ) {
        let section = ctx.section_mut::<Section>(cx.slot);
        section.tx = Some(Arc::clone(tx));
        section.role = Role::Local;
        tx.cell.lock().busy = Some(Busy::Local { next });
        if let Some(ctx) = cx.run_route(route, ctx, tx.id.token(0)) {
            self.send_shown(cx, tx, ctx);
        }
    }

    /// local_route has ended; `drop` means nothing in it.
    pub(crate) fn after_local(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        ctx: Box<Ctx>,
        next: Option<RouteId>,
    ) {
        match next {
            Some(next) => self.run_local(cx, tx, ctx, next, None),
            None => self.send_shown(cx, tx, ctx),
        }
    }

    fn send_shown(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, ctx: Box<Ctx>) {
        {
            let mut cell = tx.cell.lock();
            cell.busy = Some(Busy::Relay);
            cell.record.save(&cx.node.sockets, &ctx);
        }
        let mut branch = Box::new(ctx.for_target(ctx.target.clone(), Routes::LOCAL));
        branch.blacklists = ctx.blacklists;
        let way = Way::of(&branch);
        let draft = Draft { ctx: branch, on_reply: None, bavps: None, way };
        let errand = Errand::Local(Arc::clone(tx), vec![draft], true);
        self.start(cx, errand);
    }

    /// The destination of a local request is known, or there is none.
    pub(crate) fn send_drafts(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        drafts: Vec<Draft>,
        failover: bool,
    ) {
        let mut cell = tx.cell.lock();
        let mut result = Ok(());
        for draft in drafts {
            result = self.add_draft(cx, tx, &mut cell, draft, failover).map(|_| ());
        }
        if let Err(failure) = result {
            let ctx = cell.record.saved.context(Routes::REQUEST);
            let reason = failure.reason.as_bytes();
            let bytes = own_reply(cx.node, &ctx, failure.code, reason, b"");
            self.send_local(cx, tx.id, &mut cell.record, failure.code, bytes);
        }
        cell.busy = None;
        self.settle(cx, tx, cell);
    }
}

/// Tells the owner of a local request of a reply, received or our own.
pub(crate) fn tell_owner(
    cx: &mut Cx<'_>,
    record: &mut Record,
    code: u16,
    reply: &Bytes,
    own: bool,
) {
    let Some(owner) = record.owner.as_deref_mut() else { return };
    match owner {
        Owner::Nobody => {}
        Owner::Command { request, uri, next_hop } if code >= 200 => {
            let answer = crate::mi::sent_answer(code, reply, uri, next_hop);
            cx.mi_reply(*request, Ok(answer));
        }
        Owner::Command { .. } => {}
        Owner::Module { slot, token } => {
            let (slot, token) = (*slot, *token);
            let reply = if own { None } else { Message::parse(reply.clone()).ok() };
            cx.tell_reply(slot, token, code, reply);
        }
    }
    if code >= 200 {
        *owner = Owner::Nobody;
    }
}

/// Acknowledges a 2xx to an INVITE of our own (RFC 3261 13.2.2.4).
pub(crate) fn ack_success(cx: &mut Cx<'_>, cell_request: &Bytes, reply: &Message) -> Option<Bytes> {
    let sent = Message::parse(cell_request.clone()).ok()?;
    let contact = reply.header(tandem_sip::HeaderName::Contact);
    let contact = contact.as_ref().and_then(|h| h.values().next());
    let uri = contact.and_then(|v| tandem_sip::NameAddr::parse(v.bytes).ok()).map(|n| n.uri);
    let uri = uri.unwrap_or_else(|| sent.request_uri());
    let via = sent.top_via().ok()?;
    let number = sent.cseq().ok()?.number;
    let mut out = Vec::with_capacity(512);
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|p| out.extend_from_slice(p));
    add(&[b"ACK ", uri, b" SIP/2.0\r\n"]);
    let branch = format!("z9hG4bK{:016x}", cx.worker.chance.u64());
    let (old, host) = (via.branch.unwrap_or_default(), via.raw);
    let own = String::from_utf8_lossy(host).replace(&*String::from_utf8_lossy(old), &branch);
    add(&[b"Via: ", own.as_bytes(), b"\r\n"]);
    let routes: Vec<_> = reply.values(tandem_sip::HeaderName::RecordRoute).collect();
    for route in routes.iter().rev() {
        add(&[b"Route: ", route.bytes, b"\r\n"]);
    }
    for (msg, name) in [
        (&sent, tandem_sip::HeaderName::From),
        (reply, tandem_sip::HeaderName::To),
        (&sent, tandem_sip::HeaderName::CallId),
    ] {
        add(&[msg.header(name)?.line(), b"\r\n"]);
    }
    add(&[b"CSeq: ", number.to_string().as_bytes(), b" ACK\r\nMax-Forwards: 70\r\n"]);
    add(&[b"Content-Length: 0\r\n\r\n"]);
    Some(Bytes::from(out))
}
