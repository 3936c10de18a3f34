//! A presence server, somebody who publishes and somebody who watches.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::TestNode;

pub const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_signaling::MODULE,
        &tandem_presence::MODULE,
        &tandem_xcap::MODULE,
        &tandem_presence_xml::MODULE,
    ];
    ALL
};

pub const PHONE: &str = "127.0.0.9:5060";
pub const WATCHER: &str = "127.0.0.8:5060";
const PIDF: &str = "application/pidf+xml";

/// A line that sets a parameter of `presence_xml`.
pub fn set(name: &str, value: &str) -> String {
    format!("modparam(\"presence_xml\", \"{name}\", {value})\n")
}

pub fn script(params: &str) -> String {
    format!(
        "socket=udp:127.0.0.1:5060\nlog_level=3\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"presence.so\"\nloadmodule \"xcap.so\"\n\
         loadmodule \"presence_xml.so\"\n\
         modparam(\"presence\", \"db_url\", \"sqlite:///p\")\n\
         modparam(\"xcap\", \"db_url\", \"sqlite:///p\")\n{params}\n\
         route {{\nt_newtran();\n\
         if ($rm == \"PUBLISH\") {{ handle_publish(); exit; }}\n\
         if ($rm == \"SUBSCRIBE\") {{ handle_subscribe(); exit; }} }}\n"
    )
}

pub fn node(params: &str) -> TestNode {
    TestNode::new(&script(params), MODULES)
}

pub fn node_with(params: &str, fill: impl FnOnce(&mut MemoryDb)) -> TestNode {
    TestNode::with_database(&script(params), MODULES, fill).unwrap()
}

/// A document of alice's.
pub fn document(db: &mut MemoryDb, table: &'static str, kind: i64, path: &str, text: &str) {
    let row = vec![
        ("username".into(), Value::from("alice")),
        ("domain".into(), Value::from("a.test")),
        ("doc".into(), Value::Blob(text.to_owned().into())),
        ("doc_type".into(), Value::Int(kind)),
        ("etag".into(), Value::from("e")),
        ("source".into(), Value::Int(0)),
        ("doc_uri".into(), Value::from(path)),
        ("port".into(), Value::Int(0)),
    ];
    db.execute(&Query::Insert { table: table.into(), row }).unwrap();
}

/// Rules that treat bob so.
pub fn rules(handling: &str) -> String {
    format!(
        "<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"><rule id=\"r\"><conditions>\
         <identity><one id=\"sip:bob@b.test\"/></identity></conditions><actions>\
         <sub-handling xmlns=\"urn:ietf:params:xml:ns:pres-rules\">{handling}</sub-handling>\
         </actions></rule></ruleset>"
    )
}

/// A document with one tuple.
pub fn pidf(id: &str, basic: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         entity=\"sip:alice@a.test\"><tuple id=\"{id}\"><status><basic>{basic}</basic></status>\
         </tuple></presence>"
    )
}

pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

/// The reply to a PUBLISH of alice's.
pub fn publish(node: &mut TestNode, n: u32, etag: &str, kind: &str, body: &str) -> String {
    let expires = if body.is_empty() && !etag.is_empty() { 0 } else { 600 };
    let etag = if etag.is_empty() { String::new() } else { format!("SIP-If-Match: {etag}\n") };
    let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {kind}\n") };
    node.udp(
        PHONE,
        &format!(
            "PUBLISH sip:alice@a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKp{n}\n\
             From: <sip:alice@a.test>;tag=p\nTo: <sip:alice@a.test>\nCall-ID: p{n}\n\
             CSeq: 1 PUBLISH\nEvent: presence\nExpires: {expires}\n{etag}{kind}\
             Content-Length: {}\n\n{body}",
            body.len()
        ),
    );
    let sent = node.sent();
    let mut replies =
        sent.iter().filter(|(to, text)| to.to_string() == PHONE && text.starts_with("SIP/2.0 "));
    let reply = replies.next_back().map(|(_, text)| text.clone()).unwrap_or_default();
    for (to, text) in sent {
        if to.to_string() == WATCHER && text.starts_with("NOTIFY ") {
            let ok = ok_to(&text);
            node.udp(WATCHER, &ok);
        }
    }
    reply
}

/// Publishes a tuple; the ETag.
pub fn tuple(node: &mut TestNode, n: u32, id: &str, basic: &str) -> String {
    let reply = publish(node, n, "", PIDF, &pidf(id, basic));
    assert!(reply.starts_with("SIP/2.0 200 "), "{reply}");
    header(&reply, "SIP-ETag").to_owned()
}

fn ok_to(notify: &str) -> String {
    let mut out = "SIP/2.0 200 OK\n".to_owned();
    for line in notify.lines().take_while(|line| !line.is_empty()) {
        if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&line.split(':').next().unwrap()) {
            out += &format!("{line}\n");
        }
    }
    out + "Content-Length: 0\n\n"
}

/// Somebody subscribes to alice; the reply and the last NOTIFY.
pub fn subscribe(node: &mut TestNode, who: &str, n: u32) -> (String, String) {
    node.udp(
        WATCHER,
        &format!(
            "SUBSCRIBE sip:alice@a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.8;branch=z9hG4bKs{n}\n\
             From: <sip:{who}>;tag=w{n}\nTo: <sip:alice@a.test>\nCall-ID: s{n}\n\
             CSeq: 1 SUBSCRIBE\nEvent: presence\nExpires: 600\nContact: <sip:{WATCHER}>\n\
             Content-Length: 0\n\n"
        ),
    );
    let texts = told(node);
    let reply = texts.iter().find(|t| t.starts_with("SIP/2.0 ")).cloned().unwrap_or_default();
    let notify = texts.iter().rfind(|t| t.starts_with("NOTIFY ")).cloned().unwrap_or_default();
    (reply, notify)
}

/// What the watcher got; NOTIFYs are answered.
pub fn told(node: &mut TestNode) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..5 {
        for (to, text) in node.sent() {
            if to.to_string() != WATCHER {
                continue;
            }
            if text.starts_with("NOTIFY ") {
                let ok = ok_to(&text);
                node.udp(WATCHER, &ok);
            }
            all.push(text);
        }
        node.advance_ms(20);
    }
    all
}

/// The body of the last NOTIFY of a new subscription of bob's.
pub fn seen_by(node: &mut TestNode, who: &str, n: u32) -> String {
    let (_, notify) = subscribe(node, who, n);
    notify.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

pub fn state(notify: &str) -> &str {
    header(notify, "Subscription-State").split(';').next().unwrap_or_default()
}
