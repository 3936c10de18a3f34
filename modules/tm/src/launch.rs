//! From drafts to branches: names are looked up, then the requests are written and sent. The
//! script waits meanwhile, and so does every other event of the transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::context::Ctx;
use tandem_engine::dns::Resolved;
use tandem_engine::effect::Send;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_engine::own_reply::own_reply;
use tandem_engine::transport::{
    Hop, HopError, Prepared, first_allowed, next_uri, prepare_request, prepare_request_to, uri_hop,
};
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_transaction::{BranchError, BranchIndex, BranchSpec, Dest, Effects};

use crate::draft::{Draft, Way};
use crate::failover::Spare;
use crate::pause::Pause;
use crate::record::{Busy, Event, Leg};
use crate::relay::{Failure, INTERNAL, NO_BRANCH};
use crate::table::{Cell, Tx};
use crate::tm::Tm;

/// Branches of one errand, in the low bits of its token.
const BRANCH_BITS: u32 = 8;

/// What is to be sent once it is known where to.
pub(crate) enum Errand {
    Relay(Relaying),
    /// Branches that are added to a transaction which waits for them.
    Inject(Relaying),
    /// A request of this node itself; whether later destinations are tried.
    Local(Arc<Tx>, Vec<Draft>, bool),
    /// An ACK to a 2xx or a CANCEL, without state, with this branch in its Via.
    Stateless(Box<Ctx>, Vec<u8>),
}

/// The branches of a `t_relay`.
pub(crate) struct Relaying {
    pub(crate) tx: Arc<Tx>,
    /// If nothing can be sent, that is answered here, and the script ends.
    pub(crate) answers: bool,
    /// Later destinations are tried when the first fails.
    pub(crate) failover: bool,
    pub(crate) drafts: Vec<Draft>,
    /// Why a branch is left out.
    pub(crate) failure: Option<Failure>,
}

/// Errands that wait for names.
#[derive(Default)]
pub(crate) struct Errands {
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    next: AtomicU64,
    /// Branch routes that wait, by the token of their transaction: no more than runs that wait.
    pub(crate) pauses: Mutex<BTreeMap<u64, Pause>>,
}

struct Waiting {
    errand: Errand,
    /// Look-ups that have not ended, and one more while they are begun.
    open: usize,
    /// The run that goes on afterwards.
    run: Option<u64>,
}

impl Errand {
    /// The names that have to be looked up, with the numbers of their branches.
    fn names(&self) -> Vec<(u8, Bytes)> {
        match self {
            Self::Relay(Relaying { drafts, .. })
            | Self::Inject(Relaying { drafts, .. })
            | Self::Local(_, drafts, _) => {
                let named = |(n, draft): (u8, &Draft)| match &draft.way {
                    Way::Named(uri) => Some((n, uri.clone())),
                    _ => None,
                };
                (0..=u8::MAX).zip(drafts).filter_map(named).collect()
            }
            Self::Stateless(ctx, _) => {
                let uri = next_uri(ctx, &ctx.target).ok();
                let named = uri.filter(|uri| uri_hop(uri) == Err(HopError::Unresolvable));
                named.map(|uri| (0, Bytes::copy_from_slice(uri))).into_iter().collect()
            }
        }
    }

    fn found(&mut self, branch: u8, result: Result<Vec<Hop>, HopError>) {
        match self {
            Self::Relay(Relaying { drafts, .. })
            | Self::Inject(Relaying { drafts, .. })
            | Self::Local(_, drafts, _) => {
                if let Some(draft) = drafts.get_mut(usize::from(branch)) {
                    draft.way = match result {
                        Ok(hops) => Way::Known(hops.into()),
                        Err(error) => Way::Lost(error),
                    };
                }
            }
            Self::Stateless(ctx, _) => {
                // The destination of a name takes the place of the URI.
                let uri = result.ok().and_then(|hops| hops.first().map(hop_uri));
                ctx.target.dst_uri = uri.or_else(|| Some(Bytes::new()));
            }
        }
    }
}

/// A destination as a URI.
fn hop_uri(hop: &Hop) -> Bytes {
    let transport = hop.proto.text();
    Bytes::from(format!("sip:{};transport={transport}", hop.addr))
}

