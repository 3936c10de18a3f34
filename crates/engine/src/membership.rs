//! The node's place in its clusters: the cluster machine, and what its effects mean here.
//!
//! Any worker may append changes and ask for an activation; only one worker, the driver, carries
//! effects out, so the order in which the machine wrote to a connection is the order on the wire.
//! It is worker 0 unless [`Membership::drive_from`] names another, which then has the streams;
//! what walks over whole tables stays with worker 0.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Mono, Now};
use tandem_cluster::{
    ActivationId, CapId, CapState, ClusterError, Clusterer, Config, Effect as ClusterEffect,
    Effects, Level as ClusterLevel, Reason, Status, TagTable,
};

use crate::bin_links::{BinLink, BinLinks};
use crate::effect::{BinInput, Effect};
use crate::gate::GateMode;
use crate::log::Level;
use crate::module::{Cx, Module};
use crate::node::Slot;
use crate::outbox::Outbox;
use crate::replication::{Incoming, Replicated};

/// Rounds of effects that lead to effects; above it the rest waits for the next step.
const ROUNDS_MAX: usize = 64;
/// Questions that may wait for worker 0; as many as the machine remembers.
const QUESTIONS_MAX: usize = 1024;

/// What a flush did.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// The cluster and mark that a gate waits for; `None`: no peer will acknowledge.
    pub(crate) mark: Option<(u32, u64)>,
    /// The driver has something to write.
    pub(crate) has_output: bool,
    /// Why changes could not be replicated (too large for a packet).
    pub(crate) lost: Vec<String>,
}

/// The cluster machine of a node, absent while its configuration is being loaded, and for ever
/// in a node without a cluster.
pub struct Membership {
    node_id: u32,
    gate_mode: GateMode,
    inner: Mutex<Inner>,
    tags: OnceLock<Arc<TagTable>>,
    driver: AtomicUsize,
    /// Questions over whole tables that the driver leaves to worker 0.
    questions: Mutex<VecDeque<ClusterEffect>>,
    links: BinLinks,
}

#[derive(Default)]
struct Inner {
    machine: Option<Clusterer>,
    effects: Effects,
    /// Something ran on the machine since the driver's last turn: there may be effects, or an
    /// earlier deadline.
    touched: bool,
    caps: Vec<Capability>,
    /// The cluster of the last change, and its mark.
    mark: (u32, u64),
}

/// Which module a capability belongs to.
#[derive(Clone, Copy)]
struct Capability {
    id: CapId,
    slot: u16,
    part: u8,
    cluster: u32,
}

/// The capabilities of a module, by their part.
fn capabilities(module: &dyn Module) -> impl Iterator<Item = (u8, &dyn Replicated)> {
    [(0, module.replicated()), (1, module.replicated_too())]
        .into_iter()
        .filter_map(|(part, records)| Some((part, records?)))
}

impl Membership {
    pub(crate) fn new(slots: &[Slot]) -> Self {
        let identity = slots.iter().filter_map(|s| s.state.as_ref()?.identity()).next();
        let (node_id, gate_mode) = identity.unwrap_or((0, GateMode::Off));
        Self {
            node_id,
            gate_mode,
            inner: Mutex::default(),
            tags: OnceLock::new(),
            driver: AtomicUsize::new(0),
            questions: Mutex::default(),
            links: BinLinks::default(),
        }
    }

    /// Names the worker that carries effects out, and steps with what the streams bring. Before
    /// the node starts.
    pub fn drive_from(&self, worker: usize) {
        self.driver.store(worker, Ordering::Release);
    }

    pub(crate) fn is_driver(&self, worker: usize) -> bool {
        self.driver.load(Ordering::Acquire) == worker
    }

    /// Whether worker 0 has to be stepped to answer a question of the machine.
    pub fn has_questions(&self) -> bool {
        !self.questions.lock().is_empty()
    }

    /// Answers what the driver left. Worker 0 only.
    pub(crate) fn answer_questions(&self, cx: &mut Cx<'_>) {
        loop {
            let Some(question) = self.questions.lock().pop_front() else { return };
            self.answer(cx, question);
            self.turn(cx);
        }
    }

