//! What is kept of a transaction: plain data around the state machine.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_clock::Mono;
use tandem_engine::attached::Attached;
use tandem_engine::avp::Avps;
use tandem_engine::blacklist::Choice;
use tandem_engine::context::{Branch, Ctx, Hides, OwnVia, RecordRoute, Rewritten, Source};
use tandem_engine::sockets::{SocketId, Sockets};
use tandem_engine::transport::{changed_contact_uri, own_record_routes, reply_target};
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_sip::{Edits, HeaderName, Message};
use tandem_transaction::{BranchIndex, Timer, Transaction};

use crate::bavp::Bavps;
use crate::failover::Spare;
use crate::local::Owner;
use crate::table::Tx;

/// Events of one transaction that wait while one of its routes runs, at most (decisions:
/// "Serial objects").
pub(crate) const INBOX_MAX: usize = 32;

/// Routes that the script armed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed {
    pub(crate) failure: Option<RouteId>,
    pub(crate) reply: Option<RouteId>,
    pub(crate) branch: Option<RouteId>,
}

impl Armed {
    /// Takes over what `newer` says.
    pub(crate) fn update(&mut self, newer: Self) {
        self.failure = newer.failure.or(self.failure);
        self.reply = newer.reply.or(self.reply);
        self.branch = newer.branch.or(self.branch);
    }
}

/// The request as the script left it, from which failure routes and replies start.
pub(crate) struct Saved {
    pub(crate) msg: Message,
    pub(crate) edits: Edits,
    pub(crate) source: Source,
    pub(crate) target: Branch,
    pub(crate) flags: u32,
    pub(crate) avps: Avps,
    pub(crate) reply_headers: Box<[u8]>,
    pub(crate) force_rport: bool,
    pub(crate) is_unfit: bool,
    pub(crate) record_route: Option<KeptRoute>,
    pub(crate) own_path: Option<Box<RecordRoute>>,
    /// `None`: nothing special. Seldom there, and kept for as long as the record.
    pub(crate) own_via: Option<Box<OwnVia>>,
    pub(crate) blacklists: Option<Box<Choice>>,
    pub(crate) attached: Attached,
}

impl Saved {
    pub(crate) fn of(ctx: &Ctx) -> Self {
        Self {
            msg: ctx.msg.clone(),
            edits: ctx.edits.clone(),
            source: ctx.source,
            target: ctx.target.clone(),
            flags: ctx.flags,
            avps: ctx.avps.clone(),
            reply_headers: ctx.reply_headers.as_slice().into(),
            force_rport: ctx.force_rport,
            is_unfit: ctx.is_unfit,
            record_route: ctx.record_route.as_ref().map(KeptRoute::of),
            own_path: ctx.own_path.clone().map(Box::new),
            own_via: kept_via(&ctx.own_via),
            blacklists: ctx.blacklists.clone(),
            attached: ctx.attached.clone(),
        }
    }

    /// A context that starts where the request stands. The AVPs stay behind.
    pub(crate) fn context(&self, block: Routes) -> Ctx {
        let mut ctx = Ctx::new(self.msg.clone(), self.source, block);
        ctx.edits = self.edits.clone();
        ctx.target = self.target.clone();
        ctx.flags = self.flags;
        ctx.reply_headers = self.reply_headers.to_vec();
        ctx.force_rport = self.force_rport;
        ctx.is_unfit = self.is_unfit;
        ctx.record_route = self.record_route.as_ref().map(KeptRoute::route);
        ctx.own_path = self.own_path.as_deref().cloned();
        ctx.own_via = self.own_via.as_deref().cloned().unwrap_or_default();
        ctx.blacklists.clone_from(&self.blacklists);
        ctx.attached = self.attached.clone();
        ctx
    }
}

/// A [`RecordRoute`] for as long as the record. Most say no more than that there is one.
#[derive(Clone)]
pub(crate) enum KeptRoute {
    Plain { double: bool },
    Other(Box<RecordRoute>),
}

impl KeptRoute {
    pub(crate) fn of(route: &RecordRoute) -> Self {
        let plain = Self::Plain { double: route.double };
        if plain.route() == *route { plain } else { Self::Other(Box::new(route.clone())) }
    }

    pub(crate) fn route(&self) -> RecordRoute {
        match self {
            Self::Plain { double } => {
                RecordRoute { wanted: true, double: *double, ..RecordRoute::default() }
            }
            Self::Other(route) => RecordRoute::clone(route),
        }
    }
}

/// What [`Saved`] keeps of it.
pub(crate) fn kept_via(own: &OwnVia) -> Option<Box<OwnVia>> {
    (*own != OwnVia::default()).then(|| Box::new(own.clone()))
}

