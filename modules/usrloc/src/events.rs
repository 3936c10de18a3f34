//! The events that the module raises.

use tandem_engine::module::{Cx, EventDef};
use tandem_script::value::Value;

use crate::store::{Contact, Event, PingState, Text};

const AOR: &[&str] = &["domain", "aor"];
const CONTACT: &[&str] = &[
    "domain",
    "aor",
    "uri",
    "received",
    "path",
    "qval",
    "user_agent",
    "socket",
    "bflags",
    "expires",
    "callid",
    "cseq",
    "attr",
    "latency",
    "shtag",
];

const REFRESH: &[&str] = &[
    "domain",
    "aor",
    "uri",
    "received",
    "user_agent",
    "socket",
    "bflags",
    "expires",
    "callid",
    "attr",
    "shtag",
    "reason",
    "req_callid",
];

const AOR_INSERT: &str = "E_UL_AOR_INSERT";
const AOR_DELETE: &str = "E_UL_AOR_DELETE";
const CONTACT_INSERT: &str = "E_UL_CONTACT_INSERT";
const CONTACT_DELETE: &str = "E_UL_CONTACT_DELETE";
const CONTACT_UPDATE: &str = "E_UL_CONTACT_UPDATE";
const LATENCY_UPDATE: &str = "E_UL_LATENCY_UPDATE";
const CONTACT_REFRESH: &str = "E_UL_CONTACT_REFRESH";

/// The event table.
pub(crate) const EVENTS: &[EventDef] = &[
    EventDef { name: AOR_INSERT, params: AOR, help: "An AoR has its first contact." },
    EventDef { name: AOR_DELETE, params: AOR, help: "An AoR has lost its last contact." },
    EventDef { name: CONTACT_INSERT, params: CONTACT, help: "A contact was added." },
    EventDef { name: CONTACT_DELETE, params: CONTACT, help: "A contact was removed or ended." },
    EventDef { name: CONTACT_UPDATE, params: CONTACT, help: "A contact was refreshed or changed." },
    EventDef { name: LATENCY_UPDATE, params: CONTACT, help: "A ping measured a latency." },
    EventDef { name: CONTACT_REFRESH, params: REFRESH, help: "A phone is to be woken by push." },
];

/// Raises what the change of a table means.
pub(crate) fn tell(cx: &mut Cx<'_>, table: &str, aor: &[u8], event: &Event) {
    match event {
        Event::AorInserted => tell_aor(cx, AOR_INSERT, table, aor),
        Event::AorDeleted => tell_aor(cx, AOR_DELETE, table, aor),
        Event::ContactInserted(contact) => tell_contact(cx, CONTACT_INSERT, table, contact, 0),
        // A key is not news of the phone, and a route for such news may well set one.
        Event::ContactUpdated { contact, old } if contact.only_has_other_keys(old) => (),
        Event::ContactUpdated { contact, .. } => {
            tell_contact(cx, CONTACT_UPDATE, table, contact, 0);
        }
        Event::ContactDeleted { contact, .. } => {
            tell_contact(cx, CONTACT_DELETE, table, contact, 0);
        }
    }
}

/// Raises E_UL_LATENCY_UPDATE.
pub(crate) fn tell_latency(cx: &mut Cx<'_>, table: &str, contact: &Contact, ping: &PingState) {
    tell_contact(cx, LATENCY_UPDATE, table, contact, ping.latency_us);
}

/// Raises E_UL_CONTACT_REFRESH; `reason` and `call_id` say what the contact is wanted for.
pub(crate) fn tell_refresh(
    cx: &mut Cx<'_>,
    table: &str,
    contact: &Contact,
    reason: &str,
    call_id: &[u8],
) {
    if !cx.is_wanted(CONTACT_REFRESH) {
        return;
    }
    let field = |of: Text| Value::Str(contact.bytes(of));
    let tag = contact.sharing_tag().unwrap_or_default();
    let params = vec![
        ("domain", text(table.as_bytes())),
        ("aor", text(contact.aor())),
        ("uri", field(Text::Uri)),
        ("received", field(Text::Received)),
        ("user_agent", field(Text::UserAgent)),
        ("socket", field(Text::Socket)),
        ("bflags", field(Text::BranchFlags)),
        ("expires", number(contact.expires_s())),
        ("callid", field(Text::CallId)),
        ("attr", field(Text::Attr)),
        ("shtag", text(tag.as_bytes())),
        ("reason", text(reason.as_bytes())),
        ("req_callid", text(call_id)),
    ];
    cx.raise(CONTACT_REFRESH, params);
}

fn tell_aor(cx: &mut Cx<'_>, event: &'static str, table: &str, aor: &[u8]) {
    if cx.is_wanted(event) {
        cx.raise(event, vec![("domain", text(table.as_bytes())), ("aor", text(aor))]);
    }
}

fn tell_contact(
    cx: &mut Cx<'_>,
    event: &'static str,
    table: &str,
    contact: &Contact,
    latency_us: u32,
) {
    if !cx.is_wanted(event) {
        return;
    }
    let field = |of: Text| Value::Str(contact.bytes(of));
    let tag = contact.sharing_tag().unwrap_or_default();
    let params = vec![
        ("domain", text(table.as_bytes())),
        ("aor", text(contact.aor())),
        ("uri", field(Text::Uri)),
        ("received", field(Text::Received)),
        ("path", field(Text::Path)),
        ("qval", Value::Int(i32::from(contact.q()))),
        ("user_agent", field(Text::UserAgent)),
        ("socket", field(Text::Socket)),
        ("bflags", field(Text::BranchFlags)),
        ("expires", number(contact.expires_s())),
        ("callid", field(Text::CallId)),
        ("cseq", number(u64::from(contact.cseq))),
        ("attr", field(Text::Attr)),
        ("latency", number(u64::from(latency_us))),
        ("shtag", text(tag.as_bytes())),
    ];
    cx.raise(event, params);
}

fn number(n: u64) -> Value {
    Value::Int(n.min(i32::MAX as u64) as i32)
}

fn text(bytes: &[u8]) -> Value {
    Value::str(bytes.to_vec())
}
