//! Two nodes with one service address.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tandem_engine::testing::Nodes;
use tandem_presence::{Presence, Publication, Subscription};

use crate::common::*;

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

/// The script of a node; the tag `vip` is node 1's.
pub fn script(id: u32, params: &str) -> String {
    let other = 3 - id;
    let (seed, tag) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    format!(
        "log_level = 3\nsocket = udp:127.0.9.1:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         loadmodule \"db_sqlite.so\"\nloadmodule \"clusterer.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"presence.so\"\n\
         loadmodule \"test_packages.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={tag}\")\n\
         modparam(\"presence\", \"cluster_id\", 1)\n{params}\nroute {{\n\
         if ($rm == \"PUBLISH\") {{ handle_publish(); exit; }}\n\
         if ($rm == \"SUBSCRIBE\") {{ handle_subscribe( , \"vip\"); exit; }}\n }}\n"
    )
}

impl Pair {
    pub fn new(params: &str) -> Self {
        let mut nodes = Nodes::new(MODULES, vec![script(1, params), script(2, params)]);
        nodes.advance_ms(12_000);
        Self(nodes)
    }

    pub fn presence(&self, at: usize) -> Arc<Presence> {
        self.node(at).find::<Presence>().map(|(_, presence)| presence).unwrap()
    }

    /// NOTIFYs that any node sent since the last call, with the node; they are answered where they
    /// came from, if `answers`.
    pub fn notified(&mut self, answers: bool) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        loop {
            let sent = std::mem::take(&mut self.0.datagrams);
            let new: Vec<_> = sent
                .into_iter()
                .filter(|(.., text)| text.starts_with("NOTIFY "))
                .map(|(at, _, text)| (at, text))
                .collect();
            if new.is_empty() {
                once(&mut all);
                return all;
            }
            for (at, text) in new.iter().filter(|_| answers) {
                self.0.udp(*at, WATCHER, &reply_to(text, 200));
            }
            all.extend(new);
        }
    }

    /// Everything that a node knows, as text that does not depend on the node.
    pub fn all(&self, at: usize) -> (Vec<Publication>, Vec<Subscription>) {
        self.presence(at).table.everything()
    }

    /// Subscribes through a node; the NOTIFYs are left.
    pub fn subscribe(&mut self, at: usize, watcher: &mut Watcher, extra: &str) -> String {
        let text = watcher.subscribe(extra);
        self.udp(at, WATCHER, &text);
        self.advance_ms(50);
        let is_reply = |text: &str| text.starts_with("SIP/2.0");
        let found = self.0.datagrams.iter().rposition(|(n, _, t)| *n == at && is_reply(t));
        let reply = found.map(|n| self.0.datagrams.remove(n).2).unwrap_or_default();
        if reply.starts_with("SIP/2.0 20") {
            watcher.to_tag = tag(header(&reply, "To")).to_owned();
        }
        reply
    }

    pub fn publish(&mut self, at: usize, text: &str) -> String {
        self.udp(at, PHONE, text);
        self.advance_ms(50);
        let found = self.0.datagrams.iter().rposition(|(n, to, text)| {
            *n == at && to.to_string() == PHONE && text.starts_with("SIP/2.0")
        });
        found.map(|n| self.0.datagrams.remove(n).2).unwrap_or_default()
    }

    pub fn take_over(&mut self) {
        let answer = self.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
        assert!(answer["result"].as_str().unwrap_or("").starts_with("OK"), "{answer}");
    }
}
