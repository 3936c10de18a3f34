//! `nathelper`: phones behind NAT: finding out, writing their real address down, and keeping
//! the hole in the NAT open.
//!
//! Pinging is the first user of [`tandem_cluster::Duty`]: a ping leaves only with leave to act,
//! which the table of sharing tags gives to the holder alone.
//!
//! Where to look: `detect` is nat_uac_test(); `fix` rewrites addresses in headers, `sdp` those in
//! bodies; `ping` walks the contacts, `sip_ping` writes requests and knows their replies.

mod detect;
mod fix;
mod params;
mod ping;
mod sdp;
mod sip_ping;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef, Timer};
use tandem_engine::table::{arg, function, mi_int, optional};
use tandem_engine::transport::{Hop, HopError};
use tandem_script::sig::{ArgKind, Routes};
use tandem_usrloc::Usrloc;

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
    Ok(Arc::new(Nathelper {
        params: params::Params::read(from)?,
        enabled: AtomicBool::new(true),
        usrloc: from.module::<Usrloc>(),
        pings: ping::Pings::default(),
    }))
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
            cx.set_timer(cx.now.after_s(1), Timer { kind: ping::TICK, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        let next = cx.now.after_ms(1_000 / self.params.partitions);
        cx.set_timer(next, Timer { id: timer.id.wrapping_add(1), ..timer });
        if self.enabled.load(Ordering::Relaxed) {
            self.count_lost(cx);
            self.ping_slice(cx, timer.id);
        }
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        self.found(cx, token, &result.unwrap_or_default());
    }

    fn reply(&self, cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        if self.take_reply(cx, &ctx.msg) { None } else { Some(ctx) }
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
        None => {
            MiOutcome::Done(json!({"Status": u8::from(module.enabled.load(Ordering::Relaxed))}))
        }
    }
}
