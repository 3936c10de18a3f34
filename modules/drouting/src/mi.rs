//! Management commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use tandem_engine::date;
use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use tandem_engine::table::{mi_int, mi_text};
use tandem_targets::Becomes;

use crate::destinations::Target;
use crate::explain;
use crate::state::Drouting;
use crate::status::{DISABLED, HELD, Kind, OFF};
use crate::table::{Partition, Table};
use crate::targets::state_text;

pub(crate) const fn text(name: &'static str) -> MiParam {
    MiParam { name, kind: MiKind::NamedStr }
}

pub(crate) const fn int(name: &'static str) -> MiParam {
    MiParam { name, kind: MiKind::NamedInt }
}

pub(crate) const PARTITION: MiParam = text("partition_name");
const INHERIT: MiParam = mi_int("inherit_state");

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "drouting:reload",
        old_names: &["dr_reload"],
        param_sets: &[
            &[],
            &[INHERIT],
            &[mi_text("partition_name")],
            &[mi_text("partition_name"), INHERIT],
        ],
        help: "Reads the tables, or those of a partition, again; inherit_state 0 takes the states \
               of the tables, too.",
        run: reload,
    },
    MiDef {
        name: "drouting:gw_status",
        old_names: &["dr_gw_status"],
        param_sets: &[
            &[],
            &[PARTITION],
            &[text("gw_id")],
            &[text("gw_id"), int("status")],
            &[PARTITION, text("gw_id")],
            &[PARTITION, text("gw_id"), int("status")],
        ],
        help: "The gateways, or one; with a status, takes it out of service (0) or puts it in (1).",
        run: gateway_status,
    },
    MiDef {
        name: "drouting:carrier_status",
        old_names: &["dr_carrier_status"],
        param_sets: &[
            &[],
            &[PARTITION],
            &[text("carrier_id")],
            &[text("carrier_id"), int("status")],
            &[PARTITION, text("carrier_id")],
            &[PARTITION, text("carrier_id"), int("status")],
        ],
        help: "The same for carriers.",
        run: carrier_status,
    },
    MiDef {
        name: "drouting:number_routing",
        old_names: &["dr_number_routing"],
        param_sets: &[
            &[text("number")],
            &[int("group_id"), text("number")],
            &[PARTITION, text("number")],
            &[PARTITION, int("group_id"), text("number")],
        ],
        help: "Where a number would go: the prefix, the list and the attributes of its rule.",
        run: number_routing,
    },
    MiDef {
        name: "drouting:reload_status",
        old_names: &["dr_reload_status"],
        param_sets: &[&[], &[mi_text("partition_name")]],
        help: "When the tables were read last.",
        run: reload_status,
    },
    MiDef {
        name: "drouting:enable_probing",
        old_names: &["dr_enable_probing"],
        param_sets: &[&[], &[mi_int("status")]],
        help: "Reads or sets whether gateways are probed.",
        run: enable_probing,
    },
    MiDef {
        name: "drouting:explain",
        old_names: &[],
        param_sets: explain::PARAMS,
        help: "Which rule, carrier and gateway a number takes, step by step, and why others are \
               passed over; `time` is 2026-12-24T18:00 (UTC), with an offset, or Unix seconds.",
        run: explain::explain,
    },
    MiDef {
        name: "drouting:refused",
        old_names: &[],
        param_sets: &[&[], &[mi_text("partition_name")]],
        help: "What was read last: how many rows, and which were refused or taken in part, with \
               the reason.",
        run: explain::refused,
    },
];

fn state(call: &MiCall<'_, '_>) -> Result<Arc<Drouting>, MiOutcome> {
    let state = call.cx.node.module::<Drouting>(call.cx.slot);
    state.ok_or_else(|| MiOutcome::failed(500, "Internal error"))
}

/// The partition that a command is about.
fn part(call: &MiCall<'_, '_>, state: &Drouting) -> Result<Arc<Partition>, MiOutcome> {
    match call.text("partition_name") {
        Some(name) if name.is_empty() => {
            Err(MiOutcome::failed(400, "Invalid parameter: 'partition_name'"))
        }
        Some(name) => {
            state.part(&name).ok_or_else(|| MiOutcome::failed(404, "Partition not found"))
        }
        None if state.uses_partitions() => {
            Err(MiOutcome::failed(400, "Missing parameter: 'partition_name'"))
        }
        None => {
            let only = state.parts().first().cloned();
            only.ok_or_else(|| MiOutcome::failed(404, "Partition not found"))
        }
    }
}

pub(crate) fn settled(result: Result<MiOutcome, MiOutcome>) -> MiOutcome {
    result.unwrap_or_else(|failed| failed)
}

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let parts = match call.text("partition_name") {
            Some(_) => vec![part(call, &state)?],
            None => state.parts(),
        };
        let inherit = call.int("inherit_state").unwrap_or(1) != 0;
        Ok(state.reload(call.cx, call.request, parts, inherit))
    }))
}

pub(crate) type Loaded = (Arc<Drouting>, Arc<Partition>, Arc<Table>);

/// The partition and its tables, once they are there.
pub(crate) fn loaded(call: &MiCall<'_, '_>) -> Result<Loaded, MiOutcome> {
    let state = state(call)?;
    let part = part(call, &state)?;
    let table = part.table();
    if table.loaded.unix_s == 0 {
        return Err(MiOutcome::failed(404, "No Data available yet"));
    }
    Ok((state, part, table))
}