/// What is kept of a branch beside its machine.
pub(crate) struct Leg {
    /// Where it goes; the URI is always there.
    pub(crate) target: Branch,
    pub(crate) socket: SocketId,
    /// The onreply route armed for this branch alone.
    pub(crate) on_reply: Option<RouteId>,
    /// How often its request was sent.
    pub(crate) sends: u32,
    pub(crate) bavps: Bavps,
    /// Destinations that are left to try.
    pub(crate) spare: Option<Box<Spare>>,
    /// It sends nothing and waits for others.
    pub(crate) phony: bool,
    /// See [`Record::passed_on`].
    pub(crate) passed_on: Option<usize>,
    /// Where the sender is reached, when its receiver is shown another Contact.
    pub(crate) contact: Option<Box<Bytes>>,
}

impl Leg {
    /// The branch of a context, which leaves from `socket`.
    pub(crate) fn of(ctx: &Ctx, socket: SocketId, on_reply: Option<RouteId>, bavps: Bavps) -> Self {
        let mut target = ctx.target.clone();
        // A part of the message costs nothing to keep.
        let received = || ctx.msg.bytes().slice_ref(ctx.msg.request_uri());
        target.uri.get_or_insert_with(received);
        let (spare, phony, passed_on) = (None, false, None);
        let hidden = ctx.hides.as_ref();
        let contact = hidden.and_then(|_| changed_contact_uri(&ctx.msg, &ctx.edits)).map(Box::new);
        Self { target, socket, on_reply, sends: 0, bavps, spare, phony, passed_on, contact }
    }

    /// A branch that only waits.
    pub(crate) fn phony(ctx: &Ctx) -> Self {
        Self { phony: true, ..Self::of(ctx, ctx.source.socket, None, None) }
    }
}

/// When a worker comes back to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) at: Mono,
    /// Its place among those that are visited soon; `None`: an entry of a wheel.
    pub(crate) place: Option<u32>,
}

/// Whole header lines for what a transaction sends. Most have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// Reason headers of the caller's CANCEL.
    pub(crate) reason: Bytes,
    /// `t_add_cancel_reason`: what our CANCELs say instead.
    pub(crate) cancel_reason: Bytes,
    /// `t_add_hdrs`: for every request.
    pub(crate) headers: Bytes,
}

static NO_LINES: Lines =
    Lines { reason: Bytes::new(), cancel_reason: Bytes::new(), headers: Bytes::new() };

impl Lines {
    /// As a record keeps them.
    pub(crate) fn kept(self) -> Option<Box<Self>> {
        let Self { reason, cancel_reason, headers } = &self;
        let none = [reason, cancel_reason, headers].iter().all(|lines| lines.is_empty());
        (!none).then(|| Box::new(self))
    }
}

/// The record of one transaction.
pub(crate) struct Record {
    pub(crate) machine: Transaction,
    pub(crate) saved: Saved,
    /// Where replies go.
    pub(crate) reply_to: SocketAddr,
    pub(crate) armed: Armed,
    /// In the order of the machine's branches.
    pub(crate) legs: SmallVec<[Leg; 1]>,
    /// Timers that run.
    pub(crate) timers: SmallVec<[(Timer, Mono); 3]>,
    /// When somebody comes back for the first of them. The others get no entries of their own:
    /// most have lost their meaning before they are due.
    pub(crate) visit: Option<Visit>,
    /// Pass the Reason headers of the caller's CANCEL on.
    pub(crate) pass_reason: bool,
    /// `None`: none.
    pub(crate) lines: Option<Box<Lines>>,
    /// Branches that are still waited for; `None`: any number.
    pub(crate) waits: Option<u16>,
    /// The injection at hand is the last one.
    pub(crate) last_injection: bool,
    /// The request is one of ours, and who hears of its replies.
    pub(crate) owner: Option<Box<Owner>>,
    /// The last reply sent upstream was made here.
    pub(crate) last_local: bool,
    /// A route of the transaction worked on the AVPs after the request route armed it.
    pub(crate) avps_used: bool,
    /// What replies get back.
    pub(crate) rewritten: Rewritten,
    /// What is hidden of replies.
    pub(crate) hides: Option<Arc<Hides>>,
}

impl Record {
    pub(crate) fn new(machine: Transaction, sockets: &Sockets, ctx: &Ctx) -> Self {
        Self {
            machine,
            saved: Saved::of(ctx),
            reply_to: reply_target(sockets, &ctx.msg, &ctx.source, ctx.force_rport),
            armed: Armed::default(),
            legs: SmallVec::new(),
            timers: SmallVec::new(),
            visit: None,
            pass_reason: false,
            lines: None,
            waits: None,
            last_injection: false,
            owner: None,
            last_local: false,
            avps_used: false,
            rewritten: Rewritten::default(),
            hides: None,
        }
    }

