//! A caller, a node that accounts, and a callee.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::net::SocketAddr;

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Rows, Select, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::{Spool, TestNode, WAITING};

pub(crate) const MODULES: Modules = &[
    &CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_clusterer::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_signaling::MODULE,
    &tandem_sipmsgops::MODULE,
    &tandem_dialog::MODULE,
    // The records that an earlier life left are found before the dictionary is read.
    &tandem_acc::MODULE,
    &tandem_aaa_radius::MODULE,
    &WAITING,
];

pub(crate) const CALLER: &str = "127.0.0.9:5060";
pub(crate) const CALLEE: &str = "127.0.0.2:5060";

pub(crate) fn script(params: &str, routes: &str) -> String {
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "signaling", "sipmsgops", "acc"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "socket=udp:127.0.0.1:5060\nlog_level=3\n{modules}\
         modparam(\"acc\", \"db_url\", \"sqlite:///x\")\n{params}\n{routes}"
    )
}

pub(crate) fn node(params: &str, routes: &str) -> TestNode {
    TestNode::new(&script(params, routes), MODULES)
}

/// What is wrong with a script.
pub(crate) fn errors(params: &str, routes: &str) -> String {
    match TestNode::try_new(&script(params, routes), MODULES) {
        Ok(_) => String::new(),
        Err(errors) => errors,
    }
}

pub(crate) fn modparam(name: &str, value: &str) -> String {
    let value = match value.parse::<i32>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{value}\""),
    };
    format!("modparam(\"acc\", \"{name}\", {value})\n")
}

/// A request of the caller.
pub(crate) fn request(method: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@{CALLEE} SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{branch}\n\
         Max-Forwards: 70\nFrom: <sip:alice@h>;tag=f\nTo: <sip:bob@h>\nCall-ID: c\n\
         CSeq: 1 {method}\n{extra}Content-Length: 0\n\n"
    )
}

/// The reply of the callee to a request as it got it.
pub(crate) fn reply_to(request: &str, code: u16, body: &str) -> String {
    let mut out = format!("SIP/2.0 {code} Text{code}\n");
    for line in request.lines() {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                out.push_str(&format!("{line}\n"));
            }
            "To" if line.contains("tag=") => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t\n")),
            _ => {}
        }
    }
    out.push_str(&format!("Content-Length: {}\n\n{body}", body.len()));
    out
}

/// The messages that went to an address since the last call.
pub(crate) fn sent_to(node: &mut TestNode, to: &str) -> Vec<String> {
    let to: SocketAddr = to.parse().unwrap();
    node.sent().into_iter().filter(|(addr, _)| *addr == to).map(|(_, text)| text).collect()
}

/// Sends a request in, answers what went to the callee, and waits for the database.
pub(crate) fn call(node: &mut TestNode, method: &str, code: u16) {
    let forwarded = forward(node, &request(method, "a", ""));
    node.udp(CALLEE, &reply_to(&forwarded, code, ""));
    node.advance_ms(30);
}

/// What went to the callee of a request.
pub(crate) fn forward(node: &mut TestNode, request: &str) -> String {
    node.udp(CALLER, request);
    let mut forwarded = sent_to(node, CALLEE);
    assert_eq!(forwarded.len(), 1, "one request for the callee: {forwarded:?}");
    forwarded.remove(0)
}

/// The lines of acc since the last call.
pub(crate) fn lines(node: &mut TestNode) -> Vec<String> {
    let logs = node.logs().into_iter().map(|(_, text)| text);
    logs.filter(|text| text.starts_with("ACC: ")).collect()
}

/// The value of a field in a line.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, fields) = line.split_once("ACC: ")?;
    let (_, fields) = fields.split_once(": ")?;
    fields.split(';').find_map(|f| f.strip_prefix(name)?.strip_prefix('='))
}

/// All rows of a table.
pub(crate) fn rows(node: &mut TestNode, table: &'static str) -> Rows {
    let all = Select { table: table.into(), ..Select::default() };
    node.db.execute(&Query::Select(all)).unwrap()
}

