//! What the checkers see of the nodes.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::SEC;
use tandem_cluster::PeerKind;
use tandem_engine::effect::{Effect, Input, Out};

use super::turn::{TAG, has_duty, host_now};
use super::{LOOK_NS, World};
use crate::checkers::holder::{self, View};
use crate::checkers::lost::{self, Presence};
use crate::checkers::{cdr, dialogs, duty, equal, lamps, watching};
use crate::faults::Fault;
use crate::trace::Who;

/// A ping that nobody has the duty to send goes here: nobody is there.
const NOWHERE: &str = "198.51.100.251:9";

impl World {
    /// The regular look: the tag every time, the registrations once a second.
    pub(super) fn look(&mut self) {
        let views = self.views();
        // A cut that the nodes have not noticed yet is a cut all the same.
        if !self.network.is_whole() {
            self.holder.disturbed();
        }
        if let Some(text) = self.holder.look(self.now, &views) {
            self.violate(holder::NAME, text);
        }
        if self.now % SEC < LOOK_NS {
            let presence = self.presence();
            self.find_lost(&presence);
            self.recount();
            if self.options.routing {
                self.look_at_states();
            }
        }
        if self.now >= self.half && self.now < self.half + LOOK_NS {
            self.plant();
        }
    }

    /// The counters of calls are those of a recount, at any time.
    fn recount(&mut self) {
        for node in 1..=self.options.nodes {
            let names = json!([["dialog:active_dialogs", "dialog:early_dialogs"]]);
            let Some(list) = self.ask(node, "dialog:list_ctx", json!([])) else { continue };
            let Some(counts) = self.ask(node, "get_statistics", names) else { continue };
            let count = |name: &str| counts[name].as_u64().unwrap_or(u64::MAX);
            let (active, early) = (count("dialog:active_dialogs"), count("dialog:early_dialogs"));
            if let Some(text) = dialogs::miscounted(&list, active, early) {
                self.violate(dialogs::NAME, format!("node {node} {text}"));
            }
        }
    }

    /// Faults that happen once.
    fn plant(&mut self) {
        let Some(Fault::PingFrom { node }) = self.fault else { return };
        let Some(host) = self.hosts.iter().find(|h| h.id == node && h.is_up()) else { return };
        let entitled = host.process.as_ref().is_some_and(|p| has_duty(&p.observer));
        let (from, ping) = (host.sip, Bytes::from_static(&[0; 4]));
        if let (Some(what), false) = (duty::self_initiated(&ping), entitled) {
            let text = format!("node {node} sent {what} to {NOWHERE} without holding service/1");
            self.violate(duty::NAME, text);
        }
        if let Ok(to) = NOWHERE.parse() {
            self.send(from, to, &ping);
        }
    }

    pub(super) fn find_lost(&mut self, presence: &Presence) {
        for text in self.lost.look(self.now, presence) {
            self.violate(lost::NAME, text);
        }
    }

    /// The last look: all nodes have the same registrations.
    pub(super) fn look_for_the_last_time(&mut self) {
        self.look();
        let presence = self.presence();
        self.find_lost(&presence);
        let dumps: Vec<equal::Dump> = (1..=self.options.nodes)
            .filter_map(|node| {
                let dump = self.ask(node, "ul_dump", json!([]))?;
                let host = self.hosts.iter().find(|h| h.id == node)?;
                Some(equal::Dump { node, unix_s: host_now(self, host).unix_s(), dump })
            })
            .collect();
        if dumps.len() != self.hosts.iter().filter(|h| !h.is_stock).count() {
            self.violate(equal::NAME, "not every node tells what it has".into());
        }
        for dump in &dumps {
            let listed = equal::listed(&dump.dump).len();
            self.trace.feed(self.now, b'd', dump.dump.to_string().as_bytes());
            self.say(Who::Node(dump.node), || format!("has {listed} contacts"));
        }
        let owed = self.lost.len();
        self.say(Who::Checker, || format!("{owed} registrations are owed, compares the nodes"));
        for text in equal::differences(&dumps) {
            self.violate(equal::NAME, text);
        }
        self.compare_calls();
        if self.options.routing {
            self.compare_states();
        }
        let seen: Vec<_> = self.phones.iter().map(|phone| phone.watched(self.now)).collect();
        let live = seen.iter().filter(|seen| seen.watches.is_some()).count();
        self.say(Who::Checker, || format!("{live} phones watch another"));
        for text in watching::findings(&seen) {
            self.violate(watching::NAME, text);
        }
        // The database has what was published, and none has the calls.
        if self.options.lamps
            && !self.has_been_dark
            && let Some(list) = self.ask(1, "dialog:list_ctx", json!([]))
        {
            let up = lamps::on_the_phone(&list);
            self.say(Who::Checker, || format!("{} are on the phone", up.len()));
            for text in lamps::findings(&seen, &up) {
                self.violate(lamps::NAME, text);
            }
        }
        let of_stock = |h: &super::host::Host| {
            Some((h.id, h.stock.as_ref()?.listed(host_now(self, h).unix_s())))
        };
        let stock: Vec<_> = self.hosts.iter().filter_map(of_stock).collect();
        for (node, listed) in stock {
            let has = listed.len();
            self.say(Who::Node(node), || format!("has {has} contacts, a stock node"));
            let gone = |key: &(String, String)| self.lost.has_left(key);
            for text in equal::differences_to_stock(&dumps, node, &listed, gone) {
                self.violate(equal::NAME, text);
            }
        }
    }

