//! Management commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use tandem_engine::date;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::table::{mi_int, mi_text};
use tandem_targets::Origin;

use crate::functions::push_attrs;
use crate::sets::{Destination, Sets, state_text};
use crate::state::{Dispatcher, Part};
use crate::targets::Wish;

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "dispatcher:set_state",
        old_names: &["ds_set_state"],
        param_sets: &[&[mi_text("state"), mi_text("group"), mi_text("address")]],
        help: "Makes a destination active (a), inactive (i) or probing (p); the group may be \
               written partition:set.",
        run: set_state,
    },
    MiDef {
        name: "dispatcher:list",
        old_names: &["ds_list"],
        param_sets: &[
            &[],
            &[mi_text("partition")],
            &[mi_int("full")],
            &[mi_int("full"), mi_text("partition")],
        ],
        help: "The sets with their destinations; full: with weights and what else there is.",
        run: list,
    },
    MiDef {
        name: "dispatcher:reload",
        old_names: &["ds_reload"],
        param_sets: &[
            &[],
            &[mi_int("inherit_state")],
            &[mi_text("partition")],
            &[mi_text("partition"), mi_int("inherit_state")],
        ],
        help: "Reads the tables, or one, again; inherit_state 0 takes the states of the table.",
        run: reload,
    },
    MiDef {
        name: "dispatcher:refused",
        old_names: &[],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "What was read last: how many rows, and which were refused or taken in part, with \
               the reason.",
        run: refused,
    },
    MiDef {
        name: "dispatcher:push_script_attrs",
        old_names: &["ds_push_script_attrs"],
        param_sets: &[
            &[mi_text("attrs"), mi_text("ip"), mi_int("port"), mi_int("set")],
            &[mi_text("attrs"), mi_text("ip"), mi_int("port"), mi_int("set"), mi_text("partition")],
        ],
        help: "Sets the attributes of the script of a destination.",
        run: push,
    },
];

const UNKNOWN: &str = "ERROR Unknown partition";

fn state(call: &MiCall<'_, '_>) -> Result<Arc<Dispatcher>, MiOutcome> {
    let state = call.cx.node.module::<Dispatcher>(call.cx.slot);
    state.ok_or_else(|| MiOutcome::failed(500, "Internal error"))
}

fn settled(result: Result<MiOutcome, MiOutcome>) -> MiOutcome {
    result.unwrap_or_else(|failed| failed)
}

fn set_state(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let failed = MiOutcome::failed;
        let wanted = call.text("state").unwrap_or_default();
        let wish = match wanted.to_ascii_lowercase().as_str() {
            "a" | "1" => Wish::Active,
            "i" | "0" => Wish::Inactive,
            "p" | "2" => Wish::Probing,
            _ => return Err(failed(500, "Bad state value")),
        };
        let group = call.text("group").unwrap_or_default();
        if group.is_empty() {
            return Err(failed(500, "group not found"));
        }
        let (partition, set) = match group.split_once(':') {
            Some((partition, set)) => (Some(partition.trim()), set),
            None => (None, group.as_str()),
        };
        let set: i64 = set.trim().parse().map_err(|_| failed(500, "bad group value"))?;
        let (part, sets) = state.part(partition).ok_or_else(|| failed(404, UNKNOWN))?;
        let address = call.text("address").unwrap_or_default();
        if address.is_empty() {
            return Err(failed(500, "address not found"));
        }
        let found = sets.find(set, address.as_bytes());
        let found = found.ok_or_else(|| failed(404, "destination not found"))?;
        state.wish(call.cx, &part, found, wish, Origin::Command("MI command"));
        Ok(MiOutcome::ok())
    }))
}

/// The partition that a command names, or all.
fn parts(call: &MiCall<'_, '_>, state: &Dispatcher) -> Result<Vec<Arc<Part>>, MiOutcome> {
    let Some(name) = call.text("partition") else { return Ok(state.parts().to_vec()) };
    let found = state.part(Some(&name));
    Ok(vec![found.ok_or_else(|| MiOutcome::failed(500, UNKNOWN))?.0])
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let full = call.int("full").is_some_and(|full| full != 0);
        let parts = parts(call, &state)?;
        let parts = parts.iter().map(|part| {
            let sets = sets(&state.sets(part), full);
            json!({"name": part.name, "SETS": sets})
        });
        Ok(MiOutcome::Done(json!({"PARTITIONS": parts.collect::<Vec<Json>>()})))
    }))
}

fn refused(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let parts = parts(call, &state)?;
        let parts = parts.iter().map(|part| {
            let sets = state.sets(part);
            json!({
                "Partition": part.name,
                "Date": date::ctime(sets.unix_s),
                "Sets": sets.sets().count(),
                "Destinations": sets.all().count(),
                "Refused": sets.faults.refused,
                "Taken in part": sets.faults.in_part,
                "Rows": sets.faults.rows(),
            })
        });
        Ok(MiOutcome::Done(json!({"PARTITIONS": parts.collect::<Vec<Json>>()})))
    }))
}

fn sets(sets: &Sets, full: bool) -> Vec<Json> {
    let one = |(id, set): (i64, &[Arc<Destination>])| {
        let all: Vec<Json> = set.iter().map(|of| row(of, full)).collect();
        json!({"id": id, "Destinations": all})
    };
    sets.sets().map(one).collect()
}

fn row(of: &Destination, full: bool) -> Json {
    let mut row = json!({
        "URI": String::from_utf8_lossy(&of.uri),
        "state": state_text(of.status.bits()),
        "first_hit_counter": of.memory.hits.load(Ordering::Relaxed),
    });
    if !of.socket_text.is_empty() {
        row["socket"] = of.socket_text.as_str().into();
    }
    if !of.attrs.is_empty() {
        row["attr"] = of.attrs.as_str().into();
    }
    let script = of.memory.script_attrs.read();
    if !script.is_empty() {
        row["script_attr"] = script.as_str().into();
    }
    if full {
        row["weight"] = of.weight.get().into();
        row["priority"] = of.priority.into();
        if !of.description.is_empty() {
            row["description"] = of.description.as_str().into();
        }
        let ips = of.ips.read().iter().map(|ip| Json::from(ip.to_string())).collect::<Vec<_>>();
        row["resolved_addresses"] = ips.into();
    }
    row
}

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let name = call.text("partition");
        if name.as_deref().is_some_and(|name| state.part(Some(name)).is_none()) {
            return Err(MiOutcome::failed(500, UNKNOWN));
        }
        let inherits = call.int("inherit_state").unwrap_or(1) != 0;
        state.inherits.store(inherits, Ordering::Relaxed);
        Ok(state.tables.reload(call.cx, call.request, name.as_deref()))
    }))
}

fn push(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).and_then(|state| {
        let failed = MiOutcome::failed;
        let attrs = call.text("attrs").ok_or_else(|| failed(500, "Bad attrs value"))?;
        let ip = call.text("ip").and_then(|ip| ip.trim().parse().ok());
        let ip = ip.ok_or_else(|| failed(500, "ip not found"))?;
        let name = call.text("partition");
        let (_, sets) = state.part(name.as_deref()).ok_or_else(|| failed(404, UNKNOWN))?;
        let port = call.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        match push_attrs(&sets, &attrs, ip, port, call.int("set").unwrap_or(-1)) {
            0 => Err(failed(404, "destination not found")),
            _ => Ok(MiOutcome::ok()),
        }
    }))
}