fn gateway_status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(loaded(call).and_then(|(state, part, table)| {
        let Some(id) = call.text("gw_id") else {
            let gateways = table.of.gateways.iter().map(|gateway| {
                let state = state_text(gateway.status.bits(), gateway.probe_mode);
                let (id, ip) = (&*gateway.id, gateway.ip_text());
                json!({"ID": id, "IP": ip, "ATTRS": gateway.attrs, "State": state})
            });
            return Ok(MiOutcome::Done(json!({"Gateways": gateways.collect::<Vec<Json>>()})));
        };
        let found = table.of.gateway(&id);
        let (_, gateway) = found.ok_or_else(|| MiOutcome::failed(404, "GW ID not found"))?;
        let bits = match call.int("status") {
            None => {
                let state = state_text(gateway.status.bits(), gateway.probe_mode);
                return Ok(MiOutcome::Done(json!({"ATTRS": gateway.attrs, "State": state})));
            }
            Some(0) => DISABLED | HELD,
            Some(1) => 0,
            Some(2) => DISABLED,
            Some(_) => return Err(MiOutcome::failed(400, "Invalid parameter: 'status'")),
        };
        let becomes = Becomes::Exactly(bits);
        state.change(call.cx, &part, (Kind::Gateway, &id), becomes, "MI command");
        Ok(MiOutcome::ok())
    }))
}

fn carrier_status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(loaded(call).and_then(|(state, part, table)| {
        let enabled = |up: bool| if up { "yes" } else { "no" };
        let Some(id) = call.text("carrier_id") else {
            let carriers = table.of.carriers.iter().map(|carrier| {
                let up = enabled(carrier.status.is_up());
                json!({"ID": &*carrier.id, "ATTRS": carrier.attrs, "Enabled": up})
            });
            return Ok(MiOutcome::Done(json!({"Carriers": carriers.collect::<Vec<Json>>()})));
        };
        let found = table.of.carrier(&id);
        let (_, carrier) = found.ok_or_else(|| MiOutcome::failed(404, "Carrier ID not found"))?;
        let bits = match call.int("status") {
            None => {
                let up = enabled(carrier.status.is_up());
                return Ok(MiOutcome::Done(json!({"ATTRS": carrier.attrs, "Enabled": up})));
            }
            Some(0) => OFF,
            Some(1) => 0,
            Some(_) => return Err(MiOutcome::failed(400, "Invalid parameter: 'status'")),
        };
        let becomes = Becomes::Exactly(bits);
        state.change(call.cx, &part, (Kind::Carrier, &id), becomes, "MI command");
        Ok(MiOutcome::ok())
    }))
}

fn number_routing(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(loaded(call).map(|(state, _, table)| {
        let number = call.text("number").unwrap_or_default();
        let group = call.int("group_id").and_then(|group| u32::try_from(group).ok());
        let group = group.or(state.params.callers.default);
        let at = call.cx.moment();
        let rules = &table.rules;
        let found = group.and_then(|group| {
            let found = rules.find(number.as_bytes(), group, at, false, None)?;
            Some((number.get(..found.place.depth)?, rules.rule(found.rule)?))
        });
        let Some((prefix, rule)) = found else { return MiOutcome::Done(json!("No match")) };
        let list = rule.list.iter().filter_map(|choice| match choice.target {
            Target::Gateway(at) => table.gateway(at).map(|gateway| json!({"GW": &*gateway.id})),
            Target::Carrier(at) => {
                let carrier = table.of.carriers.get(at as usize)?;
                Some(json!({"CARRIER": &*carrier.id}))
            }
        });
        MiOutcome::Done(json!({
            "Matched Prefix": prefix,
            "GW List": list.collect::<Vec<Json>>(),
            "ATTRS": rule.attrs,
        }))
    }))
}

fn reload_status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let node = Arc::clone(call.cx.node);
    let row = |part: &Partition, named: bool| {
        let table = part.table();
        let mut row = json!({});
        if named {
            row["name"] = part.name.as_str().into();
        }
        row["Date"] = date::ctime(node.zone.wall_s(table.loaded.unix_s)).into();
        if let Some(sum) = &table.loaded.sum {
            row["Hash"] = sum.as_str().into();
        }
        row
    };
    settled(state(call).and_then(|state| {
        if state.uses_partitions() && !call.has("partition_name") {
            let rows: Vec<Json> = state.parts().iter().map(|part| row(part, true)).collect();
            return Ok(MiOutcome::Done(json!({"Partitions": rows})));
        }
        Ok(MiOutcome::Done(row(&*part(call, &state)?, state.uses_partitions())))
    }))
}

fn enable_probing(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).map(|state| {
        if state.params.probing.interval_s == 0 {
            return MiOutcome::failed(400, "Gateways probing disabled from script");
        }
        match call.int("status") {
            Some(status) => {
                state.probing.store(status != 0, Ordering::Relaxed);
                MiOutcome::ok()
            }
            None => {
                let on = u8::from(state.probing.load(Ordering::Relaxed));
                MiOutcome::Done(json!({"Status": on}))
            }
        }
    }))
}