    /// The BIN connections, to be shown.
    pub(crate) fn links(&self) -> Vec<BinLink> {
        self.links.list()
    }

    /// This node's id; 0 without a cluster.
    pub fn node_id(&self) -> u32 {
        self.node_id
    }

    pub(crate) fn gate_mode(&self) -> GateMode {
        self.gate_mode
    }

    /// Who holds which tag; `None` before the cluster is configured, and without one.
    pub fn tags(&self) -> Option<&Arc<TagTable>> {
        self.tags.get()
    }

    /// Whether a cluster is configured.
    pub fn is_configured(&self) -> bool {
        self.tags.get().is_some()
    }

    /// Everything `status` and the clusterer's commands show.
    pub fn status(&self) -> Option<Status> {
        self.inner.lock().machine.as_ref().map(Clusterer::status)
    }

    /// Whether this node alone has changes that a peer may have in a moment; see
    /// [`Clusterer::has_to_hand_over`].
    pub fn has_to_hand_over(&self, now: Now) -> bool {
        self.inner.lock().machine.as_ref().is_some_and(|m| m.has_to_hand_over(now))
    }

    /// Configures the machine and starts it; called once, by the clusterer module.
    pub fn configure(&self, cx: &mut Cx<'_>, config: Config) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let mut machine = Clusterer::new(config);
        let _ = self.tags.set(machine.table());
        for (slot, _, module) in cx.node.loaded() {
            for (part, records) in capabilities(module.as_ref()) {
                let (cluster, name) = (records.cluster(), records.capability());
                match machine.register_capability(cluster, name, records.startup_sync()) {
                    Ok(id) => {
                        if records.replaces() {
                            machine.records_replace(id);
                        }
                        if !records.syncs_with_stock() {
                            machine.only_tandem_syncs(id);
                        }
                        inner.caps.push(Capability { id, slot, part, cluster });
                    }
                    Err(e) => cx.out.log(Level::Error, format!("{name}: {e}")),
                }
            }
        }
        if let Some(key) = cx.node.loaded().find_map(|(_, _, module)| module.nonce_key()) {
            machine.set_nonce_key(key);
        }
        machine.set_node_key(cx.now, cx.node.keys.own(), &mut inner.effects);
        machine.start(cx.now, &mut inner.effects);
        if machine.awaits_records() {
            cx.node.catching_up.meet(cx.now.mono_ns);
        }
        inner.touched = true;
        inner.machine = Some(machine);
    }

    /// Has peers told the key of this node.
    pub(crate) fn tell_key(&self, now: Now, key: Bytes) {
        self.with(|machine, out| machine.set_node_key(now, key, out));
    }

    /// Runs something on the machine; its effects are carried out by worker 0.
    pub fn with<R>(&self, run: impl FnOnce(&mut Clusterer, &mut Effects) -> R) -> Option<R> {
        let mut inner = self.inner.lock();
        let Inner { machine, effects, touched, .. } = &mut *inner;
        *touched = true;
        machine.as_mut().map(|machine| run(machine, effects))
    }

    /// Sends a packet of a module's capability to one node of its cluster; `false` if it cannot be
    /// reached. It is no change of a record: nobody repeats it.
    pub fn send_to(&self, cx: &mut Cx<'_>, to: u32, kind: u32, payload: &Bytes) -> bool {
        self.send_versioned(cx, to, (kind, 0), payload)
    }

    /// The same, with the version of the packet behind its type.
    pub fn send_versioned(
        &self,
        cx: &mut Cx<'_>,
        to: u32,
        (kind, version): (u32, u16),
        payload: &Bytes,
    ) -> bool {
        let (now, slot) = (cx.now, cx.slot);
        let stamp = cx.node.outbox.stamp(now);
        let sent = {
            let mut inner = self.inner.lock();
            let Inner { machine, effects, caps, touched, .. } = &mut *inner;
            let cap = caps.iter().find(|c| c.slot == slot).map(|c| c.id);
            *touched = true;
            machine.as_mut().zip(cap).is_some_and(|(machine, cap)| {
                machine.send_to(now, cap, to, kind, version, payload, stamp, effects).is_ok()
            })
        };
        cx.out.push(Effect::Wake);
        sent
    }

