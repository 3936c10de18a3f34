//! Branches before they are sent: what the branch route makes of each target.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tandem_engine::context::{Branch, Ctx};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, RouteEnd};
use tandem_engine::run::Inner;
use tandem_engine::transport::{Hop, HopError, next_uri, uri_hop};
use tandem_script::program::RouteId;
use tandem_script::sig::Routes;
use tandem_transaction::BranchIndex;

use crate::bavp::Bavps;
use crate::breadth;
use crate::record::{Busy, Role, Section};
use crate::relay::Failure;
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

/// Targets on their way through the branch route.
pub(crate) struct Drafting {
    pub(crate) tx: Arc<Tx>,
    targets: std::vec::IntoIter<Branch>,
    /// Where to send without `$du`.
    proxy: Option<Bytes>,
    route: Option<RouteId>,
    /// `t_add_hdrs`.
    headers: Bytes,
    /// Branches that the transaction has already.
    used: usize,
    drafts: Vec<Draft>,
    /// That of the last target which cannot be used.
    failure: Option<Failure>,
}

impl Drafting {
    pub(crate) fn of(tx: &Arc<Tx>, targets: Vec<Branch>, proxy: Option<Bytes>) -> Self {
        let (used, route, headers) = {
            let record = &tx.cell.lock().record;
            (record.legs.len(), record.armed.branch, record.lines().headers.clone())
        };
        let (targets, drafts) = (targets.into_iter(), Vec::new());
        Self { tx: Arc::clone(tx), targets, proxy, route, headers, used, drafts, failure: None }
    }

    /// Runs the branch route for what is left; `false` if it waits, until [`Self::take`].
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>, base: &mut Ctx) -> bool {
        while let Some(mut target) = self.targets.next() {
            let Some(number) = u8::try_from(self.used + self.drafts.len()).ok() else { break };
            if target.dst_uri.is_none() {
                target.dst_uri = self.proxy.clone();
            }
            let mut ctx = Box::new(base.for_target(target, Routes::BRANCH));
            let Some(route) = self.route else {
                self.add(cx, ctx, None, Bavps::default());
                continue;
            };
            let section = ctx.section_mut::<Section>(cx.slot);
            section.tx = Some(Arc::clone(&self.tx));
            section.role = Role::Branch;
            section.branch = Some(BranchIndex(number));
            ctx.avps = std::mem::take(&mut base.avps);
            match cx.run_inner(route, ctx, self.tx.id.token(0)) {
                Inner::Ended(ctx, end) => self.take(cx, base, ctx, end),
                Inner::Waits => return false,
            }
        }
        if let Err(failure) = breadth::limit(&cx.node.sockets, base, &mut self.drafts) {
            let (msg, count) = (&base.msg, self.drafts.len());
            let text = format!(
                "{}: {} of call {} from {} is not forked into {count} branches",
                failure.reason,
                String::from_utf8_lossy(msg.method_bytes()),
                String::from_utf8_lossy(msg.call_id().unwrap_or_default()),
                base.source.addr,
            );
            cx.log(Level::Notice, text);
            self.drafts.clear();
            self.failure = Some(failure);
        }
        true
    }

    /// The branch route is over for one target.
    pub(crate) fn take(
        &mut self,
        cx: &mut Cx<'_>,
        base: &mut Ctx,
        mut ctx: Box<Ctx>,
        end: RouteEnd,
    ) {
        base.avps = std::mem::take(&mut ctx.avps);
        base.rewritten = base.rewritten.or(ctx.rewritten);
        base.attached.update(&ctx.attached);
        self.tx.cell.lock().record.saved.attached.update(&ctx.attached);
        let section = ctx.section_mut::<Section>(cx.slot);
        let on_reply = section.armed.reply;
        let bavps = std::mem::take(&mut section.bavps);
        section.tx = None;
        if !end.dropped {
            self.add(cx, ctx, on_reply, bavps);
        }
    }

    fn add(&mut self, cx: &mut Cx<'_>, mut ctx: Box<Ctx>, on_reply: Option<RouteId>, bavps: Bavps) {
        let way = Way::of(&ctx);
        if !self.headers.is_empty() {
            ctx.edits.append_header(&ctx.msg, self.headers.clone());
        }
        match way {
            Way::Lost(error) => {
                cx.log(Level::Info, format!("t_relay: a branch is left out: {error}"));
                self.failure = Some(Failure::from(error));
            }
            way => self.drafts.push(Draft { ctx, on_reply, bavps, way }),
        }
    }

    /// All are through: what became of the script's context belongs to the transaction.
    pub(crate) fn save(&self, base: &Ctx) {
        let mut cell = self.tx.cell.lock();
        cell.record.rewritten = cell.record.rewritten.or(base.rewritten);
        cell.record.hides = base.hides.clone().or(cell.record.hides.take());
        if cell.busy == Some(Busy::Relay) {
            // What branch routes did to the AVPs.
            cell.record.saved.avps = base.avps.clone();
        }
    }

    /// The branches, and why the last one that is missing is.
    pub(crate) fn end(self) -> (Vec<Draft>, Option<Failure>) {
        (self.drafts, self.failure)
    }
}
