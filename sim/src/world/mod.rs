//! The world: hosts, network, phones and the order in which everything happens.

mod build;
mod carry;
mod host;
mod look;
mod names;
mod network;
mod queue;
mod routing;
mod stock;
mod streams;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Mono, SEC};
use tandem_db::memory::MemoryDb;
use tandem_db::{DbError, DbErrorKind, Query};
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{BinInput, Input};

pub(crate) use self::build::Blueprint;
use self::host::{Host, Place};
use self::network::Network;
pub(crate) use self::queue::Life;
use self::queue::{Event, Parcel, Queue};
use self::streams::{Streams, Wire};
use crate::actors::gateway::Gateway;
use crate::actors::message::summary;
use crate::actors::phone::Phone;
use crate::actors::{Act, Completed};
use crate::checkers::Violations;
use crate::checkers::answers::Answers;
use crate::checkers::cdr::Calls;
use crate::checkers::holder::Holder;
use crate::checkers::lost::{self, Lost};
use crate::checkers::states::Switches;
use crate::faults::Fault;
use crate::options::{Dice, Options};
use crate::plan::{Action, Plan};
use crate::scenario::{Counts, Outcome};
use crate::trace::{Trace, Who};

/// Nodes, phones, and all that lies between them.
pub struct World {
    options: Options,
    fault: Option<Fault>,
    modules: Modules,
    now: Mono,
    queue: Queue,
    hosts: Vec<Host>,
    network: Network,
    streams: Streams,
    db: MemoryDb,
    /// The database takes no records of calls.
    db_is_away: bool,
    phones: Vec<Phone>,
    gateways: Vec<Gateway>,
    /// Management requests under way, and the node that each was put to.
    asking: BTreeMap<(Life, u64), u32>,
    /// Commands about targets: which one, and whether it is to be up.
    switching: BTreeMap<(Life, u64), (usize, bool)>,
    switches: Switches,
    requests: u64,
    trace: Trace,
    violations: Violations,
    lost: Lost,
    /// What nodes have sent of their own accord with the duty to.
    entitled: BTreeSet<Bytes>,
    /// The node whose turn it is, if it held the tag when that began.
    held_before: Option<Life>,
    answers: Answers,
    calls: Calls,
    holder: Holder,
    counts: Counts,
    dice: Chance,
    /// How far a wall clock was ever off, in milliseconds: least and most.
    skew_ms: (i64, i64),
    /// Half time: from here on the planted faults with a date are at work.
    half: Mono,
    is_over: bool,
    /// At some time no node was left that knew of the calls.
    has_been_dark: bool,
}

/// How often the tag is looked at; the registrations are looked at every second.
const LOOK_NS: Mono = SEC / 20;
/// Events of one run; a world that needs more turns in a circle.
const EVENTS_MAX: u64 = 50_000_000;