    /// Sends a packet of a module's capability over the bridges of its cluster, if this node holds
    /// their tags; gives how many bridges these are.
    pub fn send_over_bridges(
        &self,
        cx: &mut Cx<'_>,
        kind: u32,
        version: u16,
        payload: &Bytes,
    ) -> usize {
        let cap = self.capability(cx.slot, 0);
        let sent = cap.and_then(|cap| {
            self.with(|m, out| m.send_over_bridges(cap, kind, version, payload, out).unwrap_or(0))
        });
        self.wake_driver(cx);
        sent.unwrap_or(0)
    }

    /// A capability of a module, by its part (see [`crate::outbox::Record::part`]).
    pub fn capability(&self, slot: u16, part: u8) -> Option<CapId> {
        let inner = self.inner.lock();
        inner.caps.iter().find(|c| (c.slot, c.part) == (slot, part)).map(|c| c.id)
    }

    /// Asks a synced node for all records of the module; false: there is no cluster.
    pub fn request_sync(&self, cx: &mut Cx<'_>) -> bool {
        let (now, cap) = (cx.now, self.capability(cx.slot, 0));
        let asked = cap.and_then(|cap| self.with(|m, out| m.request_sync(now, cap, out)));
        self.wake_driver(cx);
        asked.is_some()
    }

    /// The other nodes of a cluster that are not disabled.
    pub fn others(&self, cluster: u32) -> Vec<u32> {
        self.with(|machine, _| machine.others(cluster)).unwrap_or_default()
    }

    /// Activates a tag; the result comes as [`ClusterEffect::Activated`].
    pub fn activate(
        &self,
        cx: &mut Cx<'_>,
        tag: &str,
        cluster: u32,
        reason: Reason,
    ) -> Option<Result<ActivationId, ClusterError>> {
        let now = cx.now;
        let id = self.with(|machine, out| machine.activate_tag(now, tag, cluster, reason, out));
        self.wake_driver(cx);
        id
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.inner.lock().machine.as_ref().and_then(Clusterer::next_deadline)
    }

    pub(crate) fn bin(&self, cx: &mut Cx<'_>, event: BinInput) {
        let now = cx.now;
        self.links.heard(&event);
        self.with(|machine, out| match event {
            BinInput::Accepted { conn, peer } => machine.handle_accepted(now, conn, peer.ip(), out),
            BinInput::Connected { conn, .. } => machine.handle_connected(now, conn, out),
            BinInput::ConnectFailed { conn } => machine.handle_connect_failed(now, conn, out),
            BinInput::Data { conn, bytes } => machine.handle_bytes(now, conn, &bytes, out),
            BinInput::Closed { conn } => machine.handle_closed(now, conn, out),
        });
        self.turn(cx);
    }

    pub(crate) fn persisted(&self, cx: &mut Cx<'_>, token: u64, result: Result<(), String>) {
        if let Err(e) = &result {
            cx.log(Level::Warning, format!("the sharing tags could not be saved: {e}"));
        }
        let now = cx.now;
        self.with(|machine, out| machine.persisted(now, token, result.is_ok(), out));
        self.turn(cx);
    }

    pub(crate) fn addresses(&self, cx: &mut Cx<'_>, addresses: &[(IpAddr, bool)]) {
        let now = cx.now;
        self.with(|machine, out| machine.set_addresses(now, addresses, out));
        self.turn(cx);
    }