    pub(crate) fn lines(&self) -> &Lines {
        self.lines.as_deref().unwrap_or(&NO_LINES)
    }

    pub(crate) fn lines_mut(&mut self) -> &mut Lines {
        self.lines.get_or_insert_default()
    }

    /// A context for branches that come later.
    pub(crate) fn next_context(&self) -> Ctx {
        let mut ctx = self.saved.context(Routes::REQUEST);
        ctx.hides.clone_from(&self.hides);
        ctx
    }

    /// Takes over what the script changed since the transaction was made.
    pub(crate) fn save(&mut self, sockets: &Sockets, ctx: &Ctx) {
        self.saved = Saved::of(ctx);
        self.reply_to = reply_target(sockets, &ctx.msg, &ctx.source, ctx.force_rport);
    }

    /// How many Record-Routes of ours a request gets that leaves `socket` as it came, but for what
    /// proxies change on its way. `None`: the script has changed more, or nobody wants to know.
    pub(crate) fn passed_on(&self, ctx: &Ctx, socket: SocketId) -> Option<usize> {
        let is_the_request = ctx.msg.bytes().as_ptr() == self.saved.msg.bytes().as_ptr();
        let changes = [HeaderName::MaxForwards, HeaderName::Route, HeaderName::Via];
        let passes = ctx.hides.is_none()
            && !ctx.attached.is_empty()
            && is_the_request
            && ctx.edits.stay_within(&ctx.msg, &changes);
        passes.then(|| own_record_routes(ctx, socket))
    }

    pub(crate) fn leg(&self, branch: BranchIndex) -> Option<&Leg> {
        self.legs.get(usize::from(branch.0))
    }

    pub(crate) fn leg_mut(&mut self, branch: BranchIndex) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(branch.0))
    }
}

/// What holds a transaction, so that other events of it wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// `t_relay` runs branch routes.
    Relay,
    /// The onreply routes for a reply of this branch.
    Reply {
        branch: BranchIndex,
        acked: bool,
        next: Option<RouteId>,
    },
    Failure,
    /// local_route, and what follows it.
    Local {
        next: Option<RouteId>,
    },
    /// `local_reply_route` with a final reply of ours.
    OwnReply {
        code: u16,
    },
}

/// What can happen to a transaction.
pub(crate) enum Event {
    Reply {
        branch: BranchIndex,
        ctx: Box<Ctx>,
    },
    CancelReply {
        branch: BranchIndex,
        code: u16,
    },
    /// The caller's CANCEL, with its Reason lines.
    Cancel {
        reason: Bytes,
    },
    Retransmission,
    Ack,
    /// A reply of the script.
    Local {
        code: u16,
        bytes: Bytes,
    },
    SendFailed {
        branch: BranchIndex,
    },
    /// No further branches are waited for.
    NoMore,
    /// The request route has ended.
    Release,
}

/// In which of its blocks a script looks at the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    #[default]
    Request,
    Branch,
    Reply,
    Failure,
    /// local_route of a request of ours.
    Local,
    /// A run that comes back to the transaction from elsewhere.
    Visitor,
}

/// What tm attaches to the message of a script run.
#[derive(Default)]
pub(crate) struct Section {
    pub(crate) tx: Option<Arc<Tx>>,
    pub(crate) role: Role,
    /// Armed before the transaction was made; in a branch route, for the branch.
    pub(crate) armed: Armed,
    /// `$T_fr_timeout` and `$T_fr_inv_timeout` set before the transaction was made, in ms.
    pub(crate) fr_ms: Option<u32>,
    pub(crate) fr_inv_ms: Option<u32>,
    /// The branch that the route is about; in a failure route, the winner.
    pub(crate) branch: Option<BranchIndex>,
    /// The winning code, in a failure route.
    pub(crate) code: u16,
    /// The target that a failure route started with.
    pub(crate) started_with: Option<Bytes>,
    /// The request has no branches but those that come later; its target at that time.
    pub(crate) waits_with: Option<Option<Bytes>>,
    /// What `t_add_hdrs` and `t_add_cancel_reason` said before the transaction was made.
    pub(crate) headers: Bytes,
    pub(crate) cancel_reason: Bytes,
    /// `$bavp` of the branch that the route is about.
    pub(crate) bavps: Bavps,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_fits_into_a_block_of_one_kilobyte() {
        // The next one of the allocator has a quarter of a kilobyte more, for every transaction.
        assert!(size_of::<Record>() <= 1024, "{}", size_of::<Record>());
    }
}
