//! A node with presence, a package to try it with, and the phones around it.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tandem_db::{Query, Select, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{BuildError, Cx, Module, ModuleDef};
use tandem_engine::table::needs;
use tandem_engine::testing::TestNode;
use tandem_presence::{Body, Package, Presence, Refusal, RuleAsk, Status, Verdict, Viewer};

pub const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_signaling::MODULE,
        &tandem_nathelper::MODULE,
        &tandem_presence::MODULE,
        &PACKAGES,
    ];
    ALL
};

/// A module with packages: `presence` with rules and winfo, `dialog`, `dialog;sla`.
pub static PACKAGES: ModuleDef = ModuleDef {
    name: "test_packages",
    help: "Packages.",
    dependencies: &[needs("presence")],
    params: &[],
    functions: &[],
    variables: &[],
    mi: &[MiDef {
        name: "test_packages:let_in",
        old_names: &[],
        param_sets: &[&[]],
        help: "Answers the last question.",
        run: let_in,
    }],
    statistics: &[],
    events: &[],
    build: |from| {
        let presence = from.module::<Presence>();
        let presence = presence.ok_or_else(|| BuildError::new("", "presence is not loaded"))?;
        let rules = Arc::new(Rules::default());
        presence.add_package(Arc::new(Plain { name: "presence", rules: Arc::clone(&rules) }));
        presence.add_package(Arc::new(Plain { name: "dialog", rules: Arc::clone(&rules) }));
        presence.add_package(Arc::new(Plain { name: "dialog;sla", rules: Arc::clone(&rules) }));
        Ok(rules)
    },
};

/// Who may watch: users whose names begin with `pending` wait until somebody opens, `blocked`
/// may not, `slow` are answered when the test says so; `half` see half of it.
#[derive(Default)]
pub struct Rules {
    pub is_open: AtomicBool,
    pub asked: Mutex<Vec<RuleAsk>>,
}

impl Module for Rules {}

fn let_in(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let rules = call.cx.node.find::<Rules>();
    let ask = rules.and_then(|(_, rules)| rules.asked.lock().pop());
    if let (Some(ask), Some((_, presence))) = (ask, call.cx.node.find::<Presence>()) {
        presence.ruled(call.cx, ask.token, Verdict::active());
    }
    MiOutcome::Done("OK".into())
}

struct Plain {
    name: &'static str,
    rules: Arc<Rules>,
}

impl Package for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn content_type(&self) -> &'static str {
        "text/plain"
    }

    fn has_winfo(&self) -> bool {
        self.name == "presence"
    }

    fn judge(&self, _content_type: &[u8], body: &Bytes) -> Result<(), Refusal> {
        match body.starts_with(b"bad") {
            true => Err(Refusal::new(415, "Unsupported Media Type")),
            false => Ok(()),
        }
    }

    fn merge(&self, _presentity: &[u8], bodies: &[Body]) -> Option<Bytes> {
        let all: Vec<&[u8]> = bodies.iter().map(|body| &body.body[..]).collect();
        Some(all.join(&b"+"[..]).into())
    }

    fn offline(&self, _presentity: &[u8]) -> Option<Bytes> {
        Some(Bytes::from_static(b"offline"))
    }

    fn ended(&self, _presentity: &[u8], last: &Body) -> Option<Bytes> {
        Some([b"after ", &last.body[..]].concat().into())
    }

    fn shown(&self, body: &Bytes, viewer: &Viewer<'_>) -> Bytes {
        match viewer.view {
            b"half" => body.slice(..body.len() / 2),
            _ => body.clone(),
        }
    }

    fn has_rules(&self) -> bool {
        self.name == "presence"
    }

    fn ask(&self, _cx: &mut Cx<'_>, ask: &RuleAsk) -> Option<Verdict> {
        self.rules.asked.lock().push(ask.clone());
        let has = |text: &[u8]| ask.watcher.windows(text.len()).any(|w| w == text);
        if has(b"slow") {
            return None;
        }
        if has(b"blocked") || *ask.sphere == *b"private" {
            return Some(Verdict::of(Status::Terminated, "rejected"));
        }
        if has(b"pending") && !self.rules.is_open.load(Ordering::Relaxed) {
            return Some(Verdict::of(Status::Pending, ""));
        }
        let view = if has(b"half") { Bytes::from_static(b"half") } else { Bytes::new() };
        Some(Verdict { view, ..Verdict::active() })
    }

    fn sphere(&self, body: &Bytes) -> Option<Bytes> {
        body.starts_with(b"at ").then(|| body.slice(3..))
    }

    fn is_busy(&self, bodies: &[Body]) -> bool {
        bodies.iter().any(|body| &body.body[..] == b"talks")
    }

    fn mixed(&self, _presentity: &[u8], busy: bool) -> Option<Body> {
        let body = Bytes::from_static(if busy { b"busy" } else { b"free" });
        let (etag, content_type, sender) = (Bytes::new(), Bytes::new(), Bytes::new());
        Some(Body { etag, content_type, body, sender, received_s: 0 })
    }
}

