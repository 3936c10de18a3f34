//! A transaction as plain data, to be kept up on another node.
//!
//! What means something on one node only is told by name: sockets by their text, routes and
//! modules by their names, blacklists by theirs. What the engine attaches for a module is asked of
//! that module. The machine's part is `tandem_transaction::Snapshot`. `wire.rs` makes bytes of it.

mod machine;
mod moves;
mod values;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::attached::Attached;
use tandem_engine::avp::Avps;
use tandem_engine::blacklist::ChoiceNames;
use tandem_engine::context::{Branch, Ctx, Hides, OwnVia, RecordRoute, Rewritten, Seldom, Source};
use tandem_engine::module::Cx;
use tandem_engine::sockets::SocketId;
use tandem_engine::transport::Hop;
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_sip::{Edits, Message};
use tandem_transaction::{Effects, Transaction};
use thiserror::Error;

use crate::failover::Spare;
use crate::local::Owner;
use crate::record::{Armed, KeptRoute, Leg, Lines, Record, Saved, kept_via};
use crate::via_branch::TxId;

/// A whole transaction.
#[derive(Clone, Debug)]
pub struct TxSnapshot {
    id: TxId,
    key: Bytes,
    record: RecordSnapshot,
}

/// Why a transaction cannot go on here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    #[error("there is no socket like {0}")]
    Socket(String),
    #[error("it cannot be read")]
    Bytes,
    #[error("its request cannot be read")]
    Request,
    #[error("a transaction of its name is here")]
    Known,
    #[error("it has {0} branches and {1} legs")]
    Legs(usize, usize),
    #[error("{0}")]
    Machine(#[from] tandem_transaction::RestoreError),
}

#[derive(Clone, Debug)]
struct RecordSnapshot {
    machine: tandem_transaction::Snapshot,
    saved: SavedSnapshot,
    reply_to: SocketAddr,
    armed: ArmedSnapshot,
    legs: Vec<LegSnapshot>,
    pass_reason: bool,
    reason: Bytes,
    cancel_reason: Bytes,
    headers: Bytes,
    waits: Option<u16>,
    last_injection: bool,
    owner: Option<OwnerSnapshot>,
    last_local: bool,
    avps_used: bool,
    rewritten: Rewritten,
    hides: Option<HidesSnapshot>,
}

#[derive(Clone, Debug)]
struct SavedSnapshot {
    msg: Bytes,
    edits: Edits,
    source: SourceSnapshot,
    target: BranchSnapshot,
    flags: u32,
    avps: Avps,
    reply_headers: Vec<u8>,
    force_rport: bool,
    is_unfit: bool,
    record_route: Option<RecordRoute>,
    own_path: Option<RecordRoute>,
    own_via: OwnVia,
    blacklists: Option<ChoiceNames>,
    /// Names of modules, and what they made of their sections.
    attached: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug)]
struct SourceSnapshot {
    addr: SocketAddr,
    socket: String,
    local_ip: IpAddr,
}

#[derive(Clone, Debug, Default)]
struct BranchSnapshot {
    uri: Option<Bytes>,
    dst_uri: Option<Bytes>,
    path: Bytes,
    q: Option<u16>,
    socket: Option<String>,
    flags: u32,
    attrs: Vec<(Bytes, Value)>,
}

/// Names of routes, each of its kind.
#[derive(Clone, Debug, Default)]
struct ArmedSnapshot {
    failure: Option<String>,
    reply: Option<String>,
    branch: Option<String>,
}

#[derive(Clone, Debug)]
struct LegSnapshot {
    target: BranchSnapshot,
    socket: String,
    on_reply: Option<String>,
    sends: u32,
    bavps: Option<Avps>,
    spare: Option<SpareSnapshot>,
    phony: bool,
}

#[derive(Clone, Debug)]
struct SpareSnapshot {
    saved: SavedSnapshot,
    rewritten: Rewritten,
    hides: Option<HidesSnapshot>,
    hops: Vec<Hop>,
}

#[derive(Clone, Debug, Default)]
struct HidesSnapshot {
    module: String,
    flags: u8,
    shown_user: Bytes,
    sent_user: Bytes,
    own_routes: Vec<Vec<u8>>,
    place: Bytes,
}

#[derive(Clone, Debug)]
enum OwnerSnapshot {
    /// Also of a command, whose asker is connected to the node that died.
    Nobody,
    Module {
        module: String,
        token: u64,
    },
}

