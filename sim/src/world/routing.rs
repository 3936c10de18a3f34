//! Gateways in the world, the operator who switches targets, and what becomes of their states.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_bin::{Framer, Packet, dispatcher, drouting};
use tandem_engine::effect::Input;

use super::World;
use super::queue::Life;
use super::turn::TAG;
use crate::actors::gateway::{Gateway, Way};
use crate::checkers::states::{self, States};
use crate::trace::Who;

impl World {
    pub(super) fn gateway_goes(&mut self, gateway: u32, way: Way) {
        self.say(Who::Network, || format!("gateway {gateway}: {way:?}"));
        if let Some(gateway) = self.gateways.iter_mut().find(|g| g.id == gateway) {
            gateway.way = way;
        }
    }

    /// A datagram for a gateway, if one is there.
    pub(super) fn at_gateway(&mut self, from: SocketAddr, to: SocketAddr, payload: Bytes) {
        let found = self.gateways.iter().find(|g| Gateway::address(g.id) == to);
        if let Some(answer) = found.and_then(|gateway| gateway.receive(payload)) {
            self.send(to, from, &answer);
        }
    }

    /// The operator's command. Stock nodes tell nobody if they do not hold the tag, so that
    /// beside them only the holder is asked.
    pub(super) fn switch(&mut self, node: u32, target: usize, up: bool) {
        let holders = self.views();
        let is_asked = |id: u32| {
            self.options.stock == 0 || holders.iter().any(|v| v.node == id && v.is_active)
        };
        let host = self.hosts.iter().find(|h| h.id == node && h.is_up() && !h.is_stock);
        let Some(of) = host.filter(|h| is_asked(h.id)).map(|h| h.life()) else { return };
        let status = u8::from(up);
        let (method, params) = match target {
            0 => ("drouting:gw_status", json!({"gw_id": "gw4", "status": status})),
            1 => ("drouting:carrier_status", json!({"carrier_id": "car1", "status": status})),
            _ => {
                let state = if up { "a" } else { "i" };
                let address = "sip:10.9.0.4:5060";
                let params = json!({"state": state, "group": "2", "address": address});
                ("dispatcher:set_state", params)
            }
        };
        self.requests += 1;
        let request = self.requests;
        self.say(Who::Operator, || format!("asks node {node}: {method} {params}"));
        let text = json!({"jsonrpc": "2.0", "id": request, "method": method, "params": params});
        self.switching.insert((of, request), (target, up));
        let text = Bytes::from(text.to_string());
        self.deliver(of, 0, Input::Mi { request, text });
    }

    /// Takes the answer to such a command; false: it is to another one.
    pub(super) fn switched(&mut self, of: Life, request: u64, text: &Bytes) -> bool {
        let Some((target, up)) = self.switching.remove(&(of, request)) else { return false };
        let answer: Json = serde_json::from_slice(text).unwrap_or(Json::Null);
        if answer.get("result").and_then(Json::as_str) == Some("OK") {
            self.switches.changed(self.now, of.node, target, up);
            self.counts.commands += 1;
        }
        true
    }

    /// The states that each running node lists.
    fn states(&mut self) -> Vec<(u32, States)> {
        let mut all = Vec::new();
        for node in 1..=self.options.nodes {
            let Some(gateways) = self.ask(node, "drouting:gw_status", json!([])) else { continue };
            let carriers = self.ask(node, "drouting:carrier_status", json!([]));
            let sets = self.ask(node, "dispatcher:list", json!([]));
            let of = |json: Option<Json>| json.unwrap_or(Json::Null);
            all.push((node, states::listed(&gateways, &of(carriers), &of(sets))));
        }
        all
    }

    pub(super) fn look_at_states(&mut self) {
        for (node, states) in self.states() {
            self.switches.seen(node, &states);
        }
    }

    /// The last look at the states.
    pub(super) fn compare_states(&mut self) {
        let all = self.states();
        let count = all.first().map_or(0, |(_, states)| states.len());
        self.say(Who::Checker, || format!("compares {count} states"));
        if count < 9 || all.len() != self.hosts.iter().filter(|h| !h.is_stock).count() {
            self.violate(states::NAME, "not every node tells all states".into());
        }
        let mut found = states::differences(&all);
        let ways: Vec<_> = self.gateways.iter().map(|g| (g.id, g.way)).collect();
        let somebody_probes = self.views().iter().any(|view| view.has_duty);
        let skew = self.skew_ns();
        for (node, states) in &all {
            if somebody_probes {
                let probed: Vec<_> = ways.iter().copied().filter(|(id, _)| *id < 4).collect();
                found.extend(states::untrue(*node, states, &probed));
            }
            // Stock nodes keep nothing for others.
            if self.options.stock == 0 {
                found.extend(self.switches.lost(*node, states, skew));
            }
        }
        found.extend(self.states_of_stock(&all));
        for text in found {
            self.violate(states::NAME, text);
        }
    }

    /// The stock node has the states that the others have, and heard nothing against the rules.
    fn states_of_stock(&self, all: &[(u32, States)]) -> Vec<String> {
        let of_stock = |h: &super::host::Host| Some((h.id, h.stock.as_ref()?.states()));
        let stock: Vec<_> = self.hosts.iter().filter_map(of_stock).collect();
        let heard = self.hosts.iter().filter_map(|h| h.stock.as_ref());
        let mut found: Vec<String> = heard.flat_map(|s| s.heard_wrong().to_vec()).collect();
        // What one stock node loses towards another is no fault of ours.
        if let ([theirs], Some(ours)) = (stock.as_slice(), all.first()) {
            found.extend(states::differences(&[ours.clone(), theirs.clone()]));
        }
        found
    }

    /// Only the holder of the tag tells a stock node of a state.
    pub(super) fn judge_told(&mut self, of: Life, bytes: &Bytes) {
        if !self.options.routing || self.options.stock == 0 {
            return;
        }
        let tags = self.running(of).and_then(|h| h.node().cloned());
        let is_active = tags.is_some_and(|node| {
            node.membership().tags().is_some_and(|tags| tags.is_active(TAG.0, TAG.1))
        });
        if is_active || self.held_before == Some(of) {
            return;
        }
        let mut framer = Framer::default();
        framer.push(bytes);
        while let Ok(Some(frame)) = framer.next_frame() {
            let Ok(packet) = Packet::decode(frame) else { return };
            let (node, of_states) = (of.node, [drouting::CAPABILITY, dispatcher::CAPABILITY]);
            // Others' packets are handed on for them.
            let is_own = packet.trailer.is_some_and(|trailer| trailer.source == node);
            if is_own && of_states.contains(&&packet.capability[..]) {
                let text = format!("node {node} tells of a state without holding service/1");
                self.violate(states::NAME, text);
            }
        }
    }
}
