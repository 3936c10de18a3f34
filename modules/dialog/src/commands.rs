//! What the management commands do.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiOutcome, RpcError};

use crate::change::Change;
use crate::ending::HungUp;
use crate::id::DialogId;
use crate::params::check_lines;
use crate::profiles::membership;
use crate::record::{EndReason, Marker, Text, Val};
use crate::state::Dialogs;

fn state(call: &MiCall<'_, '_>) -> Result<Arc<Dialogs>, MiOutcome> {
    call.cx.node.module::<Dialogs>(call.cx.slot).ok_or_else(|| fail(500, "Internal error"))
}

fn fail(code: i64, text: &str) -> MiOutcome {
    MiOutcome::failed(code, text)
}

/// The outcome of a command either way.
fn outcome(result: Result<MiOutcome, MiOutcome>) -> MiOutcome {
    result.unwrap_or_else(|failed| failed)
}

pub(crate) fn list(call: &mut MiCall<'_, '_>, context: bool) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| listed(call, &dialogs, context)))
}

fn listed(
    call: &mut MiCall<'_, '_>,
    dialogs: &Dialogs,
    context: bool,
) -> Result<MiOutcome, MiOutcome> {
    let show = |id: DialogId| shown(call, dialogs, id, context);
    if let Some(call_id) = call.text("callid") {
        let tag = call.text("from_tag");
        let fits = |id: &DialogId| {
            tag.as_ref().is_none_or(|tag| {
                dialogs.read(*id, |d| *d.caller.tag == *tag.as_bytes()) == Some(true)
            })
        };
        let ids = dialogs.table.of_call(call_id.as_bytes());
        let ended = |id: &DialogId| dialogs.read(*id, |d| !d.state.is_alive());
        let mut ids: Vec<DialogId> = ids.into_iter().filter(fits).collect();
        ids.sort_by_key(ended);
        let entry = ids.into_iter().find_map(show);
        let entry = entry.ok_or_else(|| fail(404, "No such dialog"))?;
        return Ok(MiOutcome::Done(json!({ "Dialog": entry })));
    }
    let mut ids = dialogs.table.ids();
    ids.retain(|id| dialogs.table.read(*id, |e| e.local.is_listed(call.cx.now)) == Some(true));
    let Some((index, counter)) = call.int("index").zip(call.int("counter")) else {
        let all: Vec<Json> = ids.into_iter().filter_map(show).collect();
        return Ok(MiOutcome::Done(json!({ "Dialogs": all })));
    };
    let wrong = |_| MiOutcome::Failed(RpcError::invalid_params("index and counter count up"));
    let index = usize::try_from(index).map_err(wrong)?;
    let counter = usize::try_from(counter).map_err(wrong)?;
    let count = ids.len();
    let page: Vec<Json> = ids.into_iter().skip(index).take(counter).filter_map(show).collect();
    Ok(MiOutcome::Done(json!({ "count": count, "Dialogs": page })))
}

/// The entry of a dialog that is still listed.
fn shown(call: &MiCall<'_, '_>, dialogs: &Dialogs, id: DialogId, context: bool) -> Option<Json> {
    let now = call.cx.now;
    let record = dialogs.table.read(id, |e| e.local.is_listed(now).then(|| e.dialog.clone()));
    record.flatten().map(|d| dialogs.entry(call.cx.node, &d, context))
}

pub(crate) fn end_dlg(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let name = call.text("dialog_id").unwrap_or_default();
        let extra = call.text("extra_hdrs").unwrap_or_default();
        let found = dialogs.named(&name);
        let id = found.filter(|id| dialogs.read(*id, |d| d.state.is_alive()) == Some(true));
        let id = id.ok_or_else(|| fail(404, "Requested Dialog not found"))?;
        if check_lines(&extra).is_err() {
            return Err(fail(403, "Operation failed"));
        }
        if dialogs.read(id, |d| dialogs.may_edit(call.cx.node, d)) == Some(false) {
            return Err(fail(403, "Node is backup for requested dialog"));
        }
        match dialogs.hang_up(call.cx, id, EndReason::Command, extra.as_bytes()) {
            HungUp::Nothing => Err(fail(403, "Operation failed")),
            HungUp::Byes | HungUp::Cancelled => Ok(MiOutcome::ok()),
        }
    }))
}

pub(crate) fn push_var(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let name: Text = call.text("dlg_val_name").unwrap_or_default().into_bytes().into();
        let value = call.text("dlg_val_value").unwrap_or_default();
        let names: Vec<String> = call
            .array("DID")
            .unwrap_or_default()
            .iter()
            .filter_map(|did| did.as_str().map(str::to_owned))
            .collect();
        let mut ids = Vec::with_capacity(names.len());
        for did in &names {
            let id = dialogs.named(did).ok_or_else(|| fail(404, "Requested Dialog not found"))?;
            if dialogs.read(id, |d| dialogs.may_edit(call.cx.node, d)) == Some(false) {
                return Err(fail(403, "Node is backup for requested dialog"));
            }
            ids.push(id);
        }
        if ids.is_empty() {
            return Err(fail(404, "Requested Dialog not found"));
        }
        for id in ids {
            let value = Some(Val::Str(value.as_bytes().into()));
            let change = Change::Value { name: name.clone(), value };
            dialogs.change(call.cx, id, change).map_err(|_| fail(403, "Operation failed"))?;
        }
        Ok(MiOutcome::ok())
    }))
}

