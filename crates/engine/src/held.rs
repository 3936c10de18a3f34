//! Requests that came before the node can answer them truly: its tables are being loaded, or its
//! peers are telling it what they know. They wait here, in their order, and a copy of one that
//! waits already is let go (RFC 3261 17.1: what is not answered is repeated). Commands to modules
//! wait for the tables as well.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tandem_clock::{MS, Mono, Now};
use tandem_sip::Message;

use crate::context::Source;
use crate::core::stat;
use crate::effect::Out;
use crate::module::Cx;
use crate::node::Node;
use crate::stream::Proxied;
use crate::worker::Worker;

/// Requests that wait for one worker; further ones are dropped and repeated by their senders.
const HELD_MAX: usize = 8_192;
/// The same in bytes.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Commands that wait; further ones are carried out at once.
const COMMANDS_MAX: usize = 1_024;
/// How often a worker looks whether they may be served.
const LOOK_NS: u64 = 2 * MS;
/// Requests that are taken at the end of one batch.
const A_BATCH: usize = 64;

/// Those of one worker.
#[derive(Debug, Default)]
pub(crate) struct Held {
    requests: VecDeque<Request>,
    /// What a copy of one of them hashes to.
    known: BTreeSet<u64>,
    bytes: usize,
    /// Commands with the numbers of their requests.
    commands: VecDeque<(u64, Bytes)>,
    /// When the worker looks after them; means nothing while there are none.
    look_at: Mono,
}

#[derive(Debug)]
struct Request {
    msg: Message,
    source: Source,
    proxied: Option<Proxied>,
}

impl Held {
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        (!self.requests.is_empty() || !self.commands.is_empty()).then_some(self.look_at)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.requests.len() < HELD_MAX && self.bytes.saturating_add(bytes) <= HELD_BYTES_MAX
    }

    fn take(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.bytes = self.bytes.saturating_sub(request.msg.as_bytes().len());
        if self.requests.is_empty() {
            self.known.clear();
        }
        Some(request)
    }
}

impl Node {
    /// Whether requests have to wait.
    pub(crate) fn holds_requests(&self, now: Mono) -> bool {
        self.startup.holds(now) || self.catching_up.holds(now)
    }

    /// Whether a command goes to a module.
    fn asks_module(&self, text: &[u8]) -> bool {
        let json = serde_json::from_slice::<serde_json::Value>(text).unwrap_or_default();
        let name = json.get("method").and_then(serde_json::Value::as_str).unwrap_or_default();
        self.mi.find(name).is_ok_and(|found| found.slot != crate::core::SLOT)
    }
}

/// Keeps a request if it has to wait, or if others still do that came before it; gives it back
/// if it can be served.
pub(crate) fn hold(cx: &mut Cx<'_>, msg: Message, source: Source) -> Option<Message> {
    let held = &cx.worker.held;
    let behind = !held.requests.is_empty() && !cx.worker.releases;
    if cx.worker.from_peer || !(behind || cx.node.holds_requests(cx.now.mono_ns)) {
        return Some(msg);
    }
    let hash = cx.node.tag_key.hash_one((source.addr, msg.as_bytes()));
    if held.known.contains(&hash) {
        return None;
    }
    let bytes = msg.as_bytes().len();
    if !held.has_room(bytes) {
        cx.count_core(stat::DROP_REQUESTS, 1);
        return None;
    }
    let (proxied, now) = (cx.worker.proxied.take(), cx.now.mono_ns);
    let held = &mut cx.worker.held;
    if held.requests.is_empty() {
        held.look_at = now.saturating_add(LOOK_NS);
    }
    held.known.insert(hash);
    held.bytes += bytes;
    held.requests.push_back(Request { msg, source, proxied });
    None
}

impl Worker {
    /// Keeps a command that has to wait; gives it back if it can be carried out. What the node
    /// tells of itself does not wait.
    pub(crate) fn hold_command(&mut self, now: Now, request: u64, text: Bytes) -> Option<Bytes> {
        let node = self.node();
        if self.state.releases || !node.startup.holds(now.mono_ns) || !node.asks_module(&text) {
            return Some(text);
        }
        let held = &mut self.state.held;
        if held.commands.len() >= COMMANDS_MAX {
            return Some(text);
        }
        if held.next_deadline().is_none() {
            held.look_at = now.mono_ns.saturating_add(LOOK_NS);
        }
        held.commands.push_back((request, text));
        None
    }

    fn release_commands(&mut self, now: Now, out: &mut Out) {
        if self.node().startup.holds(now.mono_ns) {
            self.state.held.look_at = now.mono_ns.saturating_add(LOOK_NS);
            return;
        }
        self.state.releases = true;
        while let Some((request, text)) = self.state.held.commands.pop_front() {
            self.management(now, request, text, out);
        }
        self.state.releases = false;
    }

    /// Takes what has waited, as soon as it can be served.
    pub(crate) fn release_held(&mut self, now: Now, out: &mut Out) {
        if !self.state.held.commands.is_empty() {
            self.release_commands(now, out);
        }
        if self.state.held.requests.is_empty() {
            return;
        }
        for _ in 0..A_BATCH {
            if self.node().holds_requests(now.mono_ns) {
                self.state.held.look_at = now.mono_ns.saturating_add(LOOK_NS);
                return;
            }
            let Some(Request { msg, source, proxied }) = self.state.held.take() else { return };
            self.set_proxied(proxied);
            self.state.releases = true;
            self.message(now, msg, source, out);
            self.state.releases = false;
        }
        self.state.held.look_at = now.mono_ns;
    }
}
