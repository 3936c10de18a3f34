//! Script variables.

use tandem_engine::module::{VarCall, VariableDef};
use tandem_engine::table::variable;
use tandem_script::value::Value;

use crate::current::Kind;
use crate::record::{Dialog, Side};
use crate::state::Dialogs;

pub(crate) const VARIABLES: &[VariableDef] = &[
    variable("DLG_status", "State of the dialog: 1 to 5; null without one.", |call| {
        of(call, |d| Value::Int(i32::from(d.state.number())))
    }),
    variable("DLG_did", "Name of the dialog.", |call| of(call, |d| Value::str(d.id.to_string()))),
    variable("DLG_dir", "\"downstream\" from the caller, \"upstream\" from the callee.", |call| {
        let Some(dialogs) = call.state::<Dialogs>() else { return Value::Null };
        match dialogs.current(call.ctx) {
            Some(current) if current.kind == Kind::Own => Value::Null,
            Some(current) if current.sender == Side::Callee => Value::str(&b"upstream"[..]),
            Some(_) => Value::str(&b"downstream"[..]),
            None => Value::Null,
        }
    }),
];

/// Looks at the dialog of the message.
fn of(call: &VarCall<'_, '_>, look: impl FnOnce(&Dialog) -> Value) -> Value {
    let Some(dialogs) = call.state::<Dialogs>() else { return Value::Null };
    let id = dialogs.current(call.ctx).map(|current| current.id);
    id.and_then(|id| dialogs.read(id, look)).unwrap_or_default()
}