/// The profile that a command names, and the value if it has any.
fn profile(call: &MiCall<'_, '_>, dialogs: &Dialogs) -> Result<(usize, Option<String>), MiOutcome> {
    let name = call.text("profile").unwrap_or_default();
    let (at, profile) =
        dialogs.profile(name.as_bytes()).ok_or_else(|| fail(404, "Profile not found"))?;
    Ok((at, call.text("value").filter(|_| profile.has_value)))
}

pub(crate) fn profile_get_size(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (at, value) = profile(call, &dialogs)?;
        let size = dialogs.profile_size(call.cx, at, value.as_deref().map(str::as_bytes));
        let defs = dialogs.table.profiles.defs();
        let profile = defs.get(at).ok_or_else(|| fail(404, "Profile not found"))?;
        let yes = |it: bool| if it { "yes" } else { "no" };
        Ok(MiOutcome::Done(json!({ "Profile": {
            "name": profile.name,
            "value": value,
            "count": size,
            "shared": yes(profile.marker == Marker::Cache),
            "replicated": yes(profile.marker == Marker::Bin),
        }})))
    }))
}

pub(crate) fn profile_list_dlgs(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (at, value) = profile(call, &dialogs)?;
        let numbers = dialogs.table.profiles.members(at, value.as_deref().map(str::as_bytes));
        let ids = numbers.into_iter().map(DialogId::from_number);
        let all: Vec<Json> = ids.filter_map(|id| shown(call, &dialogs, id, false)).collect();
        Ok(MiOutcome::Done(json!({ "Dialogs": all })))
    }))
}

pub(crate) fn profile_get_values(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (at, _) = profile(call, &dialogs)?;
        let def = dialogs.table.profiles.defs().get(at);
        if def.is_some_and(|p| p.marker == Marker::Cache) {
            return Err(fail(405, "Unsupported command for shared profiles"));
        }
        let has_value = def.is_some_and(|p| p.has_value);
        let entry = |(value, count): (Text, usize)| {
            let value = has_value.then(|| String::from_utf8_lossy(&value).into_owned());
            json!({ "value": value, "count": count })
        };
        let all: Vec<Json> = dialogs.profile_values(call.cx, at).into_iter().map(entry).collect();
        Ok(MiOutcome::Done(Json::from(all)))
    }))
}

pub(crate) fn list_all_profiles(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).map(|dialogs| {
        let defs = dialogs.table.profiles.defs().iter();
        let all: Vec<Json> =
            defs.map(|p| json!({ "name": p.name, "has value": p.has_value })).collect();
        MiOutcome::Done(json!({ "Profiles": all }))
    }))
}

pub(crate) fn profile_end_dlgs(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (at, value) = profile(call, &dialogs)?;
        let numbers = dialogs.table.profiles.members(at, value.as_deref().map(str::as_bytes));
        for id in numbers.into_iter().map(DialogId::from_number) {
            if dialogs.read(id, |d| dialogs.may_edit(call.cx.node, d)) == Some(true) {
                dialogs.hang_up(call.cx, id, EndReason::Command, b"");
            }
        }
        Ok(MiOutcome::ok())
    }))
}

/// The dialog whose profiles an operator changes, and the change.
fn edited(call: &MiCall<'_, '_>, dialogs: &Dialogs) -> Result<(DialogId, usize), MiOutcome> {
    let name = call.text("dlg_id").unwrap_or_default();
    let found = dialogs.named(&name);
    let id = found.filter(|id| dialogs.read(*id, |d| d.state.is_alive()) == Some(true));
    let id = id.ok_or_else(|| fail(404, "Dialog Not Found"))?;
    if dialogs.read(id, |d| dialogs.may_edit(call.cx.node, d)) == Some(false) {
        return Err(fail(403, "Editing Backup"));
    }
    let profile = call.text("profile").unwrap_or_default();
    let found = dialogs.profile(profile.as_bytes()).map(|(at, _)| at);
    Ok((id, found.ok_or_else(|| fail(400, "Bad param"))?))
}

pub(crate) fn set_profile(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (id, at) = edited(call, &dialogs)?;
        let defs = dialogs.table.profiles.defs();
        let profile = defs.get(at).ok_or_else(|| fail(400, "Bad param"))?;
        let value = call.text("value");
        let membership = membership(profile, value.as_deref().map(str::as_bytes))
            .map_err(|_| fail(400, "Bad param"))?;
        let alone = call.int("clear_values").is_some_and(|n| n != 0);
        let change = Change::Join { membership, alone };
        dialogs.change(call.cx, id, change).map_err(|_| fail(403, "Dialog Error"))?;
        Ok(MiOutcome::ok())
    }))
}

pub(crate) fn unset_profile(call: &mut MiCall<'_, '_>) -> MiOutcome {
    outcome(state(call).and_then(|dialogs| {
        let (id, at) = edited(call, &dialogs)?;
        let defs = dialogs.table.profiles.defs();
        let profile = defs.get(at).ok_or_else(|| fail(400, "Bad param"))?;
        let value = call.text("value").filter(|_| profile.has_value);
        let value = value.map(|value| Text::from(value.into_bytes()));
        let (name, marker) = (profile.name.as_bytes().into(), profile.marker);
        let done = dialogs.change(call.cx, id, Change::Leave { name, marker, value });
        match done {
            Ok(done) if done.changed => Ok(MiOutcome::ok()),
            _ => Err(fail(403, "Dialog Error")),
        }
    }))
}
