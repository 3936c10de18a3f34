//! `pike`: addresses that send more requests than a person would.
//!
//! Requests are counted by source address and unit of time. An address with more than the
//! density in one unit is blocked, until a whole unit passes with less.

mod table;

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Build, BuildError, Call, Cx, EventDef, Module, ModuleDef, Timer};
use tandem_engine::table::{function, mi_text, param};
use tandem_script::host::Called;
use tandem_script::program::RouteId;
use tandem_script::sig::{ParamKind, Routes};
use tandem_script::value::Value;

use crate::table::{Table, Verdict};

const BLOCKED: &str = "E_PIKE_BLOCKED";

/// The table of `pike`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "pike",
    help: "Addresses that send more requests than a person would.",
    dependencies: &[],
    params: &[
        param("sampling_time_unit", ParamKind::Int, Some("2"), "Seconds in which is counted."),
        param(
            "reqs_density_per_unit",
            ParamKind::Int,
            Some("30"),
            "Requests in a unit above which an address is blocked.",
        ),
        param(
            "remove_latency",
            ParamKind::Int,
            Some("120"),
            "Seconds for which an address that sends nothing is remembered.",
        ),
        param(
            "pike_log_level",
            ParamKind::Int,
            Some("1"),
            "Level of the lines about addresses that are blocked and set free.",
        ),
        param(
            "check_route",
            ParamKind::Str,
            None,
            "Route for every request: what it does not `drop` is counted, and a request of a \
             blocked address goes nowhere.",
        ),
    ],
    functions: &[function(
        "pike_check_req",
        &[],
        Routes::REQUEST,
        "Counts the source of the request: 1; -1 it is blocked; -2 it is blocked from now on.",
        pike_check_req,
    )],
    variables: &[],
    mi: &[
        MiDef {
            name: "pike:list",
            old_names: &["list"],
            param_sets: &[&[]],
            help: "The addresses that are blocked.",
            run: list,
        },
        MiDef {
            name: "pike:rm",
            old_names: &["rm"],
            param_sets: &[&[mi_text("ip")]],
            help: "Sets an address free.",
            run: remove,
        },
    ],
    statistics: &[],
    events: &[EventDef { name: BLOCKED, params: &["ip"], help: "An address is blocked." }],
    build,
};

struct Pike {
    table: Mutex<Table>,
    unit_s: u64,
    level: Level,
    check_route: Option<RouteId>,
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let number = |name: &'static str| {
        let number = build.int(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        number.ok_or_else(|| BuildError::new(name, "1 or more is wanted"))
    };
    let unit_s = number("sampling_time_unit")?;
    let density = number("reqs_density_per_unit")?;
    let latency_s = number("remove_latency")?;
    let level = build.int("pike_log_level").and_then(|n| i32::try_from(n).ok()).unwrap_or(1);
    let check_route = match build.text("check_route").filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => {
            let route = build.program.route_named(Routes::REQUEST, name);
            let why = || BuildError::new("check_route", format!("there is no route[{name}]"));
            Some(route.ok_or_else(why)?)
        }
    };
    let key = build.hash_key();
    Ok(Arc::new(Pike {
        table: Mutex::new(Table::new(key, u64::from(unit_s), density, u64::from(latency_s))),
        unit_s: u64::from(unit_s),
        level: Level::from_number(level),
        check_route,
    }))
}

impl Pike {
    fn count(&self, cx: &mut Cx<'_>, ip: IpAddr) -> Verdict {
        let verdict = self.table.lock().count(cx.now, ip);
        if verdict == Verdict::NewlyBlocked {
            cx.log(self.level, format!("pike: {ip} is blocked"));
            cx.raise(BLOCKED, vec![("ip", Value::str(ip.to_string()))]);
        }
        verdict
    }
}

impl Module for Pike {
    fn start(&self, cx: &mut Cx<'_>) {
        let at = cx.now.after_s(self.unit_s);
        cx.set_timer(at, Timer { kind: 0, id: 0 });
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        let freed = self.table.lock().sweep(cx.now);
        for ip in freed {
            cx.log(self.level, format!("pike: {ip} is free again"));
        }
        let at = cx.now.after_s(self.unit_s);
        cx.set_timer(at, timer);
    }

    fn screens(&self) -> bool {
        self.check_route.is_some()
    }

    fn screen(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> bool {
        let Some(route) = self.check_route else { return true };
        if cx.run_nested(route, ctx).dropped {
            return true;
        }
        let ip = ctx.source.addr.ip().to_canonical();
        self.count(cx, ip) == Verdict::Pass
    }
}

fn pike_check_req(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Pike>() else { return Called::Returned(1) };
    let ip = call.ctx.source.addr.ip().to_canonical();
    Called::Returned(match state.count(call.cx, ip) {
        Verdict::Pass => 1,
        Verdict::Blocked => -1,
        Verdict::NewlyBlocked => -2,
    })
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = call.cx.node.module::<Pike>(call.cx.slot) else {
        return MiOutcome::failed(500, "pike is not there");
    };
    let blocked = state.table.lock().blocked();
    let blocked: Vec<Json> = blocked.into_iter().map(|ip| ip.to_string().into()).collect();
    MiOutcome::Done(json!({"IPs": blocked}))
}

fn remove(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = call.cx.node.module::<Pike>(call.cx.slot) else {
        return MiOutcome::failed(500, "pike is not there");
    };
    let text = call.text("ip").unwrap_or_default();
    let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return MiOutcome::failed(500, "Bad IP");
    };
    let found = state.table.lock().free(ip.to_canonical());
    match found {
        None => MiOutcome::failed(404, "Match not found"),
        Some(false) => MiOutcome::failed(400, "IP not blocked"),
        Some(true) => {
            call.cx.log(state.level, format!("pike: {ip} is free again"));
            MiOutcome::ok()
        }
    }
}
