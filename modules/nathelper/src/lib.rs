//! `nathelper`: phones behind NAT: finding out, writing their real address down, and keeping
//! the hole in the NAT open.
//!
//! Pinging is the first user of [`tandem_cluster::Duty`]: a ping leaves only with leave to act,
//! which the table of sharing tags gives to the holder alone.

mod detect;
mod fix;
mod ping;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::json;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef, Timer};
use tandem_engine::table::{arg, function, mi_int, optional, param};
use tandem_script::sig::{ArgKind, ParamKind, ParamSig, Routes};
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
    params: &[
        param("natping_interval", ParamKind::Int, Some("0"), "Seconds between pings; 0: none."),
        param("ping_nated_only", ParamKind::Int, Some("0"), "Ping only contacts behind NAT."),
        ParamSig {
            check: Some(fix::check_avp),
            ..param("received_avp", ParamKind::Str, None, "AVP for the source of a REGISTER.")
        },
        param("cluster_id", ParamKind::Int, Some("0"), "Cluster of cluster_sharing_tag."),
        param("cluster_sharing_tag", ParamKind::Str, None, "Ping only while this tag is held."),
    ],
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
            &[optional("uri_params", ArgKind::Str)],
            Routes::REQUEST.or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL),
            "Puts the source address into the Contact URIs.",
            fix::fix_nated_contact,
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
        old_names: &["enable_ping", "nh_enable_ping"],
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
    interval_s: u64,
    nated_only: bool,
    /// Cluster and name of the tag that switches the pinger.
    tag: Option<(u32, String)>,
    received_avp: Option<Bytes>,
    enabled: AtomicBool,
    usrloc: Option<Arc<Usrloc>>,
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let interval_s = from
        .int("natping_interval")
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| BuildError::new("natping_interval", "not a number of seconds"))?;
    let cluster = from.int("cluster_id").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let tag = from.text("cluster_sharing_tag").map(|name| (cluster, name.to_owned()));
    if tag.is_some() && cluster == 0 {
        let message = "cluster_sharing_tag needs cluster_id";
        return Err(BuildError::new("cluster_sharing_tag", message)
            .help("add modparam(\"nathelper\", \"cluster_id\", 1)"));
    }
    Ok(Arc::new(Nathelper {
        interval_s,
        nated_only: from.int("ping_nated_only") == Some(1),
        tag,
        received_avp: from.avp("received_avp"),
        enabled: AtomicBool::new(true),
        usrloc: from.module::<Usrloc>(),
    }))
}

impl Module for Nathelper {
    fn start(&self, cx: &mut Cx<'_>) {
        if self.interval_s > 0 {
            cx.set_timer(cx.now.after_s(1), Timer { kind: ping::TICK, id: 0 });
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        cx.set_timer(cx.now.after_s(1), Timer { id: timer.id.wrapping_add(1), ..timer });
        if self.enabled.load(Ordering::Relaxed) {
            self.ping_slice(cx, timer.id);
        }
    }
}

fn enable_ping(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(module) = call.cx.node.module::<Nathelper>(call.cx.slot) else {
        return MiOutcome::failed(500, "Internal error");
    };
    if module.interval_s == 0 {
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