    /// All nodes have the same calls.
    fn compare_calls(&mut self) {
        // A call counts where its tag is held; a stock node that has started again holds none.
        let is_held = self.options.stock == 0 || self.views().iter().any(|v| v.is_active);
        let told: Vec<dialogs::Told> = (1..=self.options.nodes)
            .filter_map(|node| {
                let list = self.ask(node, "dialog:list_ctx", json!([]))?;
                let size = self.ask(node, "dialog:profile_get_size", json!(["calls/b"]))?;
                let size = size["Profile"]["count"].as_u64()?;
                let size = (self.options.stock < 2 && is_held).then_some(size);
                let host = self.hosts.iter().find(|h| h.id == node)?;
                Some(dialogs::Told { node, unix_s: host_now(self, host).unix_s(), list, size })
            })
            .collect();
        if told.len() != self.hosts.iter().filter(|h| !h.is_stock).count() {
            self.violate(dialogs::NAME, "not every node tells what it has".into());
        }
        for told in &told {
            let ids: Vec<String> = dialogs::call_ids(&told.list).collect();
            self.trace.feed(self.now, b'c', told.list.to_string().as_bytes());
            let text = || format!("has {} calls: {}", ids.len(), ids.join(", "));
            self.say(Who::Node(told.node), text);
        }
        for text in dialogs::findings(&told) {
            self.violate(dialogs::NAME, text);
        }
        self.compare_calls_of_stock(&told);
        let rows = cdr::rows(&mut self.db);
        let count = rows.rows.len();
        self.say(Who::Checker, || format!("{count} calls are billed"));
        let up: BTreeSet<String> = told.iter().flat_map(|t| dialogs::call_ids(&t.list)).collect();
        let mut found = cdr::repeated(&rows);
        // Stock nodes promise nothing.
        if self.options.stock == 0 {
            found.extend(self.calls.findings(&rows, &up, self.skew_ns()));
        }
        for text in found {
            self.violate(cdr::NAME, text);
        }
    }

    /// A stock node has the calls that the others have.
    fn compare_calls_of_stock(&mut self, told: &[dialogs::Told]) {
        let of_stock = |h: &super::host::Host| Some((h.id, h.stock.as_ref()?.calls()));
        let stock: Vec<_> = self.hosts.iter().filter_map(of_stock).collect();
        // What one stock node loses towards another is no fault of ours.
        let judges = stock.len() == 1;
        for (node, calls) in stock {
            let ids: Vec<&str> = calls.keys().map(String::as_str).collect();
            let text = || format!("has {} calls, a stock node: {}", ids.len(), ids.join(", "));
            self.say(Who::Node(node), text);
            let lost = |id: &str| self.calls.end_may_be_lost(id);
            for text in dialogs::differences_to_stock(told, node, &calls, lost) {
                if judges {
                    self.violate(dialogs::NAME, text);
                }
            }
        }
    }

    /// What each running node has.
    pub(super) fn presence(&mut self) -> Presence {
        let up: Vec<_> = self.hosts.iter().filter(|h| h.is_up()).map(|h| h.life()).collect();
        let listed = |of: super::Life, dump: Json| (of, equal::listed(&dump));
        up.into_iter()
            .filter_map(|of| Some(listed(of, self.ask(of.node, "ul_dump", json!([]))?)))
            .collect()
    }

    /// What each running node says of the tag and of its links.
    pub(super) fn views(&self) -> Vec<View> {
        let running = self.hosts.iter().filter_map(|h| Some((h, h.process.as_ref()?)));
        running
            .map(|(host, process)| {
                let membership = process.node.membership();
                let tags = membership.tags();
                let is_active = tags.is_some_and(|t| t.is_active(TAG.0, TAG.1));
                let status = membership.status();
                let nodes = status.into_iter().flat_map(|s| s.clusters).flat_map(|c| c.nodes);
                let is_known = |kind: PeerKind, node| match kind {
                    PeerKind::Tandem { .. } => true,
                    PeerKind::Stock => self.options.is_stock(node),
                    PeerKind::Unproven => false,
                };
                let linked = nodes
                    .filter(|n| n.link_state == "Up" && is_known(n.kind, n.node))
                    .map(|n| n.node)
                    .collect();
                let has_duty = has_duty(&process.observer);
                View { node: host.id, is_stock: false, is_active, has_duty, linked }
            })
            .chain(self.stock_views())
            .collect()
    }

    /// Puts a question to a node from outside; nothing in the node changes by it.
    pub(super) fn ask(&mut self, node: u32, method: &str, params: Json) -> Option<Json> {
        let is_late = self.now >= self.half;
        let now = self.now;
        let fault = self.fault;
        let host = self.host(node)?;
        let now = host.clock.at(now);
        let observer = &mut host.process.as_mut()?.observer;
        let mut question = json!({"jsonrpc": "2.0", "id": 1, "method": method});
        if params.as_array().is_some_and(|all| !all.is_empty()) {
            question["params"] = params;
        }
        let text = question.to_string();
        let mut out = Out::default();
        observer.step(now, Input::Mi { request: u64::MAX, text: Bytes::from(text) }, &mut out);
        let answer = out.effects.into_iter().find_map(|effect| match effect {
            Effect::MiReply { text, .. } => serde_json::from_slice::<Json>(&text).ok(),
            _ => None,
        });
        let result = answer?.get("result").cloned()?;
        Some(match fault {
            Some(fault) => fault.on_dump(node, is_late, result),
            None => result,
        })
    }
}
