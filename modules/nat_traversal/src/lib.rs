//! `nat_traversal`: phones behind NAT are kept reachable for as long as there is a reason to: a
//! registration, a subscription, a call.
//!
//! What is kept alive is an endpoint: the address that a request came from, whoever is behind it.
//! `nat_keepalive()` marks a request; a positive reply makes its source an endpoint until the
//! registration or subscription ends. In a call, the caller's source is one until the dialog
//! ends, and the callee's address stays one although its registration ends meanwhile.
//!
//! Where to look: `endpoints` is the table, `follow` how requests and dialogs come to be reasons,
//! `calls` finds the calls that others have made, `keepalive` is what is sent and when, `saved` the
//! file that outlives a restart.

mod calls;
mod endpoints;
mod follow;
mod functions;
mod keepalive;
mod params;
mod saved;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Beat, Now};
use tandem_cluster::Effect as News;
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::context::Ctx;
use tandem_engine::dialog::DialogEvent;
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef, Timer};
use tandem_engine::node::Node;
use tandem_engine::stats::{StatDef, StatKind};
use tandem_engine::table::{arg, function, needs};
use tandem_script::sig::{ArgKind, Routes};

use endpoints::Endpoints;
use params::Params;

/// The table of `nat_traversal`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "nat_traversal",
    help: "Keeps the ways to phones behind NAT open: for registrations, subscriptions and calls.",
    dependencies: &[needs("sl"), needs("tm")],
    params: params::PARAMS,
    functions: &[
        function(
            "nat_keepalive",
            &[],
            Routes::REQUEST,
            "Keeps the way to the sender open while what it asks for lasts.",
            functions::nat_keepalive,
        ),
        function(
            "fix_contact",
            &[],
            Routes::REQUEST.or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL),
            "Puts the source address into the Contact URIs.",
            functions::fix_contact,
        ),
        function(
            "client_nat_test",
            &[arg("type", ArgKind::Int)],
            Routes::REQUEST
                .or(Routes::FAILURE)
                .or(Routes::ONREPLY)
                .or(Routes::BRANCH)
                .or(Routes::LOCAL),
            "Whether the sender is behind NAT: 1 private Contact, 2 the source is not the Via, 4 \
             private Via; a sum of them.",
            functions::client_nat_test,
        ),
    ],
    variables: functions::VARIABLES,
    mi: &[],
    statistics: &[
        size("keepalive_endpoints", "Endpoints that are kept alive."),
        size("registered_endpoints", "Endpoints with a registration."),
        size("subscribed_endpoints", "Endpoints with a subscription."),
        size("dialog_endpoints", "Endpoints with a call."),
    ],
    events: &[],
    build,
};

const fn size(name: &'static str, help: &'static str) -> StatDef {
    StatDef { name, kind: StatKind::Function, resettable: false, help }
}

/// The module's state.
pub(crate) struct NatTraversal {
    params: Params,
    endpoints: Mutex<Endpoints>,
    beat: Mutex<Beat>,
    walk: calls::Walk,
    /// Slot of the module dialog; [`NO_SLOT`]: it is not loaded.
    dialog_slot: AtomicU16,
    /// What AoRs and Call-IDs are known by.
    hasher: ahash::RandomState,
    slot: u16,
}

const NO_SLOT: u16 = u16::MAX;

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let params = Params::read(from)?;
    let beat = keepalive::beat(params.interval_s);
    let endpoints = Endpoints::new(beat.slots(), from.hash_key());
    Ok(Arc::new(NatTraversal {
        params,
        endpoints: Mutex::new(endpoints),
        beat: Mutex::new(beat),
        walk: calls::Walk::default(),
        dialog_slot: AtomicU16::new(NO_SLOT),
        hasher: from.hash_key().state(),
        slot: from.slot,
    }))
}

impl Module for NatTraversal {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some((slot, _)) = cx.node.find::<tandem_dialog::Dialogs>() {
            self.dialog_slot.store(slot, Ordering::Relaxed);
        }
        if self.params.interval_s > 0 {
            self.read_saved(cx);
            self.begin(cx);
            self.hurry(cx);
            self.walk(cx, false);
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            calls::WALK => self.walk(cx, timer.id != 0),
            _ => self.tick(cx),
        }
    }

    fn file_read(&self, cx: &mut Cx<'_>, _: u64, result: Result<Option<Bytes>, String>) {
        self.restore(cx, result);
    }

    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        self.follow(cx, section, moment);
    }

    fn replied_stateless(&self, cx: &mut Cx<'_>, section: &Section, reply: &Bytes) {
        self.replied(cx, section, reply);
    }

    fn dialog(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        self.dialog_event(cx, event);
    }

    /// The calls of the node that has died are this one's now, or those of this one another's.
    fn cluster_news(&self, cx: &mut Cx<'_>, news: &News) {
        if matches!(news, News::TagChanged { .. }) && self.params.interval_s > 0 {
            self.hurry(cx);
        }
    }

    fn reply(&self, _: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        if self.is_answer(&ctx.msg) { None } else { Some(ctx) }
    }

    fn statistic(&self, _: &Node, now: Now, index: usize) -> u64 {
        let counts = self.endpoints.lock().counts(now.unix_s());
        counts.get(index).copied().unwrap_or(0)
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        if self.params.interval_s > 0 {
            self.save(cx);
        }
    }
}