/// Columns of the only row of a table.
pub(crate) fn row(node: &mut TestNode, table: &'static str, columns: &[&str]) -> Vec<String> {
    let rows = rows(node, table);
    assert_eq!(rows.rows.len(), 1, "{rows:?}");
    columns.iter().map(|c| text(rows.get(0, c).unwrap())).collect()
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(n) | Value::Time(n) => n.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Str(text) => text.clone(),
        Value::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A node with dialogs: `initial` runs for the INVITE that begins a call, `within` for requests
/// of a call.
pub(crate) fn with_dialogs(params: &str, initial: &str, within: &str) -> TestNode {
    TestNode::new(&dialog_script(params, initial, within), MODULES)
}

/// The same with further routes.
pub(crate) fn with_dialogs_and(
    params: &str,
    initial: &str,
    within: &str,
    routes: &str,
) -> TestNode {
    TestNode::new(&(dialog_script(params, initial, within) + "\n" + routes), MODULES)
}

pub(crate) fn dialog_script(params: &str, initial: &str, within: &str) -> String {
    let routes = format!(
        "route {{ if (has_totag()) {{ loose_route(); {within} t_relay(); exit; }} \
         if (is_method(\"CANCEL\")) {{ t_relay(); exit; }} {initial} record_route(); t_relay(); }}"
    );
    let text = script(params, &routes);
    text.replace("loadmodule \"acc.so\"\n", "loadmodule \"dialog.so\"\nloadmodule \"acc.so\"\n")
}

/// A node that starts with the spool and the database of an earlier one.
pub(crate) fn restarted(spool: Spool, db: MemoryDb) -> TestNode {
    let script = dialog_script(&modparam("extra_fields", "log: who"), "", "");
    TestNode::restarted(&script, MODULES, spool, db)
}

/// A node with dialogs and this database.
pub(crate) fn started_with(params: &str, initial: &str, db: MemoryDb) -> TestNode {
    TestNode::restarted(&dialog_script(params, initial, ""), MODULES, Spool::default(), db)
}

/// The INVITE of the caller, as the callee got it.
pub(crate) fn dial(node: &mut TestNode) -> String {
    dial_as(node, "c")
}

pub(crate) fn dial_as(node: &mut TestNode, call_id: &str) -> String {
    let contact = format!("Contact: <sip:alice@{CALLER}>\n");
    let invite = request("INVITE", call_id, &contact);
    forward(node, &invite.replace("Call-ID: c\n", &format!("Call-ID: {call_id}\n")))
}

/// The callee answers: the 200 as the caller got it.
pub(crate) fn answer(node: &mut TestNode, invite: &str) -> String {
    let contact = format!("Contact: <sip:bob@{CALLEE}>\nContent-Length");
    let ok = reply_to(invite, 200, "").replace("Content-Length", &contact);
    node.udp(CALLEE, &ok);
    let got = sent_to(node, CALLER);
    got.into_iter().find(|m| m.starts_with("SIP/2.0 200")).unwrap()
}

/// A request of the caller within the call that was answered so.
pub(crate) fn within(ok: &str, method: &str, cseq: u32) -> String {
    let header = |name: &str| {
        let found = ok.lines().find(|l| l.starts_with(&format!("{name}: "))).unwrap_or_default();
        found.split_once(": ").map_or(String::new(), |(_, v)| v.trim().to_owned())
    };
    format!(
        "{method} sip:bob@{CALLEE} SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{method}{cseq}{}\n\
         Max-Forwards: 70\nRoute: {}\nFrom: {}\nTo: {}\nCall-ID: {}\nCSeq: {cseq} {method}\n\
         Content-Length: 0\n\n",
        header("Call-ID"),
        header("Record-Route"),
        header("From"),
        header("To"),
        header("Call-ID"),
    )
}

/// A request of the callee within the call.
pub(crate) fn from_callee(invite: &str, method: &str, cseq: u32) -> String {
    let header = |name: &str| {
        let found = invite.lines().find(|l| l.starts_with(&format!("{name}: ")));
        found.and_then(|l| l.split_once(": ")).map_or(String::new(), |(_, v)| v.trim().to_owned())
    };
    format!(
        "{method} sip:alice@{CALLER} SIP/2.0\nVia: SIP/2.0/UDP {CALLEE};branch=z9hG4bKcallee{cseq}\n\
         Max-Forwards: 70\nRoute: {}\nFrom: {};tag=t\nTo: {}\nCall-ID: {}\n\
         CSeq: {cseq} {method}\nContent-Length: 0\n\n",
        header("Record-Route"),
        header("To"),
        header("From"),
        header("Call-ID"),
    )
}

/// The caller hangs up, and the callee says that this is well.
pub(crate) fn hang_up(node: &mut TestNode, ok: &str) {
    hang_up_as(node, ok, 2);
}

pub(crate) fn hang_up_as(node: &mut TestNode, ok: &str, cseq: u32) {
    node.udp(CALLER, &within(ok, "BYE", cseq));
    let bye = sent_to(node, CALLEE).into_iter().find(|m| m.starts_with("BYE")).unwrap();
    node.udp(CALLEE, &reply_to(&bye, 200, ""));
}