    /// Hands the outbox to the machine. Draining with the machine's lock held keeps two workers
    /// from overtaking each other.
    pub(crate) fn flush(&self, now: Now, outbox: &Outbox) -> Flushed {
        let mut inner = self.inner.lock();
        let Inner { machine, effects, caps, mark, .. } = &mut *inner;
        let Some(machine) = machine else {
            outbox.drain(drop);
            return Flushed::default();
        };
        let mut lost = Vec::new();
        outbox.drain(|record| {
            let is_it = |c: &&Capability| (c.slot, c.part) == (record.slot, record.part);
            let Some(cap) = caps.iter().find(is_it) else { return };
            match machine.broadcast_change(now, cap.id, &record.change, effects) {
                Ok(done) => *mark = (cap.cluster, done.mark),
                Err(e) => lost.push(e.to_string()),
            }
        });
        machine.flush(effects);
        let gate = machine.can_acknowledge(mark.0).then_some(*mark);
        Flushed { mark: gate, has_output: !effects.is_empty(), lost }
    }

    /// Lets the driver look at the machine, if another worker did something with it.
    pub(crate) fn wake_driver(&self, cx: &mut Cx<'_>) {
        if !self.is_driver(cx.worker.id) && std::mem::take(&mut self.inner.lock().touched) {
            cx.out.push(Effect::Wake);
        }
    }

    /// Lets time pass and carries out what the machine wants; on another worker than the driver
    /// it only wakes that one.
    pub(crate) fn turn(&self, cx: &mut Cx<'_>) {
        if !self.is_driver(cx.worker.id) {
            return self.wake_driver(cx);
        }
        for _ in 0..ROUNDS_MAX {
            let batch: Vec<ClusterEffect> = {
                let mut inner = self.inner.lock();
                let Inner { machine, effects, touched, .. } = &mut *inner;
                let Some(machine) = machine else { return };
                *touched = false;
                if machine.next_deadline().is_some_and(|at| at <= cx.now.mono_ns) {
                    machine.handle_timeout(cx.now, effects);
                }
                cx.node.outbox.set_stock(machine.has_stock());
                effects.drain().collect()
            };
            if batch.is_empty() {
                break;
            }
            for effect in batch {
                self.carry_out(cx, effect);
            }
        }
        self.abandon_gates(cx);
        let catching_up = &cx.node.catching_up;
        let awaits = || self.inner.lock().machine.as_ref().is_some_and(Clusterer::awaits_records);
        if catching_up.meets() && !awaits() {
            catching_up.met();
        }
    }

    /// Where nobody is left who could acknowledge, what waits leaves now.
    fn abandon_gates(&self, cx: &mut Cx<'_>) {
        let node = Arc::clone(cx.node);
        let mut gates = node.gates.lock();
        for (cluster, gate) in gates.iter_mut().filter(|(_, g)| !g.is_empty()) {
            let inner = self.inner.lock();
            if inner.machine.as_ref().is_none_or(|m| !m.can_acknowledge(*cluster)) {
                gate.abandon(|gated| cx.go_on(gated));
            }
        }
    }