pub const WATCHER: &str = "127.0.0.9:5060";
pub const PHONE: &str = "127.0.0.2:5060";

/// A line that sets a parameter.
pub fn set(name: &str, value: &str) -> String {
    format!("modparam(\"presence\", \"{name}\", {value})\n")
}

pub const DB: &str = "modparam(\"presence\", \"db_url\", \"sqlite:///x\")\n";

pub const ROUTE: &str = "if ($rm == \"PUBLISH\") { handle_publish(); exit; }\n\
    if ($rm == \"SUBSCRIBE\") { handle_subscribe(); exit; }\n";

pub fn script_of(params: &str, route: &str) -> String {
    format!(
        "socket=udp:127.0.0.1:5060\nlog_level=2\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"presence.so\"\n\
         loadmodule \"test_packages.so\"\n{params}\nroute {{\n{route} }}\n"
    )
}

pub fn node(params: &str) -> TestNode {
    TestNode::new(&script_of(params, ROUTE), MODULES)
}

pub fn node_with(params: &str, route: &str) -> TestNode {
    TestNode::new(&script_of(params, route), MODULES)
}

pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

pub fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub fn tag(value: &str) -> &str {
    value.split_once(";tag=").map_or("", |(_, tag)| tag)
}

/// A PUBLISH of `user`; `extra` are header lines.
pub fn publish(user: &str, event: &str, n: u32, extra: &str, body: &str) -> String {
    format!(
        "PUBLISH sip:{user}@a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKp{user}{n}\n\
         From: <sip:{user}@a.test>;tag=p\nTo: <sip:{user}@a.test>\nCall-ID: p-{user}-{n}\n\
         CSeq: {n} PUBLISH\nMax-Forwards: 70\nEvent: {event}\n{extra}\
         Content-Type: text/plain\nContent-Length: {}\n\n{body}",
        body.len()
    )
}

/// A watcher.
#[derive(Clone, Debug)]
pub struct Watcher {
    pub user: String,
    pub of: String,
    pub event: String,
    pub call_id: String,
    pub cseq: u32,
    /// The tag of the server.
    pub to_tag: String,
}

impl Watcher {
    pub fn new(user: &str, of: &str, event: &str) -> Self {
        Self {
            user: user.into(),
            of: of.into(),
            event: event.into(),
            call_id: format!("s-{user}-{of}-{event}"),
            cseq: 0,
            to_tag: String::new(),
        }
    }

    /// The next SUBSCRIBE.
    pub fn subscribe(&mut self, extra: &str) -> String {
        self.cseq += 1;
        let to_tag = match self.to_tag.as_str() {
            "" => String::new(),
            tag => format!(";tag={tag}"),
        };
        let Self { user, of, event, call_id, cseq, .. } = self;
        format!(
            "SUBSCRIBE sip:{of}@a.test SIP/2.0\n\
             Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{call_id}{cseq}\n\
             From: <sip:{user}@a.test>;tag=w\nTo: <sip:{of}@a.test>{to_tag}\nCall-ID: {call_id}\n\
             CSeq: {cseq} SUBSCRIBE\nContact: <sip:{user}@127.0.0.9:5060>\nMax-Forwards: 70\n\
             Event: {event}\n{extra}Content-Length: 0\n\n"
        )
    }

