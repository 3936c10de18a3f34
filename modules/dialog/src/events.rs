//! The events that the module raises.

use tandem_engine::module::{Cx, EventDef};
use tandem_script::value::Value;

use crate::record::{Dialog, State};

pub(crate) const STATE_CHANGED: &str = "E_DLG_STATE_CHANGED";

pub(crate) const EVENTS: &[EventDef] = &[EventDef {
    name: STATE_CHANGED,
    params: &["id", "db_id", "callid", "from_tag", "to_tag", "old_state", "new_state"],
    help: "A dialog has another state.",
}];

pub(crate) fn state_changed(cx: &mut Cx<'_>, d: &Dialog, before: State) {
    if !cx.is_wanted(STATE_CHANGED) {
        return;
    }
    let text = |bytes: &[u8]| Value::str(bytes.to_vec());
    let state = |state: State| Value::Int(i32::from(state.number()));
    let params = vec![
        ("id", text(d.id.to_string().as_bytes())),
        ("db_id", text(d.id.number().to_string().as_bytes())),
        ("callid", text(&d.call_id)),
        ("from_tag", text(&d.caller.tag)),
        ("to_tag", text(d.to_tag())),
        ("old_state", state(before)),
        ("new_state", state(d.state)),
    ];
    cx.raise(STATE_CHANGED, params);
}