impl Tm {
    /// Sends at once if every destination is known; otherwise the script waits.
    pub(crate) fn launch(&self, call: &mut Call<'_, '_, '_>, errand: Errand) -> Called {
        if errand.names().is_empty() {
            return Called::Returned(self.carry_out(call.cx, errand));
        }
        let run = call.suspend();
        let done = self.look_up(call.cx, errand, Some(run));
        done.map_or(Called::Suspended, Called::Returned)
    }

    /// The same when no script waits.
    pub(crate) fn start(&self, cx: &mut Cx<'_>, errand: Errand) {
        self.look_up(cx, errand, None);
    }

    /// Looks up what has to be; the result if everything was known.
    pub(crate) fn look_up(&self, cx: &mut Cx<'_>, errand: Errand, run: Option<u64>) -> Option<i32> {
        let names = errand.names();
        let number = self.errands.next.fetch_add(1, Ordering::Relaxed) + 1;
        let waiting = Waiting { errand, open: names.len() + 1, run };
        self.errands.waiting.lock().insert(number, waiting);
        for (branch, uri) in names {
            let token = number << BRANCH_BITS | u64::from(branch);
            if let Resolved::Now(result) = cx.resolve(&uri, token) {
                // Not the last one: the look-ups are still being begun.
                self.found(number, branch, result);
            }
        }
        let waiting = self.one_less(number)?;
        Some(self.carry_out(cx, waiting.errand))
    }

    /// A name was looked up.
    pub(crate) fn name_found(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Vec<Hop>, HopError>,
    ) {
        let (number, branch) = (token >> BRANCH_BITS, token as u8);
        if let Some(Waiting { errand, run, .. }) = self.found(number, branch, result) {
            let code = self.carry_out(cx, errand);
            if let Some(run) = run {
                cx.resume(run, code);
            }
        }
    }

    fn found(
        &self,
        number: u64,
        branch: u8,
        result: Result<Vec<Hop>, HopError>,
    ) -> Option<Waiting> {
        if let Some(waiting) = self.errands.waiting.lock().get_mut(&number) {
            waiting.errand.found(branch, result);
        }
        self.one_less(number)
    }

    /// One look-up has ended; the errand if it was the last.
    fn one_less(&self, number: u64) -> Option<Waiting> {
        let mut waiting = self.errands.waiting.lock();
        let one = waiting.get_mut(&number)?;
        one.open -= 1;
        if one.open > 0 { None } else { waiting.remove(&number) }
    }

    /// Every destination is known, or not to be found: the return code of the function.
    fn carry_out(&self, cx: &mut Cx<'_>, errand: Errand) -> i32 {
        match errand {
            Errand::Relay(relaying) => self.relay_drafts(cx, relaying),
            Errand::Inject(relaying) => self.inject_drafts(cx, relaying),
            Errand::Local(tx, drafts, failover) => {
                self.send_drafts(cx, &tx, drafts, failover);
                1
            }
            Errand::Stateless(ctx, via_branch) => send_stateless(cx, &ctx, &via_branch, None),
        }
    }

    fn relay_drafts(&self, cx: &mut Cx<'_>, relaying: Relaying) -> i32 {
        let Relaying { tx, answers, failover, drafts, failure } = relaying;
        let Err(failure) = self.add_drafts(cx, &tx, drafts, failover, failure) else { return 1 };
        if !answers {
            // For whoever answers what went wrong.
            tx.cell.lock().failed = Some(Box::new(failure));
            return failure.result;
        }
        let ctx = {
            let cell = tx.cell.lock();
            cell.record.saved.context(Routes::REQUEST)
        };
        let bytes = own_reply(cx.node, &ctx, failure.code, failure.reason.as_bytes(), b"");
        self.deliver(cx, &tx, Event::Local { code: failure.code, bytes });
        0
    }

    /// Branches that were waited for.
    fn inject_drafts(&self, cx: &mut Cx<'_>, relaying: Relaying) -> i32 {
        let Relaying { tx, failover, drafts, failure, .. } = relaying;
        let count = u16::try_from(drafts.len()).unwrap_or(u16::MAX);
        let added = self.add_drafts(cx, &tx, drafts, failover, failure);
        let over = {
            let record = &mut tx.cell.lock().record;
            let left = record.waits.map(|n| n.saturating_sub(count));
            record.waits = left;
            std::mem::take(&mut record.last_injection) || left == Some(0)
        };
        if over {
            self.deliver(cx, &tx, Event::NoMore);
        }
        added.map_or_else(|failure| failure.result, |()| 1)
    }

