//! Functions that look at other dialogs.

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;

use crate::id::DialogId;
use crate::record::{Dialog, State, Val};
use crate::state::Dialogs;
use crate::table::SHARDS;
use crate::values::{NO, OK, val_of};

/// Dialogs that one call gives out, at most.
const FOUND_MAX: usize = 1_000;

/// What a look at every living dialog finds, and how many fitted in all.
fn collect<R>(dialogs: &Dialogs, mut look: impl FnMut(&Dialog) -> Option<R>) -> (Vec<R>, usize) {
    let (mut found, mut count) = (Vec::new(), 0);
    for id in (0..SHARDS).flat_map(|shard| dialogs.table.shard_ids(shard)) {
        let seen = dialogs.read(id, |d| if d.state == State::Deleted { None } else { look(d) });
        if let Some(seen) = seen.flatten() {
            count += 1;
            if found.len() < FOUND_MAX {
                found.push(seen);
            }
        }
    }
    (found, count)
}

/// Writes values to a list variable, the first one on top, and their number to another.
fn give(
    call: &mut Call<'_, '_, '_>,
    (list, number): (usize, usize),
    values: Vec<Value>,
    count: usize,
) -> Called {
    let found = count > 0;
    let mut result = Ok(());
    for value in values.into_iter().rev() {
        result = result.and(call.set_var(list, value));
    }
    let count = Value::Int(i32::try_from(count).unwrap_or(i32::MAX));
    match result.and(call.set_var(number, count)) {
        Ok(()) if found => OK,
        Ok(()) => NO,
        Err(why) => {
            let text = format!("{}: {why}", call.site.name);
            call.complain(Level::Error, text)
        }
    }
}

fn fits(d: &Dialog, name: &[u8], wanted: Option<&Val>) -> bool {
    match (d.value(name), wanted) {
        (Some(Val::Int(a)), Some(Val::Str(b))) => a.to_string().as_bytes() == &**b,
        (Some(Val::Str(a)), Some(Val::Int(b))) => b.to_string().as_bytes() == &**a,
        (found, wanted) => found.is_some() && found == wanted,
    }
}

/// `get_dialog_info(attr, avp, key, key_val, no_dlgs)`
pub(crate) fn get_dialog_info(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let (attr, key) = (call.text(0), call.text(2));
    let wanted = val_of(call.get_var(3));
    let (found, count) = collect(&dialogs, |d| {
        fits(d, &key, wanted.as_ref()).then(|| d.value(&attr).map(Value::from))
    });
    give(call, (1, 4), found.into_iter().flatten().collect(), count)
}

/// `get_dialog_vals(names, vals, callid)`
pub(crate) fn get_dialog_vals(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let call_id = call.text(2);
    let mut all = dialogs.table.of_call(&call_id).into_iter();
    let Some(values) = all.find_map(|id| {
        dialogs.read(id, |d| d.state.is_alive().then(|| d.values.clone())).flatten()
    }) else {
        return NO;
    };
    let mut result = Ok(());
    for (name, value) in values.iter().rev() {
        let name = Value::str(name.to_vec());
        result = result.and(call.set_var(0, name)).and(call.set_var(1, Value::from(value)));
    }
    match result {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, format!("get_dialog_vals: {why}")),
    }
}

/// Dialogs as `dialog:list_ctx` shows them.
fn shown(call: &Call<'_, '_, '_>, dialogs: &Dialogs, ids: &[DialogId]) -> Vec<Value> {
    let records = ids.iter().filter_map(|id| dialogs.read(*id, Dialog::clone));
    records.map(|d| Value::str(dialogs.entry(call.cx.node, &d, true).to_string())).collect()
}

/// `get_dialogs_by_val(name, value, out_avp, no_dlgs)`
pub(crate) fn get_dialogs_by_val(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let name = call.text(0);
    let wanted = val_of(call.get_var(1));
    let (ids, count) = collect(&dialogs, |d| fits(d, &name, wanted.as_ref()).then_some(d.id));
    let found = shown(call, &dialogs, &ids);
    give(call, (2, 3), found, count)
}

/// `get_dialogs_by_profile(name, [value], out_avp, no_dlgs)`
pub(crate) fn get_dialogs_by_profile(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let name = call.text(0);
    let Some((at, profile)) = dialogs.profile(&name) else {
        let name = String::from_utf8_lossy(&name).into_owned();
        let text = format!("get_dialogs_by_profile: there is no profile \"{name}\"");
        return call.complain(Level::Error, text);
    };
    let value = (profile.has_value && call.given(1)).then(|| call.text(1));
    let numbers = dialogs.table.profiles.members(at, value.as_deref());
    let count = numbers.len();
    let ids: Vec<DialogId> =
        numbers.into_iter().take(FOUND_MAX).map(DialogId::from_number).collect();
    let found = shown(call, &dialogs, &ids);
    give(call, (2, 3), found, count)
}
