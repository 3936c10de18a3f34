//! A node that publishes its calls, two phones around it, and the presence server it speaks to.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use tandem_db::memory::MemoryDb;
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
        &tandem_sipmsgops::MODULE,
        &tandem_dialog::MODULE,
        &tandem_pua::MODULE,
        &tandem_pua_dialoginfo::MODULE,
    ];
    ALL
};

pub const CALLER: &str = "127.0.0.9:5060";
pub const CALLEE: &str = "127.0.0.2:5060";
/// The presence server.
pub const SERVER: &str = "127.0.0.5:5070";
pub const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nlog_level=2\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"rr.so\"\nloadmodule \"sipmsgops.so\"\nloadmodule \"db_sqlite.so\"\n\
    loadmodule \"dialog.so\"\nloadmodule \"pua.so\"\nloadmodule \"pua_dialoginfo.so\"\n\
    modparam(\"pua_dialoginfo\", \"presence_server\", \"sip:127.0.0.5:5070\")\n";

/// A line that sets a parameter.
pub fn set(module: &str, name: &str, value: &str) -> String {
    format!("modparam(\"{module}\", \"{name}\", {value})\n")
}

/// The routes: `initial` runs for the INVITE, `within` for what follows in the call.
pub fn routes(initial: &str, within: &str) -> String {
    format!(
        "route {{\nif (has_totag()) {{ loose_route(); {within} t_relay(); exit; }}\n\
         if ($rm == \"CANCEL\") {{ t_relay(); exit; }}\n\
         {initial}\nrecord_route(); t_relay(); }}\n"
    )
}

pub fn script(params: &str, initial: &str) -> String {
    format!("{MODULE_LINES}{params}\n{}", routes(initial, ""))
}

pub fn node(params: &str, initial: &str) -> TestNode {
    TestNode::new(&script(params, initial), MODULES)
}

pub fn node_with(params: &str, initial: &str, fill: impl FnOnce(&mut MemoryDb)) -> TestNode {
    TestNode::with_database(&script(params, initial), MODULES, fill).unwrap()
}

pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

/// A reply as a phone makes it.
pub fn reply_to(request: &str, code: u16, tag: &str, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => out += &format!("{line}\n"),
            "To" if line.contains("tag=") => out += &format!("{line}\n"),
            "To" => out += &format!("{line};tag={tag}\n"),
            _ => {}
        }
    }
    format!("{out}{extra}Content-Length: 0\n\n")
}

/// What was published: URI, dialog state, side, and the whole request.
#[derive(Clone, Debug)]
pub struct Published {
    pub uri: String,
    pub state: String,
    pub text: String,
}

impl Published {
    fn of(text: &str) -> Self {
        let between = |from: &str, to: &str| {
            let rest = text.split_once(from).map_or("", |(_, rest)| rest);
            rest.split_once(to).map_or("", |(found, _)| found).to_owned()
        };
        let uri = between("PUBLISH ", " SIP/2.0");
        Self { uri, state: between("<state>", "</state>"), text: text.to_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        header(&self.text, name)
    }
}

/// The presence server: answers each PUBLISH with an ETag of its own.
#[derive(Debug, Default)]
pub struct Server {
    pub count: u32,
    /// The code of the next answers; 0: 200.
    pub code: u16,
    pub extra: String,
    /// The most seconds that it keeps something; 0: as long as asked for.
    pub most: u32,
}

impl Server {
    /// Takes what was published and answers it, until nothing comes any more.
    pub fn serve(&mut self, node: &mut TestNode) -> Vec<Published> {
        let mut all = Vec::new();
        loop {
            let mut round = Vec::new();
            for (to, text) in node.sent() {
                if to.to_string() == SERVER && text.starts_with("PUBLISH ") {
                    round.push(text);
                }
            }
            if round.is_empty() {
                return all;
            }
            for text in round {
                all.push(Published::of(&text));
                let reply = self.answer(&text);
                node.udp(SERVER, &reply);
            }
        }
    }

    pub fn answer(&mut self, text: &str) -> String {
        self.count += 1;
        let asked: u32 = header(text, "Expires").parse().unwrap_or(0);
        let expires = if self.most == 0 { asked } else { asked.min(self.most) };
        let ok = format!("SIP-ETag: e{}\nExpires: {expires}\n", self.count);
        match std::mem::take(&mut self.code) {
            0 => reply_to(text, 200, "ps", &ok),
            code => reply_to(text, code, "ps", &self.extra),
        }
    }
}

/// URIs and states, in their order.
pub fn states(all: &[Published]) -> Vec<String> {
    all.iter().map(|p| format!("{} {}", p.uri, p.state)).collect()
}

/// A call between the two phones.
pub struct Phones {
    pub call_id: String,
    /// The INVITE as the callee got it.
    pub invite: String,
    pub route: String,
}

impl Phones {
    pub fn request(call_id: &str) -> String {
        format!(
            "INVITE sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{call_id}\n\
             From: \"Al\" <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>\nCall-ID: {call_id}\n\
             CSeq: 7 INVITE\nContact: <sip:alice@127.0.0.9:5060>\nMax-Forwards: 70\n\
             Content-Length: 0\n\n"
        )
    }

    /// The INVITE is on its way.
    pub fn dial(node: &mut TestNode, call_id: &str) -> Self {
        node.udp(CALLER, &Self::request(call_id));
        Self::of(call_id, node.sent().into_iter().map(|(_, text)| text).collect())
    }

    pub fn of(call_id: &str, sent: Vec<String>) -> Self {
        let invite = sent.into_iter().find(|text| text.starts_with("INVITE ")).unwrap_or_default();
        assert!(!invite.is_empty(), "no INVITE has left");
        let route = header(&invite, "Record-Route").to_owned();
        Self { call_id: call_id.to_owned(), invite, route }
    }

    pub fn reply(&self, code: u16) -> String {
        reply_to(&self.invite, code, "t", "Contact: <sip:bob@127.0.0.2:5060>\n")
    }

    /// A request of the caller within the call.
    pub fn within(&self, method: &str, cseq: u32) -> String {
        format!(
            "{method} sip:bob@127.0.0.2:5060 SIP/2.0\n\
             Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{}{method}{cseq}\nRoute: {}\n\
             From: <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>;tag=t\nCall-ID: {}\n\
             CSeq: {cseq} {method}\nMax-Forwards: 70\nContent-Length: 0\n\n",
            self.call_id, self.route, self.call_id
        )
    }
}

/// Both sides in a state.
pub fn both(state: &str) -> [String; 2] {
    [format!("sip:alice@a.test {state}"), format!("sip:bob@b.test {state}")]
}