    /// Adds the branches, and lets other events of the transaction in again.
    fn add_drafts(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        drafts: Vec<Draft>,
        failover: bool,
        mut failure: Option<Failure>,
    ) -> Result<(), Failure> {
        let mut added = false;
        let mut cell = tx.cell.lock();
        for draft in drafts {
            match self.add_draft(cx, tx, &mut cell, draft, failover) {
                Ok(_) => added = true,
                Err(error) => failure = Some(error),
            }
        }
        if cell.busy == Some(Busy::Relay) {
            cell.busy = None;
        }
        if added {
            cell.failed = None;
        }
        self.settle(cx, tx, cell);
        if added { Ok(()) } else { Err(failure.unwrap_or(NO_BRANCH)) }
    }

    /// Adds one branch to the first of its destinations that can be used.
    pub(crate) fn add_draft(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        draft: Draft,
        failover: bool,
    ) -> Result<BranchIndex, Failure> {
        let Draft { mut ctx, on_reply, bavps, way } = draft;
        self.sign(cx, &mut ctx);
        let mut hops = match way {
            Way::Known(hops) => hops,
            Way::Named(_) => return Err(Failure::from(HopError::Unresolvable)),
            Way::Lost(error) => return Err(Failure::from(error)),
        };
        let number = u8::try_from(cell.record.legs.len()).map_err(|_| INTERNAL)?;
        let via_branch = self.via_branch(tx.id, number);
        let first = first_allowed(cx, &ctx, &hops).ok_or(HopError::Blacklisted)?;
        let spare: Vec<Hop> = hops.drain(first + 1..).collect();
        let hop = *hops.last().ok_or(HopError::Unresolvable)?;
        let prepared = prepare_request_to(cx.node, &ctx, &ctx.target, &via_branch, hop)?;
        let mut leg = Leg::of(&ctx, prepared.socket, on_reply, bavps);
        leg.passed_on = cell.record.passed_on(&ctx, prepared.socket);
        let index = self.add_prepared(cx, tx, cell, prepared, leg)?;
        if failover
            && !spare.is_empty()
            && let Some(leg) = cell.record.leg_mut(index)
        {
            leg.spare = Some(Box::new(Spare { ctx, hops: spare }));
        }
        Ok(index)
    }

    /// Adds a branch whose request is written.
    pub(crate) fn add_prepared(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        prepared: Prepared,
        leg: Leg,
    ) -> Result<BranchIndex, Failure> {
        let record = &mut cell.record;
        let spec = BranchSpec {
            dest: dest_of(cx, &prepared),
            request: prepared.bytes,
            fr_ms: None,
            fr_inv_ms: None,
            minor: leg.target.flags & self.params.minor_branch != 0,
        };
        let mut fx = Effects::new();
        let added = record.machine.add_branch(cx.now, spec, &mut fx);
        if added.is_ok() {
            record.legs.push(leg);
        }
        self.finish_step(cx, tx, cell, fx, None);
        added.map_err(|error| match error {
            BranchError::Cancelled => NO_BRANCH,
            BranchError::Declined | BranchError::Answered | BranchError::TooMany => INTERNAL,
        })
    }
}

/// Where a written request goes, as the machine knows it.
pub(crate) fn dest_of(cx: &Cx<'_>, prepared: &Prepared) -> Dest {
    let reliable = cx.node.sockets.is_reliable(prepared.socket);
    Dest { socket: u32::from(prepared.socket.0), addr: prepared.to, reliable }
}

/// Sends a request without state, to a hop that is known or to the one of its target.
pub(crate) fn send_stateless(
    cx: &mut Cx<'_>,
    ctx: &Ctx,
    via_branch: &[u8],
    hop: Option<Hop>,
) -> i32 {
    let prepared = match hop {
        Some(hop) => prepare_request_to(cx.node, ctx, &ctx.target, via_branch, hop),
        None => prepare_request(cx.node, ctx, &ctx.target, via_branch),
    };
    match prepared {
        Ok(Prepared { bytes, to, socket }) => {
            cx.out.send(Send { socket, to, payload: bytes, ticket: 0 });
            1
        }
        Err(error) => {
            cx.log(Level::Info, format!("t_relay: a request is left out: {error}"));
            Failure::from(error).result
        }
    }
}
