//! A node with dialogs, and two phones around it.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::TestNode;

pub const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_rr::MODULE,
        &tandem_cachedb_local::MODULE,
        &tandem_sipmsgops::MODULE,
        &tandem_statistics::MODULE,
        &tandem_dialog::MODULE,
    ];
    ALL
};

pub const CALLER: &str = "127.0.0.9:5060";
pub const CALLEE: &str = "127.0.0.2:5060";
pub const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nlog_level=2\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"rr.so\"\nloadmodule \"sipmsgops.so\"\nloadmodule \"statistics.so\"\nloadmodule \"dialog.so\"\n";
pub const SDP_A: &str = "v=0\no=- 1 1 IN IP4 127.0.0.9\ns=-\nt=0 0\n";
pub const SDP_B: &str = "v=0\no=- 2 2 IN IP4 127.0.0.2\ns=-\nt=0 0\n";

/// A line that sets a parameter.
pub fn set(name: &str, value: &str) -> String {
    format!("modparam(\"dialog\", \"{name}\", {value})\n")
}

/// The routing that most tests use: `initial` runs for the INVITE, `within` for what follows.
pub fn script(params: &str, initial: &str, within: &str) -> String {
    format!(
        "{MODULE_LINES}{params}\nroute {{\n\
         if (has_totag()) {{ loose_route(); {within} t_relay(); exit; }}\n\
         if ($rm == \"CANCEL\") {{ t_relay(); exit; }}\n\
         {initial}\nrecord_route(); t_relay(); }}\n"
    )
}

pub fn node(params: &str, initial: &str, within: &str) -> TestNode {
    TestNode::new(&script(params, initial, within), MODULES)
}

pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

pub fn all_headers<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}: ");
    text.lines().filter_map(|line| line.strip_prefix(&*prefix)).collect()
}

pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

/// A reply as a phone makes it.
pub fn reply_to(request: &str, code: u16, tag: &str, extra: &str, body: &str) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => out += &format!("{line}\n"),
            "To" if line.contains("tag=") => out += &format!("{line}\n"),
            "To" => out += &format!("{line};tag={tag}\n"),
            _ => {}
        }
    }
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
    let length = body.replace('\n', "\r\n").len();
    format!("{out}{extra}{kind}Content-Length: {length}\n\n{body}")
}

/// What went to an address since the last call, oldest first; the rest is forgotten.
pub fn sent_to(node: &mut TestNode, to: &str) -> Vec<String> {
    let sent = node.sent().into_iter();
    sent.filter(|(addr, _)| addr.to_string() == to).map(|(_, text)| text).collect()
}

/// The lines that the script wrote since the last call.
pub fn said(node: &mut TestNode) -> Vec<String> {
    node.logs().into_iter().map(|(_, text)| text).collect()
}

/// A call between the two phones.
pub struct Phones {
    pub call_id: String,
    /// The INVITE as the callee got it.
    pub invite: String,
    /// The 200 as the caller got it.
    pub ok: String,
}

impl Phones {
    /// The caller's INVITE.
    pub fn request(call_id: &str) -> String {
        let length = SDP_A.replace('\n', "\r\n").len();
        format!(
            "INVITE sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{call_id}\n\
             From: <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>\nCall-ID: {call_id}\n\
             CSeq: 7 INVITE\nContact: <sip:alice@127.0.0.9:5060>\nMax-Forwards: 70\n\
             Content-Type: application/sdp\nContent-Length: {length}\n\n{SDP_A}"
        )
    }

    /// The INVITE is on its way.
    pub fn dial(node: &mut TestNode, call_id: &str) -> Self {
        node.udp(CALLER, &Self::request(call_id));
        let invite = sent_to(node, CALLEE).pop().unwrap_or_default();
        assert!(invite.starts_with("INVITE "), "{invite}");
        Self { call_id: call_id.to_owned(), invite, ok: String::new() }
    }

    pub fn ring(&mut self, node: &mut TestNode) {
        let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
        node.udp(CALLEE, &reply_to(&self.invite, 180, "t", contact, ""));
    }

    pub fn answer(&mut self, node: &mut TestNode) {
        let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
        node.udp(CALLEE, &reply_to(&self.invite, 200, "t", contact, SDP_B));
        self.ok = sent_to(node, CALLER).pop().unwrap_or_default();
        assert!(self.ok.starts_with("SIP/2.0 200"), "{}", self.ok);
    }

    pub fn ack(&mut self, node: &mut TestNode) {
        node.udp(CALLER, &self.within("ACK", 7, ""));
    }

    /// A call that has been answered and acknowledged.
    pub fn talk(node: &mut TestNode, call_id: &str) -> Self {
        let mut phones = Self::dial(node, call_id);
        phones.ring(node);
        phones.answer(node);
        phones.ack(node);
        node.sent();
        phones
    }

    /// A request of the caller within the call.
    pub fn within(&self, method: &str, cseq: u32, extra: &str) -> String {
        let route = header(&self.ok, "Record-Route");
        format!(
            "{method} sip:bob@127.0.0.2:5060 SIP/2.0\n\
             Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{}{method}{cseq}\nRoute: {route}\n\
             From: <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>;tag=t\nCall-ID: {}\n\
             CSeq: {cseq} {method}\nMax-Forwards: 70\n{extra}Content-Length: 0\n\n",
            self.call_id, self.call_id
        )
    }

    /// A request of the callee within the call.
    pub fn back(&self, method: &str, cseq: u32, extra: &str) -> String {
        let route = header(&self.ok, "Record-Route");
        format!(
            "{method} sip:alice@127.0.0.9:5060 SIP/2.0\n\
             Via: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKb{}{method}{cseq}\nRoute: {route}\n\
             From: <sip:bob@b.test>;tag=t\nTo: <sip:alice@a.test>;tag=f\nCall-ID: {}\n\
             CSeq: {cseq} {method}\nMax-Forwards: 70\n{extra}Content-Length: 0\n\n",
            self.call_id, self.call_id
        )
    }
}

/// The one dialog that is listed, or null.
pub fn listed(node: &mut TestNode) -> Json {
    node.mi("dialog:list", Json::Null)["result"]["Dialogs"][0].clone()
}

pub fn state(node: &mut TestNode) -> u64 {
    listed(node)["state"].as_u64().unwrap_or(0)
}

/// A statistic of the module.
pub fn stat(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("dialog:{name}");
    let answer = node.mi("statistics:get", json!({ "statistics": [full] }));
    answer["result"][&full].as_u64().unwrap_or(u64::MAX)
}
