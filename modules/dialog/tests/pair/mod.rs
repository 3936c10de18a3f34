//! Two nodes with one service address, and two phones.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

pub mod checks;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tandem_dialog::{Dialog, Dialogs, State};
use tandem_engine::testing::Nodes;
use tandem_engine::worker::Worker;

use crate::common::{CALLEE, CALLER, MODULES, Phones, SDP_B, first_line, reply_to, set};

/// The nodes, counted from 0.
pub struct Pair(pub Nodes);

impl Deref for Pair {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0
    }
}

impl DerefMut for Pair {
    fn deref_mut(&mut self) -> &mut Nodes {
        &mut self.0
    }
}

/// The script of a node; `initial` runs for the INVITE.
pub fn script(id: u32, params: &str, initial: &str) -> String {
    let other = 3 - id;
    let (seed, tag) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    format!(
        "log_level = 3\nsocket = udp:127.0.9.1:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         loadmodule \"db_sqlite.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\n\
         loadmodule \"sipmsgops.so\"\nloadmodule \"statistics.so\"\nloadmodule \"dialog.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={tag}\")\n\
         {params}\nroute {{\n\
         if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         if ($rm == \"CANCEL\") {{ t_relay(); exit; }}\n\
         create_dialog(); {initial}\nrecord_route(); t_relay(); }}\n"
    )
}

impl Pair {
    /// Two nodes that have the same dialogs, joined and in step.
    pub fn new(params: &str, initial: &str) -> Self {
        let params = set("dialog_replication_cluster", "1") + params;
        Self::of(vec![script(1, &params, initial), script(2, &params, initial)])
    }

    pub fn of(scripts: Vec<String>) -> Self {
        let mut nodes = Nodes::asleep(MODULES, scripts);
        nodes.watch(answered);
        nodes.boot_all();
        nodes.advance_ms(12_000);
        Self(nodes)
    }

    pub fn dialogs(&self, at: usize) -> Arc<Dialogs> {
        self.node(at).find::<Dialogs>().map(|(_, dialogs)| dialogs).unwrap()
    }

    /// All dialogs of a node as they are, without what is one node's own.
    pub fn all(&self, at: usize) -> Vec<Dialog> {
        let dialogs = self.dialogs(at);
        let all = dialogs.table.ids().into_iter();
        all.filter_map(|id| dialogs.read(id, Dialog::clone)).collect()
    }

    pub fn states(&self, at: usize) -> Vec<State> {
        self.all(at).iter().map(|d| d.state).collect()
    }

    /// What a node sent to an address since the last call.
    pub fn sent_to(&mut self, at: usize, to: &str) -> Vec<String> {
        let sent = std::mem::take(&mut self.0.datagrams);
        let mine = sent.into_iter().filter(|(n, addr, _)| *n == at && addr.to_string() == to);
        mine.map(|(.., text)| text).collect()
    }

    /// A call through a node that has been answered and acknowledged.
    pub fn talk(&mut self, at: usize, call_id: &str) -> Phones {
        let phones = self.answer(at, call_id);
        self.udp(at, CALLER, &phones.within("ACK", 7, ""));
        self.advance_ms(100);
        phones
    }

    /// The same without the ACK.
    pub fn answer(&mut self, at: usize, call_id: &str) -> Phones {
        self.udp(at, CALLER, &Phones::request(call_id));
        let invite = self.sent_to(at, CALLEE).pop().unwrap();
        let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
        self.udp(at, CALLEE, &reply_to(&invite, 200, "t", contact, SDP_B));
        self.advance_ms(50);
        let ok = self.sent_to(at, CALLER).pop().unwrap();
        assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
        Phones { call_id: call_id.to_owned(), invite, ok }
    }

    /// The caller hangs up through a node; what the callee got and what the caller got.
    pub fn hang_up(&mut self, at: usize, phones: &Phones) -> (String, String) {
        self.udp(at, CALLER, &phones.within("BYE", 8, ""));
        let bye = self.sent_to(at, CALLEE).pop().unwrap_or_default();
        if !bye.is_empty() {
            self.udp(at, CALLEE, &reply_to(&bye, 200, "t", "", ""));
            self.advance_ms(50);
        }
        (bye, self.sent_to(at, CALLER).pop().unwrap_or_default())
    }
}

/// Dialogs that are answered and go on.
fn answered(worker: &Worker) -> usize {
    worker.node().find::<Dialogs>().map_or(0, |(_, dialogs)| dialogs.active())
}
