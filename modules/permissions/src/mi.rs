//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::cached::Part;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::table::mi_text;

use crate::address::{Addresses, Entry};
use crate::allow::plain;
use crate::files::{Answer, Asking, By, verdict};
use crate::state::Permissions;

/// The longest text that the commands take.
const TEXT_BYTES_MAX: usize = 512;

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "permissions:address_reload",
        old_names: &["address_reload"],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "Reads the tables of addresses, or one, again.",
        run: reload,
    },
    MiDef {
        name: "permissions:address_dump",
        old_names: &["address_dump"],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "Lists the addresses in memory.",
        run: |call| dump(call, Entry::is_host),
    },
    MiDef {
        name: "permissions:subnet_dump",
        old_names: &["subnet_dump"],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "Lists the subnets in memory.",
        run: |call| dump(call, |entry| !entry.is_host()),
    },
    MiDef {
        name: "permissions:allow_uri",
        old_names: &["allow_uri"],
        param_sets: &[&[mi_text("basename"), mi_text("uri"), mi_text("contact")]],
        help: "Whether the files of a basename let a URI use a contact.",
        run: allow_uri,
    },
];

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(500, "Failed to reolad") };
    let partition = call.text("partition");
    if partition.as_deref().is_some_and(|name| state.partitions.part(name).is_none()) {
        return MiOutcome::failed(404, "No such partition");
    }
    let request = call.request;
    state.partitions.reload(call.cx, request, partition.as_deref())
}

fn dump(call: &mut MiCall<'_, '_>, wanted: fn(&Entry) -> bool) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(404, "No such partition") };
    let rows = |part: &Part<Addresses>| -> Json {
        part.table().iter().filter(|entry| wanted(entry)).map(row).collect()
    };
    match call.text("partition") {
        Some(name) => match state.partitions.part(&name) {
            Some(part) => MiOutcome::Done(json!({"part": name, "Destinations": rows(part)})),
            None => MiOutcome::failed(404, "No such partition"),
        },
        None => {
            let parts = state.partitions.parts().iter();
            let all = parts.map(|part| json!({"name": part.name, "Destinations": rows(part)}));
            MiOutcome::Done(json!({"Partitions": all.collect::<Vec<_>>()}))
        }
    }
}

fn row(entry: &Entry) -> Json {
    json!({
        "grp": entry.group,
        "ip": entry.ip.to_string(),
        "mask": entry.mask().to_string(),
        "port": entry.port,
        "proto": entry.proto,
        "pattern": entry.pattern,
        "context_info": entry.info,
    })
}

fn allow_uri(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let [basename, uri, contact] = ["basename", "uri", "contact"].map(|name| call.text(name));
    let (basename, uri, contact) =
        (basename.unwrap_or_default(), uri.unwrap_or_default(), contact.unwrap_or_default());
    if basename.is_empty() {
        return MiOutcome::failed(404, "Basename is empty");
    }
    for (text, what) in [(&basename, "Basename"), (&uri, "URI"), (&contact, "Contact")] {
        if text.len() > TEXT_BYTES_MAX {
            return MiOutcome::failed(404, format!("{what} is too long"));
        }
    }
    let Some(state) = state(call) else { return MiOutcome::failed(403, "Forbidden") };
    let (Some(who), Some(what)) = (plain(uri.as_bytes()), plain(contact.as_bytes())) else {
        return MiOutcome::failed(403, "Forbidden");
    };
    let names = state.params.names(&basename);
    let by = By::Command(call.request);
    let asking = Asking { who: who.clone(), what: vec![what.clone()], by };
    let answer = state.files.lock().ask(&names, Some(asking));
    match answer {
        Answer::There(pair) => match verdict(pair.lets(&who, &what)) {
            Ok(ok) => MiOutcome::Done(ok),
            Err(error) => MiOutcome::Failed(error),
        },
        Answer::Later(fresh) => {
            if let Some(at) = fresh {
                Permissions::read_pair(call.cx, &names, at);
            }
            MiOutcome::Later
        }
        Answer::Full => MiOutcome::failed(403, "Forbidden"),
    }
}

fn state(call: &MiCall<'_, '_>) -> Option<Arc<Permissions>> {
    call.cx.node.module::<Permissions>(call.cx.slot)
}
