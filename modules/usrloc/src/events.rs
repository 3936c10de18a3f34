//! The events that the module raises.

use tandem_engine::module::{Cx, EventDef};
use tandem_script::program::Program;
use tandem_script::sig::Routes;
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

const AOR_INSERT: &str = "E_UL_AOR_INSERT";
const AOR_DELETE: &str = "E_UL_AOR_DELETE";
const CONTACT_INSERT: &str = "E_UL_CONTACT_INSERT";
const CONTACT_DELETE: &str = "E_UL_CONTACT_DELETE";
const CONTACT_UPDATE: &str = "E_UL_CONTACT_UPDATE";
const LATENCY_UPDATE: &str = "E_UL_LATENCY_UPDATE";

/// The event table.
pub(crate) const EVENTS: &[EventDef] = &[
    EventDef { name: AOR_INSERT, params: AOR, help: "An AoR has its first contact." },
    EventDef { name: AOR_DELETE, params: AOR, help: "An AoR has lost its last contact." },
    EventDef { name: CONTACT_INSERT, params: CONTACT, help: "A contact was added." },
    EventDef { name: CONTACT_DELETE, params: CONTACT, help: "A contact was removed or ended." },
    EventDef { name: CONTACT_UPDATE, params: CONTACT, help: "A contact was refreshed or changed." },
    EventDef { name: LATENCY_UPDATE, params: CONTACT, help: "A ping measured a latency." },
];

/// Which events anybody listens to: nothing is put together for the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Vec<&'static str>);

impl Listeners {
    pub(crate) fn of(program: &Program) -> Self {
        let names = EVENTS.iter().map(|e| e.name);
        Self(names.filter(|n| program.route_named(Routes::EVENT, n).is_some()).collect())
    }

    /// Raises what the change of a table means.
    pub(crate) fn tell(&self, cx: &mut Cx<'_>, table: &str, aor: &[u8], event: &Event) {
        if self.0.is_empty() {
            return;
        }
        match event {
            Event::AorInserted => self.tell_aor(cx, AOR_INSERT, table, aor),
            Event::AorDeleted => self.tell_aor(cx, AOR_DELETE, table, aor),
            Event::ContactInserted(contact) => {
                self.tell_contact(cx, CONTACT_INSERT, table, aor, contact, 0);
            }
            Event::ContactUpdated { contact, .. } => {
                self.tell_contact(cx, CONTACT_UPDATE, table, aor, contact, 0);
            }
            Event::ContactDeleted { contact, .. } => {
                self.tell_contact(cx, CONTACT_DELETE, table, aor, contact, 0);
            }
        }
    }

    /// Raises E_UL_LATENCY_UPDATE.
    pub(crate) fn tell_latency(
        &self,
        cx: &mut Cx<'_>,
        table: &str,
        aor: &[u8],
        contact: &Contact,
        ping: &PingState,
    ) {
        self.tell_contact(cx, LATENCY_UPDATE, table, aor, contact, ping.latency_us);
    }

    fn tell_aor(&self, cx: &mut Cx<'_>, event: &'static str, table: &str, aor: &[u8]) {
        if self.0.contains(&event) {
            cx.raise(event, vec![("domain", text(table.as_bytes())), ("aor", text(aor))]);
        }
    }

    fn tell_contact(
        &self,
        cx: &mut Cx<'_>,
        event: &'static str,
        table: &str,
        aor: &[u8],
        contact: &Contact,
        latency_us: u32,
    ) {
        if !self.0.contains(&event) {
            return;
        }
        let field = |of: Text| Value::Str(contact.bytes(of));
        let number = |n: u64| Value::Int(n.min(i32::MAX as u64) as i32);
        let tag = contact.sharing_tag().unwrap_or_default();
        let params = vec![
            ("domain", text(table.as_bytes())),
            ("aor", text(aor)),
            ("uri", field(Text::Uri)),
            ("received", field(Text::Received)),
            ("path", field(Text::Path)),
            ("qval", Value::Int(i32::from(contact.q))),
            ("user_agent", field(Text::UserAgent)),
            ("socket", field(Text::Socket)),
            ("bflags", field(Text::BranchFlags)),
            ("expires", number(contact.expires_s)),
            ("callid", field(Text::CallId)),
            ("cseq", number(u64::from(contact.cseq))),
            ("attr", field(Text::Attr)),
            ("latency", number(u64::from(latency_us))),
            ("shtag", text(tag.as_bytes())),
        ];
        cx.raise(event, params);
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::str(bytes.to_vec())
}
