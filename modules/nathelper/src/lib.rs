//! `nathelper`: phones behind NAT: finding out, writing their real address down, and keeping
//! the hole in the NAT open.
//!
//! Pinging is the first user of [`tandem_cluster::Duty`]: a ping leaves only with leave to act,
//! which the table of sharing tags gives to the holder alone.
//!
//! Where to look: `detect` is nat_uac_test(); `fix` rewrites addresses in headers, `sdp` those in
//! bodies; `ping` takes the contacts whose turn it is, `later` those who could not be pinged then,
//! `sip_ping` writes requests and knows their replies, `watch` removes who does not answer.

pub mod address;
mod detect;
mod fix;
mod later;
mod params;
mod ping;
mod sdp;
mod sip_ping;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tandem_clock::Now;
use tandem_cluster::Effect as News;
use tandem_engine::context::Ctx;
use tandem_engine::effect::SendError;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef, Timer};
use tandem_engine::node::Node;
use tandem_engine::table::{arg, function, mi_int, optional};
use tandem_engine::transport::{Hop, HopError};
use tandem_script::sig::{ArgKind, Routes};
use tandem_usrloc::store::PingPlan;
use tandem_usrloc::{Pinging, Usrloc};

const WHERE: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL);

/// The table of `nathelper`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "nathelper",
    help: "Phones behind NAT.",
    dependencies: &[tandem_script::sig::Dependency {
        module: "usrloc",
        when_param: "natping_interval",
    }],
    params: params::PARAMS,
    functions: &[
        function(
            "nat_uac_test",
            &[arg("flags", ArgKind::Flags(detect::TESTS))],
            WHERE,
            "Whether one of the tests says that the sender is behind NAT.",
            detect::nat_uac_test,
        ),
        function(
            "fix_nated_register",
            &[],
            Routes::REQUEST,
            "Stores the source of a REGISTER in received_avp.",
            fix::fix_nated_register,
        ),
        function(
            "fix_nated_contact",
            &[
                optional("uri_params", ArgKind::Str),
                optional("flags", ArgKind::Flags(fix::CONTACT_FLAGS)),
            ],
            Routes::REQUEST.or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL),
            "Puts the source address into the Contact URIs.",
            fix::fix_nated_contact,
        ),
        function(
            "restore_nated_ruri",
            &[],
            Routes::REQUEST.or(Routes::BRANCH).or(Routes::LOCAL),
            "Undoes in the R-URI what fix_nated_contact() with preserve-uri did.",
            fix::restore_nated_ruri,
        ),
        function(
            "fix_nated_sdp",
            &[
                arg("flags", ArgKind::Flags(sdp::FLAGS)),
                optional("ip", ArgKind::Str),
                optional("sdp_fields", ArgKind::Str),
            ],
            WHERE,
            "Puts the source address, or another one, into the SDP body.",
            sdp::fix_nated_sdp,
        ),
        function(
            "add_rcv_param",
            &[optional("flag", ArgKind::Int)],
            Routes::REQUEST,
            "Adds ;received= to the Contact header (0) or its URI (1).",
            fix::add_rcv_param,
        ),
    ],
    variables: &[],
    mi: &[MiDef {
        name: "nathelper:enable_ping",
        old_names: &["enable_ping"],
        param_sets: &[&[], &[mi_int("status")]],
        help: "Reads or sets whether contacts are pinged.",
        run: enable_ping,
    }],
    statistics: &[],
    events: &[],
    build,
};

/// The module's state.
pub struct Nathelper {
    params: params::Params,
    enabled: AtomicBool,
    usrloc: Option<Arc<Usrloc>>,
    pings: ping::Pings,
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let (params, usrloc) = (params::Params::read(from)?, from.module::<Usrloc>());
    if let Some(usrloc) = usrloc.as_ref().filter(|_| params.interval_s > 0) {
        usrloc.plan_pings(PingPlan {
            slots: ping::beat(params.interval_s).slots(),
            only_flag: params.nated_only.then(|| usrloc.params.nat_flag.clone()),
            streams: params.pings_streams,
        });
    }
    let (enabled, pings) = (AtomicBool::new(true), ping::Pings::new(params.interval_s));
    Ok(Arc::new(Nathelper { params, enabled, usrloc, pings }))
}