impl World {
    /// Runs until the plan ends.
    pub fn run(mut self) -> Outcome {
        let mut events = 0;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.handle(event);
            events += 1;
            if self.is_over {
                break;
            }
            if events == EVENTS_MAX {
                self.violate("world", format!("{EVENTS_MAX} events and no end"));
                break;
            }
        }
        Outcome {
            hash: self.trace.hash(),
            events: self.trace.events(),
            counts: self.counts,
            lines: self.trace.lines().to_vec(),
            violations: self.violations.into_vec(),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Turn { of, worker, at } => self.turn(of, worker, at),
            Event::Datagram { from, to, payload } => self.datagram(from, to, payload),
            Event::Parcel { stream, to, number, parcel } => {
                let told = self.streams.arrive(&self.network, stream, to, number, parcel);
                if let Some((of, conn, parcel)) = told {
                    let input = match parcel {
                        Parcel::Connected => BinInput::Connected { conn, local: None },
                        Parcel::Bytes(bytes) => BinInput::Data { conn, bytes },
                        Parcel::Closed => BinInput::Closed { conn },
                    };
                    self.deliver(of, 0, Input::Bin(input));
                }
            }
            Event::Connect { stream } => self.connect(stream),
            Event::ConnectFailed { of, conn } => {
                self.deliver(of, 0, Input::Bin(BinInput::ConnectFailed { conn }));
            }
            Event::Break { stream, to, cut } => {
                if self.network.lasts(cut)
                    && let Some((of, conn)) = self.streams.give_up(stream, to)
                {
                    self.deliver(of, 0, Input::Bin(BinInput::Closed { conn }));
                }
            }
            Event::Written { of, write } => {
                let ended = self.running(of).and_then(|host| host.disk.end(write));
                if let Some((token, result)) = ended {
                    self.deliver(of, 0, Input::FileWritten { token, result });
                }
            }
            Event::Database { of, query, ask } => {
                let result = match self.db_is_away && is_of_records(&ask) {
                    true => Err(DbError::new(DbErrorKind::Unavailable, "the database is away")),
                    false => self.db.execute(&ask),
                };
                self.deliver(of, 0, Input::Db { query, result });
            }
            Event::Named { of, query, question } => {
                let silent = self.dice.below(50) == 0;
                if let Some(answer) = names::answer(&question, silent) {
                    self.deliver(of, 0, Input::Dns { query, answer });
                }
            }
            Event::Act(action) => self.act(&action),
            Event::Phone { phone, timer } => self.phone(phone, |p, now| p.timer(now, timer)),
            Event::StockTick { of } => self.stock_tick(of),
            Event::StockPacket { of, conn, frame } => self.stock_packet(of, conn, &frame),
            Event::Look => {
                self.look();
                self.queue.push(self.now + LOOK_NS, Event::Look);
            }
        }
    }

    /// A step of the plan.
    fn act(&mut self, action: &Action) {
        match *action {
            Action::Crash(node) => self.crash(node),
            Action::Start(node) => self.start(node),
            Action::Cut { from, to, one_way } => self.cut(from, to, one_way),
            Action::Heal { a, b } => {
                self.network.heal(a, b);
                self.say(Who::Network, || format!("nodes {a} and {b} reach each other"));
                self.healed();
            }
            Action::Jump { node, by_ms } => self.jump(node, by_ms),
            Action::Activate(node) => self.activate(node),
            Action::Database { is_there } => self.database_goes(!is_there),
            Action::Gateway { gateway, way } => self.gateway_goes(gateway, way),
            Action::Switch { node, target, up } => self.switch(node, target, up),
            Action::Register(phone) => self.phone(phone, |p, now| p.register_now(now)),
            Action::Call { from, to } => self.phone(from, |p, now| p.dial(now, to)),
            Action::Rest => self.rest(),
            Action::End => {
                self.look_for_the_last_time();
                self.is_over = true;
            }
        }
    }

    fn jump(&mut self, node: u32, by_ms: i64) {
        if let Some(host) = self.host(node) {
            host.clock.skew_ms += by_ms;
            let skew = host.clock.skew_ms;
            let before = self.skew_ns();
            self.skew_ms = (self.skew_ms.0.min(skew), self.skew_ms.1.max(skew));
            self.lost.shorten(self.skew_ns() - before);
            self.holder.disturbed();
            self.say(Who::Node(node), || format!("its wall clock jumps by {by_ms} ms"));
        }
    }

    fn database_goes(&mut self, is_away: bool) {
        self.db_is_away = is_away;
        let what = if is_away { "takes no records" } else { "takes records again" };
        self.say(Who::Network, || format!("the database {what}"));
    }

    /// How far the wall clocks have been apart.
    fn skew_ns(&self) -> Mono {
        let (low, high) = self.skew_ms;
        high.abs_diff(low) * MS
    }

    fn rest(&mut self) {
        self.say(Who::Checker, || "the world comes to rest: heal, start, wait".into());
        self.phones.iter_mut().for_each(|phone| phone.is_resting = true);
        self.network.heal_all();
        self.database_goes(false);
        self.healed();
        let down: Vec<u32> = self.hosts.iter().filter(|h| !h.is_up()).map(|h| h.id).collect();
        down.into_iter().for_each(|node| self.start(node));
    }

    fn cut(&mut self, from: u32, to: u32, one_way: bool) {
        let how = if one_way { "nothing passes from" } else { "nothing passes between" };
        self.say(Who::Network, || format!("{how} node {from} to node {to}"));
        self.holder.disturbed();
        self.counts.cuts += 1;
        let mut cuts = vec![self.network.cut(from, to)];
        if !one_way {
            cuts.push(self.network.cut(to, from));
        }
        if let Some(cut) = cuts.first().copied() {
            let (streams, mut wire) = self.wire();
            streams.cut(&mut wire, from, to, cut);
        }
    }

    fn healed(&mut self) {
        self.holder.disturbed();
        let (streams, mut wire) = self.wire();
        streams.heal(&mut wire);
    }

    fn activate(&mut self, node: u32) {
        let up = |h: &&Host| h.is_up();
        let wanted = self.hosts.iter().filter(up).find(|h| h.id == node);
        let Some(node) = wanted.or_else(|| self.hosts.iter().find(up)).map(|h| h.id) else {
            return;
        };
        if self.activate_stock(node) {
            return;
        }
        self.say(Who::Operator, || {
            format!("asks node {node}: clusterer_shtag_set_active service/1")
        });
        self.holder.disturbed();
        self.requests += 1;
        let request = self.requests;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{request},"method":"clusterer_shtag_set_active","params":["service/1"]}}"#
        );
        let Some(of) = self.host(node).map(|h| h.life()) else { return };
        self.asking.insert((of, request), node);
        self.deliver(of, 0, Input::Mi { request, text: Bytes::from(text) });
    }

    fn start(&mut self, node: u32) {
        if self.start_stock(node) {
            return;
        }
        let (modules, workers, now) = (self.modules, self.options.workers, self.now);
        let Some(host) = self.host(node).filter(|h| !h.is_up()) else { return };
        if let Err(text) = host.boot(now, modules, workers) {
            self.violate("world", format!("node {node} does not start: {text}"));
            return;
        }
        let of = host.life();
        self.holder.disturbed();
        self.say(Who::Node(node), || "starts".into());
        self.begin(of);
    }

    fn crash(&mut self, node: u32) {
        if !self.host(node).is_some_and(|h| h.is_up()) {
            return;
        }
        // Who has what, and who holds the tag, at the last moment.
        let presence = self.presence();
        self.find_lost(&presence);
        let was_active = self.views().iter().any(|v| v.node == node && v.is_active);
        self.lost.crashed(self.now);
        let mut others = self.hosts.iter().filter(|h| h.id != node && !h.is_stock);
        let last = !others.any(Host::remembers);
        self.calls.crashed(self.now, node, last);
        self.has_been_dark |= last;
        self.holder.crashed(was_active);
        self.counts.crashes += 1;
        self.switches.crashed(node);
        let role = if was_active { "the active is killed" } else { "is killed" };
        self.say(Who::Node(node), || role.into());
        let Some(host) = self.hosts.iter_mut().find(|h| h.id == node) else { return };
        let dice = &mut self.dice;
        host.disk.crash(|| dice.happens(0.5));
        host.kill();
        let of = host.life();
        self.asking.retain(|(life, _), _| *life != of);
        self.switching.retain(|(life, _), _| *life != of);
        let (streams, mut wire) = self.wire();
        streams.crash(&mut wire, of);
    }

    fn connect(&mut self, stream: u64) {
        let peer = self.streams.target(stream);
        let host = peer.and_then(|node| self.hosts.iter().find(|h| h.id == node && h.is_up()));
        let target = host.map(Host::life);
        let (streams, mut wire) = self.wire();
        if let Some((of, conn, caller)) = streams.accept(&mut wire, stream, target) {
            let from = self.host(caller.node).map(|h| h.bin.ip());
            let Some(ip) = from else { return };
            // Ports of connecting sides: never looked at, but different.
            let port = 32_768 + (stream % 28_000) as u16;
            let peer = SocketAddr::new(ip, port);
            self.deliver(of, 0, Input::Bin(BinInput::Accepted { conn, peer }));
        }
    }

    /// A datagram arrives at a node or at a phone; elsewhere nobody listens.
    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: Bytes) {
        self.trace.feed(self.now, b'u', &payload);
        if let Some(host) = self.hosts.iter().find(|h| h.sip == to) {
            let of = host.life();
            let socket = host.node().and_then(|node| {
                node.sockets.iter().find(|(_, s)| s.addr == to).map(|(socket, _)| socket)
            });
            let Some(socket) = socket else { return };
            let text = || format!("<- {from:<22} {}", summary(&payload));
            self.trace.line(self.now, Who::Node(of.node), text);
            // Workers share the sockets; worker 0 has the rest to do when there are others.
            let others = self.options.workers.saturating_sub(1);
            let worker = if others == 0 { 0 } else { 1 + self.dice.pick(others) };
            let input = Input::Datagram { socket, source: from, local_ip: to.ip(), payload };
            self.deliver(of, worker, input);
        } else if let Some(phone) = self.phones.iter().find(|p| p.public == to).map(|p| p.id) {
            self.phone(phone, |p, now| p.receive(now, from, payload));
        } else {
            self.at_gateway(from, to, payload);
        }
    }

    /// Sends a datagram into the network.
    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: &Bytes) {
        let fate = network::fate(&self.options, &mut self.dice);
        if fate.is_empty() {
            self.say(Who::Network, || format!("loses a datagram from {from} to {to}"));
        }
        for delay in fate {
            let payload = payload.clone();
            self.queue.push(self.now + delay, Event::Datagram { from, to, payload });
        }
    }

    /// Lets a phone do something and carries out what it wants.
    fn phone(&mut self, id: u32, what: impl FnOnce(&mut Phone, Mono)) {
        let now = self.now;
        let Some(phone) = self.phones.iter_mut().find(|p| p.id == id) else { return };
        what(phone, now);
        let (from, acts) = (phone.public, phone.take_acts());
        for act in acts {
            self.phone_act(id, from, act);
        }
    }

    fn phone_act(&mut self, id: u32, from: SocketAddr, act: Act) {
        match act {
            Act::Send { to, payload } => {
                match self.fault.and_then(|f| f.on_request(id, &payload)) {
                    Some(payload) => {
                        let forged = Event::Datagram { from: to, to: from, payload };
                        self.queue.push(self.now + MS, forged);
                    }
                    None => self.send(from, to, &payload),
                }
            }
            Act::Timer { at, number } => {
                self.queue.push(at, Event::Phone { phone: id, timer: number });
            }
            Act::Acknowledged(registered) => {
                let presence = self.presence();
                let slack = self.skew_ns();
                let wrong = self.lost.acknowledged(self.now, &registered, slack, &presence);
                wrong.into_iter().for_each(|text| self.violate(lost::NAME, text));
            }
            Act::Leaving { aor, contact } => self.lost.left(&aor, &contact),
            Act::Call { call_id, step } => self.calls.step(self.now, call_id, step),
            Act::Nonsense(text) => self.violate(lost::NAME, text),
            Act::Completed(Completed::Registration) => self.counts.registrations += 1,
            Act::Completed(Completed::Call) => self.counts.calls += 1,
            Act::Completed(Completed::Failure) => self.counts.failures += 1,
            Act::Say(text) => self.say(Who::Phone(id), || text),
        }
    }

    /// Puts an input into a worker's queue and gives it the processor soon.
    fn deliver(&mut self, of: Life, worker: usize, input: Input) {
        if self.running(of).is_some_and(|h| h.is_stock) {
            if let Input::Bin(event) = input {
                self.stock_input(of, event);
            }
            return;
        }
        let stalls = self.dice.happens(self.options.stall);
        let stall = self.dice.between(0, u64::from(self.options.stall_ms_max) * MS);
        let soon = self.dice.between(5_000, 200_000) + if stalls { stall } else { 0 };
        let Some(place) = self.place(of, worker) else { return };
        place.inbox.push_back(input);
        self.wake(of, worker, self.now + soon);
    }

    fn wake(&mut self, of: Life, worker: usize, at: Mono) {
        let Some(place) = self.place(of, worker) else { return };
        if place.wake.is_none_or(|wake| at < wake) {
            place.wake = Some(at);
            self.queue.push(at, Event::Turn { of, worker, at });
        }
    }

    fn place(&mut self, of: Life, worker: usize) -> Option<&mut Place> {
        self.running(of)?.process.as_mut()?.workers.get_mut(worker)
    }

    fn host(&mut self, node: u32) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|h| h.id == node)
    }

    /// The host, if the process of this life still runs on it.
    fn running(&mut self, of: Life) -> Option<&mut Host> {
        self.host(of.node).filter(|h| h.is_up() && h.life() == of)
    }

    fn wire(&mut self) -> (&mut Streams, Wire<'_>) {
        let wire = Wire {
            now: self.now,
            options: &self.options,
            network: &self.network,
            queue: &mut self.queue,
            dice: &mut self.dice,
        };
        (&mut self.streams, wire)
    }

    fn say(&mut self, who: Who, what: impl FnOnce() -> String) {
        self.trace.line(self.now, who, what);
    }

    fn violate(&mut self, checker: &'static str, text: String) {
        let line = format!("VIOLATION {checker}: {text}");
        if self.violations.add(self.now, checker, text) {
            self.trace.feed(self.now, b'v', line.as_bytes());
            self.say(Who::Checker, || line);
        }
    }

    fn schedule(&mut self, plan: &Plan) {
        for (at, action) in plan {
            self.queue.push(*at, Event::Act(action.clone()));
        }
    }
}

/// Whether a query is about the records of calls.
fn is_of_records(ask: &Query) -> bool {
    let table = match ask {
        Query::Batch(all) => return all.iter().any(is_of_records),
        Query::Select(select) => &select.table,
        Query::Insert { table, .. } | Query::InsertRows { table, .. } => table,
        Query::Update { table, .. } | Query::Delete { table, .. } => table,
        Query::InsertOrUpdate { table, .. } => table,
        Query::Raw { .. } => return false,
    };
    matches!(table.as_ref(), "acc" | "missed_calls" | "tandem_cdr")
}
