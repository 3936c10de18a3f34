//! Branches before they are sent: what the branch route makes of each target.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tandem_engine::context::{Branch, Ctx};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_engine::transport::{Hop, HopError, next_uri, uri_hop};
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_transaction::BranchIndex;

use crate::bavp::Bavps;
use crate::record::{Busy, Role, Section};
use crate::relay::{Failure, Options, targets};
use crate::table::Tx;

/// A branch whose route has run.
pub(crate) struct Draft {
    pub(crate) ctx: Box<Ctx>,
    /// The onreply route armed for this branch alone.
    pub(crate) on_reply: Option<RouteId>,
    pub(crate) bavps: Bavps,
    pub(crate) way: Way,
}

/// Where a branch goes.
pub(crate) enum Way {
    /// To these, one after the other.
    Known(SmallVec<[Hop; 1]>),
    /// To whom this URI names; it has to be looked up.
    Named(Bytes),
    Lost(HopError),
}

impl Way {
    pub(crate) fn of(ctx: &Ctx) -> Self {
        let uri = match next_uri(ctx, &ctx.target) {
            Ok(uri) => uri,
            Err(error) => return Self::Lost(error),
        };
        match uri_hop(uri) {
            Ok(hop) => Self::Known(smallvec![hop]),
            Err(HopError::Unresolvable) => Self::Named(Bytes::copy_from_slice(uri)),
            // A number that the script has made no SIP URI of.
            Err(HopError::UnknownScheme) if is_number(uri) => Self::Lost(HopError::BadUri),
            Err(error) => Self::Lost(error),
        }
    }
}

fn is_number(uri: &[u8]) -> bool {
    uri.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"tel:"))
}

/// Runs the branch route for each target of the script. The failure is that of the last target
/// which cannot be used.
pub(crate) fn drafts(
    call: &mut Call<'_, '_, '_>,
    tx: &Arc<Tx>,
    options: &Options,
) -> (Vec<Draft>, Option<Failure>) {
    let targets = targets(call);
    let made = drafts_of(call.cx, call.ctx, tx, targets, options);
    let mut cell = tx.cell.lock();
    cell.record.rewritten = cell.record.rewritten.or(call.ctx.rewritten);
    cell.record.hides = call.ctx.hides.clone().or(cell.record.hides.take());
    if cell.busy == Some(Busy::Relay) {
        // What branch routes did to the AVPs belongs to the transaction.
        cell.record.saved.avps = call.ctx.avps.clone();
    }
    made
}

/// The same for given targets, from a context that need not be the script's.
pub(crate) fn drafts_of(
    cx: &mut Cx<'_>,
    base: &mut Ctx,
    tx: &Arc<Tx>,
    targets: Vec<Branch>,
    options: &Options,
) -> (Vec<Draft>, Option<Failure>) {
    let (used, route, headers) = {
        let record = &tx.cell.lock().record;
        (record.legs.len(), record.armed.branch, record.headers.clone())
    };
    let mut drafts = Vec::new();
    let mut failure = None;
    for mut target in targets {
        let Some(number) = u8::try_from(used + drafts.len()).ok() else { break };
        if target.dst_uri.is_none() {
            target.dst_uri = options.proxy.clone();
        }
        let Some(mut draft) = draft(cx, base, tx, route, target, number) else { continue };
        if !headers.is_empty() {
            let ctx = &mut draft.ctx;
            ctx.edits.append_header(&ctx.msg, headers.clone());
        }
        match &draft.way {
            Way::Lost(error) => {
                let text = format!("t_relay: a branch is left out: {error}");
                cx.log(Level::Info, text);
                failure = Some(Failure::from(*error));
            }
            Way::Known(_) | Way::Named(_) => drafts.push(draft),
        }
    }
    (drafts, failure)
}

/// `None` if the branch route drops the branch.
fn draft(
    cx: &mut Cx<'_>,
    base: &mut Ctx,
    tx: &Arc<Tx>,
    route: Option<RouteId>,
    target: Branch,
    number: u8,
) -> Option<Draft> {
    let mut ctx = Box::new(base.for_target(target, Routes::BRANCH));
    let (mut on_reply, mut bavps) = (None, Bavps::default());
    if let Some(route) = route {
        let slot = cx.slot;
        let section = ctx.section_mut::<Section>(slot);
        section.tx = Some(Arc::clone(tx));
        section.role = Role::Branch;
        section.branch = Some(BranchIndex(number));
        ctx.avps = std::mem::take(&mut base.avps);
        let end = cx.run_nested(route, &mut ctx);
        base.avps = std::mem::take(&mut ctx.avps);
        base.rewritten = base.rewritten.or(ctx.rewritten);
        base.attached.update(&ctx.attached);
        tx.cell.lock().record.saved.attached.update(&ctx.attached);
        let section = ctx.section_mut::<Section>(slot);
        on_reply = section.armed.reply;
        bavps = std::mem::take(&mut section.bavps);
        section.tx = None;
        if end.dropped {
            return None;
        }
    }
    let way = Way::of(&ctx);
    Some(Draft { ctx, on_reply, bavps, way })
}
