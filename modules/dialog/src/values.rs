//! Values, flags, routes and the tag of a dialog, as scripts write and read them.

use tandem_engine::log::Level;
use tandem_engine::module::{Call, VarCall};
use tandem_script::host::{ArgValue, Assign, Called};
use tandem_script::program::Ready;
use tandem_script::value::Value;

use crate::change::{Change, On};
use crate::id::DialogId;
use crate::record::{TAG_VALUE, Val};
use crate::state::Dialogs;

pub(crate) const OK: Called = Called::Returned(1);
pub(crate) const NO: Called = Called::Returned(-1);

impl From<&Val> for Value {
    fn from(val: &Val) -> Self {
        match val {
            Val::Str(text) => Self::str(text.to_vec()),
            Val::Int(number) => Self::Int(*number),
        }
    }
}

/// What a script's value is in the record; null is none.
pub(crate) fn val_of(value: Value) -> Option<Val> {
    match value {
        Value::Null => None,
        Value::Int(number) => Some(Val::Int(number)),
        Value::Str(text) | Value::Both(_, text) => Some(Val::Str((&text[..]).into())),
    }
}

/// Changes the dialog of the message; complains in the name of the function.
pub(crate) fn change(call: &mut Call<'_, '_, '_>, what: Change) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    match dialogs.change(call.cx, current.id, what) {
        Ok(_) => OK,
        Err(why) => {
            let text = format!("{}: {why}", call.site.name);
            call.complain(Level::Error, text)
        }
    }
}

pub(crate) fn store_dlg_value(call: &mut Call<'_, '_, '_>) -> Called {
    let value = val_of(call.get_var(1));
    let name = (&call.text(0)[..]).into();
    change(call, Change::Value { name, value })
}

pub(crate) fn fetch_dlg_value(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let name = call.text(0);
    let found = dialogs.read(current.id, |d| d.value(&name).map(Value::from)).flatten();
    let Some(value) = found else { return Called::Returned(-2) };
    match call.set_var(1, value) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, format!("fetch_dlg_value: {why}")),
    }
}

/// `$dlg_val(name)`
pub(crate) fn get_value(call: &mut VarCall<'_, '_>) -> Value {
    let Some((dialogs, id)) = here(call) else { return Value::Null };
    let name = call.access.name;
    let found = dialogs.read(id, |d| d.value(name).map(Value::from));
    found.flatten().unwrap_or_default()
}

pub(crate) fn set_value(
    call: &mut VarCall<'_, '_>,
    _how: Assign,
    value: Value,
) -> Result<(), String> {
    let (dialogs, id) = here(call).ok_or("there is no dialog")?;
    let (name, value) = (call.access.name.into(), val_of(value));
    let change = Change::Value { name, value };
    dialogs.change(call.cx, id, change).map(|_| ()).map_err(|why| why.to_string())
}

/// The dialog of the message of a variable.
pub(crate) fn here(call: &VarCall<'_, '_>) -> Option<(std::sync::Arc<Dialogs>, DialogId)> {
    let dialogs = call.state::<Dialogs>()?;
    let id = dialogs.current(call.ctx)?.id;
    Some((dialogs, id))
}

/// The bit of a flag of the script.
fn bit(call: &mut Call<'_, '_, '_>, dialogs: &Dialogs) -> Option<u8> {
    let name = call.text(0);
    let at = dialogs.flag_names.iter().position(|known| known.as_bytes() == name);
    at.and_then(|at| u8::try_from(at).ok())
}

pub(crate) fn set_dlg_flag(call: &mut Call<'_, '_, '_>) -> Called {
    flag(call, true)
}

pub(crate) fn reset_dlg_flag(call: &mut Call<'_, '_, '_>) -> Called {
    flag(call, false)
}

fn flag(call: &mut Call<'_, '_, '_>, on: bool) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    match bit(call, &dialogs) {
        Some(bit) => change(call, Change::UserFlag { bit, on }),
        None => call.complain(Level::Error, "a script has 32 dialog flags at most"),
    }
}

pub(crate) fn is_dlg_flag_set(call: &mut Call<'_, '_, '_>) -> Called {
    match is_set(call) {
        Some((true, _)) => OK,
        _ => NO,
    }
}

/// Whether the flag is set, and its bit.
fn is_set(call: &mut Call<'_, '_, '_>) -> Option<(bool, u8)> {
    let dialogs = call.state::<Dialogs>()?;
    let bit = bit(call, &dialogs)?;
    let id = dialogs.current(call.ctx)?.id;
    let flags = dialogs.read(id, |d| d.user_flags)?;
    Some((flags.checked_shr(u32::from(bit)).unwrap_or(0) & 1 != 0, bit))
}

/// Turns the flag over if it is what it should be.
pub(crate) fn test_and_set_dlg_flag(call: &mut Call<'_, '_, '_>) -> Called {
    let wanted = call.int(1).unwrap_or(0) != 0;
    match is_set(call) {
        Some((now, bit)) if now == wanted => change(call, Change::UserFlag { bit, on: !wanted }),
        _ => NO,
    }
}

/// The names of the flags in a text, as bits.
pub(crate) fn flag_mask(dialogs: &Dialogs, text: &[u8]) -> Result<u32, String> {
    let names = text.split(|b| matches!(b, b' ' | b',')).filter(|name| !name.is_empty());
    names.into_iter().try_fold(0u32, |mask, name| {
        let at = dialogs.flag_names.iter().position(|known| known.as_bytes() == name);
        let at = at.ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            format!("no function of the script names a dialog flag `{name}`")
        })?;
        Ok(mask | 1u32.checked_shl(at as u32).unwrap_or(0))
    })
}