impl Record {
    fn snapshot(&self, cx: &Cx<'_>) -> RecordSnapshot {
        // No `..` here and below: a field that is forgotten must not compile.
        let Self {
            machine,
            saved,
            reply_to,
            armed,
            legs,
            timers: _, // those of the machine
            visit: _,  // of this node
            pass_reason,
            lines: _, // below
            waits,
            last_injection,
            owner,
            last_local,
            avps_used,
            rewritten,
            hides,
        } = self;
        let Lines { reason, cancel_reason, headers } = self.lines();
        RecordSnapshot {
            machine: machine.snapshot(cx.now),
            saved: saved.snapshot(cx),
            reply_to: *reply_to,
            armed: armed.snapshot(cx),
            legs: legs.iter().map(|leg| leg.snapshot(cx)).collect(),
            pass_reason: *pass_reason,
            reason: reason.clone(),
            cancel_reason: cancel_reason.clone(),
            headers: headers.clone(),
            waits: *waits,
            last_injection: *last_injection,
            owner: owner.as_deref().map(|owner| owner_snapshot(cx, owner)),
            last_local: *last_local,
            avps_used: *avps_used,
            rewritten: *rewritten,
            hides: hides.as_ref().and_then(|hides| hides_snapshot(cx, hides)),
        }
    }
}

impl RecordSnapshot {
    fn restore(self, cx: &Cx<'_>, fx: &mut Effects) -> Result<Record, RestoreError> {
        let Self {
            mut machine,
            saved,
            reply_to,
            armed,
            legs,
            pass_reason,
            reason,
            cancel_reason,
            headers,
            waits,
            last_injection,
            owner,
            last_local,
            avps_used,
            rewritten,
            hides,
        } = self;
        if legs.len() != machine.branches.len() {
            return Err(RestoreError::Legs(machine.branches.len(), legs.len()));
        }
        let saved = saved.restore(cx)?;
        let legs: Result<_, _> = legs.into_iter().map(|leg| leg.restore(cx)).collect();
        let legs: smallvec::SmallVec<[Leg; 1]> = legs?;
        for (branch, leg) in machine.branches.iter_mut().zip(&legs) {
            branch.dest.socket = u32::from(leg.socket.0);
        }
        Ok(Record {
            machine: Transaction::restore(machine, cx.now, fx)?,
            saved,
            reply_to,
            armed: armed.restore(cx),
            legs,
            timers: smallvec::SmallVec::new(),
            visit: None,
            pass_reason,
            lines: Lines { reason, cancel_reason, headers }.kept(),
            waits,
            last_injection,
            owner: owner.map(|owner| Box::new(owner_of(cx, owner))),
            last_local,
            avps_used,
            rewritten,
            hides: hides.and_then(|hides| hides_of(cx, hides)),
        })
    }
}

impl Saved {
    fn snapshot(&self, cx: &Cx<'_>) -> SavedSnapshot {
        let Self {
            msg,
            edits,
            source,
            target,
            flags,
            avps,
            reply_headers,
            force_rport,
            is_unfit,
            record_route,
            own_path,
            own_via,
            blacklists,
            attached,
        } = self;
        let Source { addr, socket, local_ip } = source;
        let socket = socket_text(cx, *socket);
        SavedSnapshot {
            msg: msg.bytes().clone(),
            edits: edits.clone(),
            source: SourceSnapshot { addr: *addr, socket, local_ip: *local_ip },
            target: branch_snapshot(cx, target),
            flags: *flags,
            avps: avps.clone(),
            reply_headers: reply_headers.to_vec(),
            force_rport: *force_rport,
            is_unfit: *is_unfit,
            record_route: record_route.as_ref().map(KeptRoute::route),
            own_path: own_path.as_deref().cloned(),
            own_via: own_via.as_deref().cloned().unwrap_or_default(),
            blacklists: blacklists.as_ref().map(|choice| cx.node.blacklists.names(choice)),
            attached: named_sections(cx, attached),
        }
    }
}

