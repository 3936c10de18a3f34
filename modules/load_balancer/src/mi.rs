//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::date;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::table::{mi_int, mi_text};

use crate::load::load;
use crate::state::LoadBalancer;
use crate::table::Destination;
use crate::targets::HELD;

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "load_balancer:reload",
        old_names: &["lb_reload"],
        param_sets: &[&[]],
        help: "Reads the destinations again; states and calls stay.",
        run: reload,
    },
    MiDef {
        name: "load_balancer:resize",
        old_names: &["lb_resize"],
        param_sets: &[&[mi_int("destination_id"), mi_text("res_name"), mi_int("new_capacity")]],
        help: "Sets the size of a resource, until the next reload.",
        run: resize,
    },
    MiDef {
        name: "load_balancer:list",
        old_names: &["lb_list"],
        param_sets: &[&[]],
        help: "The destinations with their resources, sizes and loads.",
        run: list,
    },
    MiDef {
        name: "load_balancer:refused",
        old_names: &[],
        param_sets: &[&[]],
        help: "What was read last: how many rows, and which were refused, with the reason.",
        run: refused,
    },
    MiDef {
        name: "load_balancer:status",
        old_names: &["lb_status"],
        param_sets: &[
            &[mi_int("destination_id")],
            &[mi_int("destination_id"), mi_int("new_status")],
        ],
        help: "Whether a destination is enabled; with a status, disables (0) or enables it (1).",
        run: status,
    },
];

type Found = (Arc<LoadBalancer>, Arc<Destination>);

fn state(call: &MiCall<'_, '_>) -> Result<Arc<LoadBalancer>, MiOutcome> {
    let state = call.cx.node.module::<LoadBalancer>(call.cx.slot);
    state.ok_or_else(|| MiOutcome::failed(500, "Internal error"))
}

fn named(call: &MiCall<'_, '_>) -> Result<Found, MiOutcome> {
    let state = state(call)?;
    let id = call.int("destination_id").unwrap_or(-1);
    let of = state.table().by_id(id).cloned();
    let of = of.ok_or_else(|| MiOutcome::failed(404, "Destination ID not found"))?;
    Ok((state, of))
}

fn settled(result: Result<MiOutcome, MiOutcome>) -> MiOutcome {
    result.unwrap_or_else(|failed| failed)
}

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).map(|state| state.tables.reload(call.cx, call.request, None)))
}

fn resize(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(named(call).and_then(|(_, of)| {
        let name = call.text("res_name").unwrap_or_default();
        let resource = of.resource(name.trim());
        let resource =
            resource.ok_or_else(|| MiOutcome::failed(404, "Destination has no such resource"))?;
        let size = call.int("new_capacity").and_then(|size| u32::try_from(size).ok());
        let size =
            size.ok_or_else(|| MiOutcome::failed(400, "Invalid parameter: 'new_capacity'"))?;
        resource.resize(size);
        Ok(MiOutcome::ok())
    }))
}

fn yes_no(of: &Destination) -> &'static str {
    if of.status.is_up() { "yes" } else { "no" }
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).map(|state| {
        let table = state.table();
        let all: Vec<Json> = table.all().iter().map(|of| row(&state, of)).collect();
        MiOutcome::Done(json!({"Destinations": all}))
    }))
}

fn refused(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(state(call).map(|state| {
        let table = state.table();
        MiOutcome::Done(json!({
            "Date": date::ctime(table.unix_s),
            "Destinations": table.all().len(),
            "Refused": table.faults.refused,
            "Taken in part": table.faults.in_part,
            "Rows": table.faults.rows(),
        }))
    }))
}

fn row(state: &LoadBalancer, of: &Destination) -> Json {
    let one = |resource: &crate::table::Resource| {
        json!({
            "name": resource.name,
            "max": resource.max(),
            "load": load(&state.dialogs, of, &resource.name),
        })
    };
    let resources: Vec<Json> = of.resources.iter().map(one).collect();
    let mut row = json!({
        "uri": String::from_utf8_lossy(&of.uri),
        "id": of.id,
        "group": of.group,
        "enabled": yes_no(of),
        "auto-reenable": if of.status.bits() & HELD == 0 { "on" } else { "off" },
        "Resources": resources,
    });
    if !of.attrs.is_empty() {
        row["attrs"] = of.attrs.as_str().into();
    }
    row
}

fn status(call: &mut MiCall<'_, '_>) -> MiOutcome {
    settled(named(call).map(|(state, of)| match call.int("new_status") {
        Some(on) => {
            state.switch(call.cx, &of, on != 0);
            MiOutcome::ok()
        }
        None => {
            let mut answer = json!({"enable": yes_no(&of)});
            if !of.attrs.is_empty() {
                answer["attrs"] = of.attrs.as_str().into();
            }
            MiOutcome::Done(answer)
        }
    }))
}