impl Module for Nathelper {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some(text) = &self.params.foreign_socket {
            let text = format!(
                "natping_socket {text} is no socket of this node: pings leave from the socket of \
                 their contact"
            );
            cx.log(Level::Warning, text);
        }
        if self.params.interval_s > 0 {
            for text in self.idle_settings() {
                cx.log(Level::Warning, format!("nathelper: {text}"));
            }
            self.begin_pinging(cx);
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, _: Timer) {
        self.tick(cx);
    }

    fn send_failed(&self, _: &mut Cx<'_>, token: u64, _: SendError) {
        self.not_sent(token);
    }

    /// Whoever begins to ping starts afresh: counts of another time, and of a node that has died,
    /// say nothing about now.
    fn cluster_news(&self, cx: &mut Cx<'_>, news: &News) {
        let by_tags = self.usrloc.as_ref().is_some_and(|u| u.params.pinging == Pinging::Ownership);
        match news {
            News::TagChanged { active: true, .. } => self.pings.watch.new_reign(cx.now),
            News::NodeState { .. } if !by_tags => self.pings.watch.new_reign(cx.now),
            _ => {}
        }
    }

    fn status(&self, _: &Node, _: Now) -> Option<serde_json::Value> {
        let (usrloc, counts) = (self.usrloc.as_ref()?, &self.pings.counts);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let pinged = usrloc.tables().iter().map(|t| t.domain.pinged_count()).sum::<usize>();
        Some(json!({
            "contacts": pinged,
            "sent": count(&counts.sent),
            "visited": count(&counts.visited),
            "to_self": count(&counts.to_self),
            "not_sent": count(&counts.not_sent),
            "removed": count(&counts.removed),
            "watched": self.pings.watch.len(),
            "waiting_for_address": self.pings.later.waiting(),
        }))
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        self.found(cx, token, &result.unwrap_or_default());
    }

    fn knows_replies(&self) -> bool {
        self.params.interval_s > 0 && self.params.from.is_some()
    }

    fn takes_reply(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> bool {
        self.take_early(cx, bytes)
    }

    fn reply(&self, cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        if self.take_reply(cx, &ctx.msg) { None } else { Some(ctx) }
    }
}

impl Nathelper {
    /// Parameters that do nothing, because another one is missing.
    fn idle_settings(&self) -> Vec<String> {
        let params = &self.params;
        let has_nat_flag = self.usrloc.as_ref().is_some_and(|u| !u.params.nat_flag.is_empty());
        let sends_sip = params.from.is_some() && params.sip_flag.is_some();
        let mut idle = Vec::new();
        if params.nated_only && !has_nat_flag {
            idle.push("nobody is pinged: ping_nated_only needs nat_bflag of usrloc".to_owned());
        }
        if params.sip_flag.is_some() && params.from.is_none() {
            idle.push("no SIP pings are sent: sipping_bflag needs sipping_from".to_owned());
        }
        for (name, flag) in [
            ("remove_on_timeout_bflag", &params.remove_flag),
            ("sipping_latency_flag", &params.latency_flag),
        ] {
            if flag.is_some() && !sends_sip {
                let needs = "needs SIP pings (sipping_bflag, sipping_from), which are answered";
                idle.push(format!("{name} does nothing: it {needs}"));
            }
        }
        idle
    }

    /// Whether `enable_ping` has not switched pinging off.
    fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }
}

fn enable_ping(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(module) = call.cx.node.module::<Nathelper>(call.cx.slot) else {
        return MiOutcome::failed(500, "Internal error");
    };
    if module.params.interval_s == 0 {
        return MiOutcome::failed(400, "NATping disabled from script");
    }
    match call.int("status") {
        Some(status) => {
            module.enabled.store(status != 0, Ordering::Relaxed);
            MiOutcome::ok()
        }
        None => MiOutcome::Done(json!({"Status": u8::from(module.is_enabled())})),
    }
}