impl SavedSnapshot {
    fn restore(self, cx: &Cx<'_>) -> Result<Saved, RestoreError> {
        let Self {
            msg,
            edits,
            source,
            target,
            flags,
            avps,
            reply_headers,
            force_rport,
            is_unfit,
            record_route,
            own_path,
            own_via,
            blacklists,
            attached,
        } = self;
        let SourceSnapshot { addr, socket, local_ip } = source;
        Ok(Saved {
            msg: Message::parse(msg).map_err(|_| RestoreError::Request)?,
            edits,
            source: Source { addr, socket: socket_of(cx, socket)?, local_ip },
            target: branch_of(cx, target),
            flags,
            avps,
            reply_headers: reply_headers.into(),
            force_rport,
            is_unfit,
            record_route: record_route.as_ref().map(KeptRoute::of),
            own_path: own_path.map(Box::new),
            own_via: kept_via(&own_via),
            blacklists: blacklists.map(|names| Box::new(cx.node.blacklists.choice(&names))),
            attached: attached_of(cx, attached),
        })
    }
}

impl Armed {
    fn snapshot(&self, cx: &Cx<'_>) -> ArmedSnapshot {
        let Self { failure, reply, branch } = *self;
        let name = |route: Option<RouteId>| route.and_then(|route| route_name(cx, route));
        ArmedSnapshot { failure: name(failure), reply: name(reply), branch: name(branch) }
    }
}

impl ArmedSnapshot {
    fn restore(self, cx: &Cx<'_>) -> Armed {
        let Self { failure, reply, branch } = self;
        let route = |kind, name: Option<String>| name.and_then(|name| route_of(cx, kind, &name));
        Armed {
            failure: route(Routes::FAILURE, failure),
            reply: route(Routes::ONREPLY, reply),
            branch: route(Routes::BRANCH, branch),
        }
    }
}

impl Leg {
    fn snapshot(&self, cx: &Cx<'_>) -> LegSnapshot {
        let Self {
            target,
            socket,
            on_reply,
            sends,
            bavps,
            spare,
            phony,
            // Of what has left.
            passed_on: _,
            contact: _,
        } = self;
        LegSnapshot {
            target: branch_snapshot(cx, target),
            socket: socket_text(cx, *socket),
            on_reply: on_reply.and_then(|route| route_name(cx, route)),
            sends: *sends,
            bavps: bavps.as_deref().cloned(),
            spare: spare.as_ref().map(|spare| spare.snapshot(cx)),
            phony: *phony,
        }
    }
}

impl LegSnapshot {
    fn restore(self, cx: &Cx<'_>) -> Result<Leg, RestoreError> {
        let Self { target, socket, on_reply, sends, bavps, spare, phony } = self;
        Ok(Leg {
            target: branch_of(cx, target),
            socket: socket_of(cx, socket)?,
            on_reply: on_reply.and_then(|name| route_of(cx, Routes::ONREPLY, &name)),
            sends,
            bavps: bavps.map(Box::new),
            spare: spare.map(|spare| spare.restore(cx).map(Box::new)).transpose()?,
            phony,
            passed_on: None,
            contact: None,
        })
    }
}

impl Spare {
    fn snapshot(&self, cx: &Cx<'_>) -> SpareSnapshot {
        let Self { ctx, hops } = self;
        // What decides how a request leaves: `Ctx::for_target`.
        let hides = ctx.hides.as_ref().and_then(|hides| hides_snapshot(cx, hides));
        let saved = Saved::of(ctx).snapshot(cx);
        SpareSnapshot { saved, rewritten: ctx.rewritten, hides, hops: hops.clone() }
    }
}

impl SpareSnapshot {
    fn restore(self, cx: &Cx<'_>) -> Result<Spare, RestoreError> {
        let Self { saved, rewritten, hides, hops } = self;
        let mut ctx: Ctx = saved.restore(cx)?.context(Routes::BRANCH);
        ctx.rewritten = rewritten;
        ctx.hides = hides.and_then(|hides| hides_of(cx, hides));
        Ok(Spare { ctx: Box::new(ctx), hops })
    }
}

fn branch_snapshot(cx: &Cx<'_>, branch: &Branch) -> BranchSnapshot {
    let Branch { uri, dst_uri, q, socket, flags, seldom } = branch;
    let Seldom { path, attrs } = seldom.as_deref().cloned().unwrap_or_default();
    BranchSnapshot {
        uri: uri.clone(),
        dst_uri: dst_uri.clone(),
        path,
        q: *q,
        socket: socket.map(|socket| socket_text(cx, socket)),
        flags: *flags,
        attrs,
    }
}

