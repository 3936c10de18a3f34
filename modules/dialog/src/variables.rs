//! Script variables.

use tandem_engine::module::{Setter, VarCall, VariableDef};
use tandem_engine::table::variable;
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;

use crate::current::Kind;
use crate::pending::Pending;
use crate::record::{Dialog, Side};
use crate::state::Dialogs;
use crate::values::{self, here};

const fn writable(mut def: VariableDef, set: Setter) -> VariableDef {
    def.sig = VariableSig { writable: true, ..def.sig };
    def.set = Some(set);
    def
}

const fn named(mut def: VariableDef) -> VariableDef {
    def.sig = VariableSig { takes_name: true, ..def.sig };
    def
}

/// The variable table.
pub(crate) const VARIABLES: &[VariableDef] = &[
    variable("DLG_count", "Dialogs that were answered and go on.", |call| {
        call.state::<Dialogs>().map_or(Value::Null, |dialogs| number(dialogs.active() as u64))
    }),
    variable("DLG_lifetime", "Seconds since the answer.", |call| {
        let now_s = call.cx.now.unix_s();
        of(call, |d| {
            let end = if d.ended_s == 0 { now_s } else { u64::from(d.ended_s) };
            let lives = d.answered_s != 0;
            number(if lives { end.saturating_sub(u64::from(d.answered_s)) } else { 0 })
        })
    }),
    variable("DLG_status", "State of the dialog: 1 to 5; null without one.", |call| {
        of(call, |d| Value::Int(i32::from(d.state.number())))
    }),
    variable("DLG_dir", "\"downstream\" from the caller, \"upstream\" from the callee.", direction),
    writable(
        variable("DLG_flags", "Names of the flags that are set, separated by spaces.", |call| {
            let Some((dialogs, id)) = here(call) else { return Value::Null };
            let mask = dialogs.read(id, |d| d.user_flags).unwrap_or(0);
            Value::str(dialogs.flag_text(mask))
        }),
        values::set_flags,
    ),
    named(writable(
        variable("dlg_val", "A value that the dialog keeps.", values::get_value),
        values::set_value,
    )),
    variable("DLG_did", "Name of the dialog.", |call| of(call, |d| Value::str(d.id.to_string()))),
    variable("DLG_end_reason", "Why it ended.", |call| {
        of(call, |d| match d.end_reason.and_then(|reason| reason.text()) {
            Some(text) => Value::str(text),
            None => Value::Null,
        })
    }),
    writable(
        variable("DLG_timeout", "Seconds that it has left; written: that it has from now.", left),
        values::set_timeout,
    ),
    variable("DLG_json", "The dialog as dialog:list shows it.", |call| json(call, false)),
    variable("DLG_ctx_json", "The dialog as dialog:list_ctx shows it.", |call| json(call, true)),
    writable(
        variable("DLG_del_delay", "Seconds that it stays readable after its end.", |call| {
            let Some((dialogs, id)) = here(call) else { return Value::Null };
            let own = dialogs.read(id, |d| d.delete_delay_s).flatten();
            number(u64::from(own.unwrap_or(dialogs.params.delete_delay_s)))
        }),
        values::set_delete_delay,
    ),
];

fn number(n: u64) -> Value {
    Value::Int(i32::try_from(n).unwrap_or(i32::MAX))
}

/// Looks at the dialog of the message.
fn of(call: &VarCall<'_, '_>, look: impl FnOnce(&Dialog) -> Value) -> Value {
    here(call).and_then(|(dialogs, id)| dialogs.read(id, look)).unwrap_or_default()
}

fn direction(call: &mut VarCall<'_, '_>) -> Value {
    let Some(dialogs) = call.state::<Dialogs>() else { return Value::Null };
    match dialogs.current(call.ctx) {
        Some(current) if current.kind == Kind::Outside => Value::Null,
        Some(current) if current.sender == Side::Callee => Value::str("upstream"),
        Some(_) => Value::str("downstream"),
        None => Value::Null,
    }
}

/// `$DLG_timeout`; before there is a dialog, what the script has set for it.
fn left(call: &mut VarCall<'_, '_>) -> Value {
    let now_s = call.cx.now.unix_s();
    if let Some((dialogs, id)) = here(call) {
        let left = |d: &Dialog| match d.state.is_alive() {
            true => number(u64::from(d.expires_s).saturating_sub(now_s)),
            false => Value::Int(0),
        };
        return dialogs.read(id, left).unwrap_or_default();
    }
    let pending = call.ctx.section::<Pending>(call.cx.slot).and_then(|p| p.lifetime_s);
    pending.map_or(Value::Null, |s| number(u64::from(s)))
}

fn json(call: &VarCall<'_, '_>, context: bool) -> Value {
    let Some((dialogs, id)) = here(call) else { return Value::Null };
    let record = dialogs.read(id, Dialog::clone);
    record.map_or(Value::Null, |d| Value::str(dialogs.entry(call.cx.node, &d, context).to_string()))
}