    /// Subscribes; the answer, and the NOTIFYs that came.
    pub fn go(&mut self, node: &mut TestNode, extra: &str) -> (String, Vec<String>) {
        node.udp(WATCHER, &self.subscribe(extra));
        let mut sent = got(node);
        let at = sent.iter().position(|text| text.starts_with("SIP/2.0"));
        let reply = at.map(|at| sent.remove(at)).unwrap_or_default();
        if reply.starts_with("SIP/2.0 20") {
            self.to_tag = tag(header(&reply, "To")).to_owned();
        }
        (reply, sent)
    }

    /// Subscribes, and must be let in at once.
    pub fn watch(node: &mut TestNode, user: &str, of: &str, event: &str) -> (Self, String) {
        let mut watcher = Self::new(user, of, event);
        let (reply, mut notifies) = watcher.go(node, "Expires: 600\n");
        assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
        assert_eq!(notifies.len(), 1, "{notifies:?}");
        (watcher, notifies.remove(0))
    }
}

/// Takes what the watchers were sent, and answers every NOTIFY.
pub fn got(node: &mut TestNode) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let sent: Vec<String> = node
            .sent()
            .into_iter()
            .filter(|(to, _)| to.to_string() == WATCHER)
            .map(|(_, text)| text)
            .collect();
        if sent.is_empty() {
            once(&mut all);
            return all;
        }
        for text in &sent {
            if text.starts_with("NOTIFY ") {
                node.udp(WATCHER, &reply_to(text, 200));
            }
        }
        all.extend(sent);
    }
}

/// The answer to the phone that publishes.
pub fn published(node: &mut TestNode, text: &str) -> String {
    node.udp(PHONE, text);
    let sent = node.sent();
    let (mine, rest): (Vec<_>, Vec<_>) =
        sent.into_iter().partition(|(to, _)| to.to_string() == PHONE);
    LEFT.with(|left| left.borrow_mut().extend(rest.into_iter().map(|(_, text)| text)));
    mine.into_iter().map(|(_, text)| text).next().unwrap_or_default()
}

thread_local! {
    static LEFT: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// What [`published`] saw for watchers, who have not answered.
pub fn left() -> Vec<String> {
    let mut all = LEFT.with(|left| std::mem::take(&mut *left.borrow_mut()));
    once(&mut all);
    all
}

/// What watchers were sent since, with what [`published`] saw for them.
pub fn told(node: &mut TestNode) -> Vec<String> {
    let mut all = LEFT.with(|left| std::mem::take(&mut *left.borrow_mut()));
    for text in all.iter().filter(|text| text.starts_with("NOTIFY ")) {
        node.udp(WATCHER, &reply_to(text, 200));
    }
    all.extend(got(node));
    once(&mut all);
    all
}

/// Leaves repetitions out.
pub fn once<T: PartialEq>(all: &mut Vec<T>) {
    let mut seen: Vec<T> = Vec::with_capacity(all.len());
    for one in all.drain(..) {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    *all = seen;
}

pub fn reply_to(request: &str, code: u16) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "To" | "Call-ID" | "CSeq" => out += &format!("{line}\n"),
            _ => {}
        }
    }
    format!("{out}Content-Length: 0\n\n")
}

pub fn etag(reply: &str) -> String {
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    header(reply, "SIP-ETag").to_owned()
}

/// The values of some columns of a table.
pub fn rows(node: &mut TestNode, table: &str, columns: &[&str]) -> Vec<Vec<Value>> {
    let select = Select {
        table: table.to_owned().into(),
        columns: columns.iter().map(|c| (*c).to_owned().into()).collect(),
        ..Select::default()
    };
    node.db.execute(&Query::Select(select)).map(|rows| rows.rows).unwrap_or_default()
}

pub fn list(node: &mut TestNode, command: &str) -> Vec<Json> {
    node.mi(command, Json::Null)["result"].as_array().cloned().unwrap_or_default()
}