pub(crate) fn dlg_on_answer(call: &mut Call<'_, '_, '_>) -> Called {
    arm(call, On::Answer)
}

pub(crate) fn dlg_on_timeout(call: &mut Call<'_, '_, '_>) -> Called {
    arm(call, On::Timeout)
}

pub(crate) fn dlg_on_hangup(call: &mut Call<'_, '_, '_>) -> Called {
    arm(call, On::Hangup)
}

/// Without a route the one that was there is taken away.
fn arm(call: &mut Call<'_, '_, '_>, on: On) -> Called {
    let name = match call.args.first() {
        Some(ArgValue::Ready(Ready::Route(route))) => {
            let script = call.cx.node.script();
            script.program.route(*route).map(|r| r.name.as_bytes().into()).unwrap_or_default()
        }
        _ => (&call.text(0)[..]).into(),
    };
    change(call, Change::Route { on, name })
}

pub(crate) fn set_dlg_sharing_tag(call: &mut Call<'_, '_, '_>) -> Called {
    let text = match call.args.first() {
        Some(ArgValue::Ready(Ready::SharingTag(tag))) => match tag.cluster {
            Some(cluster) => format!("{}/{cluster}", tag.name),
            None => tag.name.clone(),
        },
        _ => String::from_utf8_lossy(&call.text(0)).into_owned(),
    };
    let value = Some(Val::Str(text.as_bytes().into()));
    change(call, Change::Value { name: TAG_VALUE.into(), value })
}

pub(crate) fn unload_dialog_ctx(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    if dialogs.current(call.ctx).is_none() {
        return NO;
    }
    call.ctx.attached.remove(dialogs.slot);
    OK
}

/// Counts the number up that this node gives its next request.
pub(crate) fn dlg_inc_cseq(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(dialogs) = call.state::<Dialogs>() else { return NO };
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let by = if call.given(1) { call.int(1).unwrap_or(0) } else { 1 };
    let Some(by) = u32::try_from(by).ok().filter(|by| *by > 0) else {
        return call.complain(Level::Error, "dlg_inc_cseq: it counts up, by a number above 0");
    };
    let tag = call.text(0);
    let found = dialogs.read(current.id, |d| {
        let (side, callee, leg) = match tag.is_empty() {
            false if *tag == *d.caller.tag => (crate::record::Side::Caller, 0, &d.caller),
            false => {
                let at = d.callee_at(&tag)?;
                (crate::record::Side::Callee, at, d.callees.get(usize::from(at))?)
            }
            // The side that the message goes to.
            true => {
                let side = current.sender.other();
                let at = d.answered.unwrap_or(current.callee);
                (side, at, d.leg(side)?)
            }
        };
        Some((side, callee, leg.cseq.max(leg.generated_cseq).saturating_add(by)))
    });
    let Some((towards, callee, cseq)) = found.flatten() else {
        return call.complain(Level::Error, "dlg_inc_cseq: the dialog has no such tag");
    };
    change(call, Change::Generated { towards, callee, cseq })
}

/// `$DLG_flags`
pub(crate) fn set_flags(
    call: &mut VarCall<'_, '_>,
    _how: Assign,
    value: Value,
) -> Result<(), String> {
    let (dialogs, id) = here(call).ok_or("there is no dialog")?;
    let text = value.into_bytes().unwrap_or_default();
    let mask = flag_mask(&dialogs, &text)?;
    for bit in 0..32 {
        let on = mask & (1 << bit) != 0;
        let change = Change::UserFlag { bit, on };
        dialogs.change(call.cx, id, change).map_err(|why| why.to_string())?;
    }
    Ok(())
}

/// `$DLG_timeout`
pub(crate) fn set_timeout(
    call: &mut VarCall<'_, '_>,
    _how: Assign,
    value: Value,
) -> Result<(), String> {
    let text = value.text().and_then(|t| std::str::from_utf8(&t).ok()?.trim().parse().ok());
    let seconds = value.int().or(text).and_then(|n: i32| u32::try_from(n).ok());
    let seconds = seconds.filter(|n| *n > 0).ok_or("it is a number of seconds above 0")?;
    match here(call) {
        Some((dialogs, id)) => {
            let change = Change::Lifetime { seconds };
            dialogs.change(call.cx, id, change).map_err(|why| why.to_string())?;
        }
        None => {
            let slot = call.cx.slot;
            let pending = call.ctx.section_mut::<crate::pending::Pending>(slot);
            pending.lifetime_s = Some(seconds);
        }
    }
    Ok(())
}

/// `$DLG_del_delay`
pub(crate) fn set_delete_delay(
    call: &mut VarCall<'_, '_>,
    _how: Assign,
    value: Value,
) -> Result<(), String> {
    let (dialogs, id) = here(call).ok_or("there is no dialog")?;
    let seconds = value.int().and_then(|n| u32::try_from(n).ok());
    let seconds = seconds.ok_or("it is a number of seconds")?;
    let change = Change::DeleteDelay { seconds };
    dialogs.change(call.cx, id, change).map(|_| ()).map_err(|why| why.to_string())
}