    fn carry_out(&self, cx: &mut Cx<'_>, effect: ClusterEffect) {
        match effect {
            ClusterEffect::Connect { conn, peer, local_ip } => {
                self.links.connecting(conn, peer);
                cx.out.push(Effect::BinConnect { conn, peer, local_ip });
            }
            ClusterEffect::Write { conn, bytes } => cx.out.push(Effect::BinWrite { conn, bytes }),
            ClusterEffect::Close { conn } => cx.out.push(Effect::BinClose { conn }),
            ClusterEffect::Persist { token, bytes } => {
                let token = crate::module::with_slot(cx.slot, token);
                cx.out.push(Effect::WriteFile { token, name: "tags".into(), bytes });
            }
            ClusterEffect::Log { level, text } => cx.log(log_level(level), text),
            ClusterEffect::Acked { cluster, mark, .. } => {
                let node = Arc::clone(cx.node);
                let mut gates = node.gates.lock();
                gates.entry(cluster).or_default().acknowledge(mark, |gated| cx.go_on(gated));
            }
            ClusterEffect::Deliver {
                source, cap, packet_type, version, payload, stamp, ..
            } => {
                if let Some(stamp) = stamp {
                    cx.node.outbox.hear(cx.now, stamp);
                }
                let change = Incoming { source, kind: packet_type, version, payload, stamp };
                self.on_records(cx, cap, |cx, records| records.apply(cx, change));
            }
            ClusterEffect::DeliverSync { source, cap, form, version, records, .. } => {
                self.on_records(cx, cap, |cx, r| r.merge(cx, source, form, version, records));
            }
            question @ (ClusterEffect::SnapshotWanted { .. }
            | ClusterEffect::DigestsWanted { .. }
            | ClusterEffect::ListingWanted { .. }
            | ClusterEffect::ReplayWanted { .. }) => {
                if cx.worker.id == 0 {
                    self.answer(cx, question);
                } else {
                    let mut questions = self.questions.lock();
                    if questions.len() >= QUESTIONS_MAX {
                        // The machine asks again.
                        questions.pop_front();
                    }
                    questions.push_back(question);
                }
            }
            news => {
                if let ClusterEffect::CapState { cluster, cap, state, .. } = &news {
                    let (now, started) = (cx.now.mono_ns, cx.node.started.mono_ns);
                    let under_way = *state == CapState::InProgress;
                    cx.node.catching_up.note(now, started, (*cluster, *cap), under_way);
                }
                self.tell(cx, &news);
            }
        }
    }

    /// Questions to the owner of a capability.
    fn answer(&self, cx: &mut Cx<'_>, question: ClusterEffect) {
        let now = cx.now;
        match question {
            ClusterEffect::SnapshotWanted { request, cap, form, buckets, .. } => {
                let snapshot = self
                    .on_records(cx, cap, |cx, r| r.snapshot(cx, form, buckets.as_deref()))
                    .unwrap_or_default();
                self.with(|machine, out| machine.snapshot_ready(now, request, snapshot, out));
            }
            ClusterEffect::DigestsWanted { request, cap, .. } => {
                let digests = self.on_records(cx, cap, |_, r| r.digests(now)).unwrap_or_default();
                self.with(|machine, out| machine.digests_ready(now, request, digests, out));
            }
            ClusterEffect::ListingWanted { request, cap, buckets, .. } => {
                let entries =
                    self.on_records(cx, cap, |cx, r| r.listing(cx, &buckets)).unwrap_or_default();
                self.with(|machine, out| machine.listing_ready(now, request, entries, out));
            }
            ClusterEffect::ReplayWanted { request, peer, cap, since_unix_ms, buckets, .. } => {
                let missed = self
                    .on_records(cx, cap, |cx, r| r.replay_since(cx, peer, since_unix_ms, &buckets))
                    .unwrap_or_default();
                self.with(|machine, out| machine.replay_ready(now, request, missed, out));
            }
            _ => {}
        }
    }

    fn tell(&self, cx: &mut Cx<'_>, news: &ClusterEffect) {
        let node = Arc::clone(cx.node);
        for (slot, _, module) in node.loaded() {
            cx.for_slot(slot, |cx| module.cluster_news(cx, news));
        }
    }

    fn on_records<R>(
        &self,
        cx: &mut Cx<'_>,
        cap: CapId,
        run: impl FnOnce(&mut Cx<'_>, &dyn Replicated) -> R,
    ) -> Option<R> {
        let found = self.inner.lock().caps.iter().find(|c| c.id == cap).copied();
        let Capability { slot, part, .. } = found?;
        let node = Arc::clone(cx.node);
        let module: &Arc<dyn Module> = node.modules.get(usize::from(slot))?.state.as_ref()?;
        let (_, records) = capabilities(module.as_ref()).find(|(p, _)| *p == part)?;
        Some(cx.for_slot(slot, |cx| run(cx, records)))
    }
}

fn log_level(level: ClusterLevel) -> Level {
    match level {
        ClusterLevel::Error => Level::Error,
        ClusterLevel::Warning => Level::Warning,
        ClusterLevel::Info => Level::Notice,
        ClusterLevel::Debug => Level::Debug,
    }
}
