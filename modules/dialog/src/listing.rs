//! A dialog as management shows it.

use serde_json::{Map, Value as Json, json};
use tandem_engine::date;
use tandem_engine::node::Node;

use crate::record::{Dialog, Leg, State, Val};
use crate::state::Dialogs;

impl Dialogs {
    /// The entry of `dialog:list`; with `context` that of `dialog:list_ctx`.
    pub(crate) fn entry(&self, node: &Node, d: &Dialog, context: bool) -> Json {
        let mut out = Map::new();
        let mut put = |name: &str, value: Json| {
            out.insert(name.to_owned(), value);
        };
        put("ID", d.id.to_string().into());
        put("db_id", d.id.number().to_string().into());
        put("state", d.state.number().into());
        put("user_flags", self.flag_text(d.user_flags).into());
        put("timestart", d.start_s.into());
        put("datestart", date_text(node, d.start_s).into());
        // One that has ended has no timer any more.
        let expires_s = if d.state == State::Deleted { 0 } else { d.expires_s };
        put("timeout", expires_s.into());
        if expires_s != 0 {
            put("dateout", date_text(node, expires_s).into());
        }
        put("callid", text(&d.call_id));
        put("from_uri", text(&d.from_uri));
        put("to_uri", text(&d.to_uri));
        put("caller_tag", text(&d.caller.tag));
        put("caller_contact", text(&d.caller.contact));
        put("callee_cseq", d.caller.cseq.to_string().into());
        put("caller_route_set", text(&d.caller.route_set));
        put("caller_bind_addr", bind(node, &d.caller));
        put("caller_sdp", text(&d.caller.sdp_in));
        if !d.caller.sdp_out.is_empty() {
            put("caller_sent_sdp", text(&d.caller.sdp_out));
        }
        put("CALLEES", d.callees.iter().map(|leg| callee(node, leg)).collect());
        if context {
            put("context", self.context_of(d));
        }
        Json::Object(out)
    }

    fn context_of(&self, d: &Dialog) -> Json {
        let mut out = Map::new();
        let one = |name: &[u8], value: Json| {
            Json::Object(std::iter::once((printable(name), value)).collect())
        };
        if !d.values.is_empty() {
            let newest_first = d.values.iter().rev();
            let values = newest_first.map(|(name, value)| match value {
                Val::Str(text) => one(name, printable(text).into()),
                Val::Int(number) => one(name, json!(number)),
            });
            out.insert("values".into(), values.collect());
        }
        if !d.profiles.is_empty() {
            let profiles = d.profiles.iter().map(|p| one(&p.name, printable(&p.value).into()));
            out.insert("profiles".into(), profiles.collect());
        }
        Json::Object(out)
    }

    /// The names of the script's flags in a mask.
    pub(crate) fn flag_text(&self, mask: u32) -> String {
        let names = self.flag_names.iter().enumerate();
        let set = names.filter(|(bit, _)| mask.checked_shr(*bit as u32).unwrap_or(0) & 1 != 0);
        set.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn callee(node: &Node, leg: &Leg) -> Json {
    let mut out = Map::new();
    let mut put = |name: &str, value: Json| {
        out.insert(name.to_owned(), value);
    };
    put("callee_tag", text(&leg.tag));
    put("callee_contact", text(&leg.contact));
    put("caller_cseq", leg.cseq.to_string().into());
    put("callee_route_set", text(&leg.route_set));
    put("callee_bind_addr", bind(node, leg));
    put("callee_sdp", text(&leg.sdp_in));
    if !leg.sdp_out.is_empty() {
        put("callee_sent_sdp", text(&leg.sdp_out));
    }
    Json::Object(out)
}

/// The socket of this node that stands for the one of the record.
fn bind(node: &Node, leg: &Leg) -> Json {
    let found = std::str::from_utf8(&leg.socket).ok().and_then(|text| node.sockets.resolve(text));
    found.and_then(|id| node.sockets.get(id)).map_or(Json::Null, |s| s.text().into())
}

fn date_text(node: &Node, unix_s: u32) -> String {
    date::iso(node.zone.wall_s(u64::from(unix_s)))
}

fn text(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// A text of any bytes, as the field shows it: what cannot be printed is written `\xNN`.
fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            8 => out.push_str("\\b"),
            12 => out.push_str("\\f"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}