fn branch_of(cx: &Cx<'_>, branch: BranchSnapshot) -> Branch {
    let BranchSnapshot { uri, dst_uri, path, q, socket, flags, attrs } = branch;
    let socket = socket.and_then(|text| cx.node.sockets.resolve(&text));
    let has_any = !path.is_empty() || !attrs.is_empty();
    let seldom = has_any.then(|| Box::new(Seldom { path, attrs }));
    Branch { uri, dst_uri, q, socket, flags, seldom }
}

fn hides_snapshot(cx: &Cx<'_>, hides: &Hides) -> Option<HidesSnapshot> {
    let Hides { slot, flags, shown_user, sent_user, own_routes, place } = hides;
    Some(HidesSnapshot {
        module: module_name(cx, *slot)?.to_owned(),
        flags: *flags,
        shown_user: shown_user.clone(),
        sent_user: sent_user.clone(),
        own_routes: own_routes.clone(),
        place: place.clone(),
    })
}

fn hides_of(cx: &Cx<'_>, hides: HidesSnapshot) -> Option<Arc<Hides>> {
    let HidesSnapshot { module, flags, shown_user, sent_user, own_routes, place } = hides;
    let slot = slot_of(cx, &module)?;
    Some(Arc::new(Hides { slot, flags, shown_user, sent_user, own_routes, place }))
}

fn owner_snapshot(cx: &Cx<'_>, owner: &Owner) -> OwnerSnapshot {
    match owner {
        Owner::Nobody | Owner::Command { request: _, uri: _, next_hop: _ } => OwnerSnapshot::Nobody,
        Owner::Module { slot, token } => match module_name(cx, *slot) {
            Some(module) => OwnerSnapshot::Module { module: module.to_owned(), token: *token },
            None => OwnerSnapshot::Nobody,
        },
    }
}

fn owner_of(cx: &Cx<'_>, owner: OwnerSnapshot) -> Owner {
    match owner {
        OwnerSnapshot::Nobody => Owner::Nobody,
        OwnerSnapshot::Module { module, token } => {
            slot_of(cx, &module).map_or(Owner::Nobody, |slot| Owner::Module { slot, token })
        }
    }
}

/// The sections that their modules can take along.
fn sections(cx: &Cx<'_>, attached: &Attached) -> Vec<(&'static str, Bytes)> {
    let bytes = |(slot, section): &(u16, _)| {
        let (_, def, module) = cx.node.loaded().find(|(s, ..)| s == slot)?;
        Some((def.name, module.section_bytes(section)?))
    };
    attached.iter().filter_map(bytes).collect()
}

fn named_sections(cx: &Cx<'_>, attached: &Attached) -> Vec<(String, Bytes)> {
    sections(cx, attached).into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// What modules attached, from their names and bytes; what a module cannot read is left out.
pub fn attached_of<S: AsRef<str>>(
    cx: &Cx<'_>,
    sections: impl IntoIterator<Item = (S, Bytes)>,
) -> Attached {
    let mut attached = Attached::default();
    for (name, bytes) in sections {
        let found = cx.node.loaded().find(|(_, def, _)| def.name == name.as_ref());
        if let Some((slot, _, module)) = found
            && let Some(section) = module.section_of(&bytes)
        {
            attached.put(slot, section);
        }
    }
    attached
}

fn module_name(cx: &Cx<'_>, slot: u16) -> Option<&'static str> {
    cx.node.loaded().find(|(s, ..)| *s == slot).map(|(_, def, _)| def.name)
}

fn slot_of(cx: &Cx<'_>, name: &str) -> Option<u16> {
    cx.node.loaded().find(|(_, def, _)| def.name == name).map(|(slot, ..)| slot)
}

fn route_name(cx: &Cx<'_>, route: RouteId) -> Option<String> {
    cx.program().route(route).map(|route| route.name.clone())
}

fn route_of(cx: &Cx<'_>, kind: Routes, name: &str) -> Option<RouteId> {
    cx.program().routes_of(kind).find(|(_, route)| route.name == name).map(|(id, _)| id)
}

fn socket_text(cx: &Cx<'_>, socket: SocketId) -> String {
    cx.node.sockets.get(socket).map(|s| s.wire_text()).unwrap_or_default()
}

fn socket_of(cx: &Cx<'_>, text: String) -> Result<SocketId, RestoreError> {
    cx.node.sockets.resolve(&text).ok_or(RestoreError::Socket(text))
}
