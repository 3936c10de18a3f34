//! Keeping the hole in the NAT open.
//!
//! The interval is a round of slots of a few milliseconds, and each contact has the slot that was
//! filled least when it came (`tandem_usrloc::store`, `tandem_clock::Rota`). A step takes the
//! contacts of one slot; nothing ever walks through the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tandem_clock::{Beat, MS, SEC};
use tandem_cluster::TagTable;
use tandem_engine::dns::Resolved;
use tandem_engine::effect::Send;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::node::Node;
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::transport::{Hop, HopError, uri_hop};
use tandem_usrloc::store::{Contact, Place, Shape, Text};
use tandem_usrloc::{Leave, Leaves, Table, Usrloc};

use crate::Nathelper;
use crate::later::Later;
use crate::sip_ping::{Templates, first_hop};
use crate::watch::Watch;

/// The timer of the slots.
pub(crate) const TICK: u32 = 0;

/// How far empty slots are skipped: contacts may come to them meanwhile.
const AHEAD_NS: u64 = 250 * MS;

/// Between two looks at those who wait for an address.
const LATER_NS: u64 = 5 * MS;

/// What goes out: four zero bytes, which a phone ignores and a NAT does not.
const PING: &[u8] = &[0; 4];

/// The same on a connection (RFC 5626 3.5.1).
const STREAM_PING: &[u8] = b"\r\n\r\n";

/// Contacts of a kind that are remembered within a step.
const KINDS_MAX: usize = 16;

/// What the module knows of pings.
#[derive(Debug)]
pub(crate) struct Pings {
    beat: Mutex<Beat>,
    pub(crate) watch: Watch,
    pub(crate) later: Later,
    pub(crate) templates: Templates,
    pub(crate) counts: Counts,
}

/// Counts since the start, for `tandemctl status`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    /// Contacts that were looked at; with nobody else to ping them, as many as were pinged.
    pub(crate) visited: AtomicU64,
    /// Contacts that lead to this node itself.
    pub(crate) to_self: AtomicU64,
    /// Pings that the network did not take.
    pub(crate) not_sent: AtomicU64,
    pub(crate) removed: AtomicU64,
}

/// The beat of a round.
pub(crate) fn beat(interval_s: u64) -> Beat {
    Beat::new(interval_s.max(1).saturating_mul(SEC))
}

impl Pings {
    pub(crate) fn new(interval_s: u64) -> Self {
        Self {
            beat: Mutex::new(beat(interval_s)),
            watch: Watch::default(),
            later: Later::default(),
            templates: Templates::default(),
            counts: Counts::default(),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// One step of pinging: what holds for many contacts is found out once.
pub(crate) struct Step<'n> {
    pub(crate) node: &'n Node,
    pub(crate) usrloc: &'n Usrloc,
    leaves: Leaves<'n>,
    kinds: Vec<(Shape, Kind)>,
    /// Where requests are written, one behind the other.
    pub(crate) arena: BytesMut,
    now_s: u64,
}

/// What contacts of one shape have in common.
#[derive(Clone, Copy)]
struct Kind {
    sends_sip: bool,
    /// Its answer matters: it may be removed.
    is_removed: bool,
    is_measured: bool,
    socket: Option<SocketId>,
}

impl Nathelper {
    pub(crate) fn begin_pinging(&self, cx: &mut Cx<'_>) {
        self.pings.beat.lock().begin(cx.now.mono_ns);
        self.pings.watch.new_reign(cx.now);
        cx.set_timer(cx.now.after_ms(1), Timer { kind: TICK, id: 0 });
    }

    /// Pings the contacts whose turn it is, and comes back for the next ones.
    pub(crate) fn tick(&self, cx: &mut Cx<'_>) {
        let Some(usrloc) = &self.usrloc else { return };
        self.count_lost(cx, usrloc);
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        let tables = usrloc.tables();
        let is_on = self.is_enabled() && self.may_ping(tags);
        let is_empty = |slot| !is_on || tables.iter().all(|t| t.domain.has_no_turn(slot));
        let (due, mut next) = {
            let mut beat = self.pings.beat.lock();
            let due = beat.due(cx.now.mono_ns, is_empty);
            (due, beat.next_at(cx.now.mono_ns, AHEAD_NS, is_empty))
        };
        if is_on {
            let mut step = Step::new(&node, usrloc, tags, cx.now.unix_s());
            let turns = due.iter().flat_map(|slot| tables.iter().map(move |t| (*slot, t)));
            turns.for_each(|(slot, table)| self.take_turn(cx, &mut step, table, slot));
            if self.ping_later_ones(cx, &mut step) {
                next = next.min(cx.now.mono_ns + LATER_NS);
            }
        }
        cx.set_timer(next.max(cx.now.after_ms(1)), Timer { kind: TICK, id: 0 });
    }

    fn take_turn(&self, cx: &mut Cx<'_>, step: &mut Step<'_>, table: &Arc<Table>, slot: usize) {
        let mut places = Vec::new();
        table.domain.turn(slot, &mut places);
        add(&self.pings.counts.visited, places.len() as u64);
        places.retain(|place| {
            let contact = table.domain.in_turn(slot, *place);
            contact.is_some_and(|contact| self.ping(cx, step, table, (&contact, *place)))
        });
        table.domain.turn_ended(slot, &places);
    }

    /// The switch of cluster_sharing_tag; without one the contacts decide.
    pub(crate) fn may_ping(&self, tags: Option<&TagTable>) -> bool {
        match &self.params.tag {
            None => true,
            Some((cluster, name)) => tags.is_some_and(|t| t.duty(name, *cluster).is_some()),
        }
    }

    /// Pings one contact, at once or when its name has been looked up. False: it is not this
    /// node's to ping.
    pub(crate) fn ping(
        &self,
        cx: &mut Cx<'_>,
        step: &mut Step<'_>,
        table: &Arc<Table>,
        (contact, place): (&Contact, Place),
    ) -> bool {
        if contact.is_expired(step.now_s) || step.leaves.of(contact).is_none() {
            return false;
        }
        // The connection of a phone is the way to it, whatever its addresses say.
        if self.params.pings_streams
            && let Some((socket, addr)) = step.usrloc.flow_of(cx.node, table, contact)
        {
            let hop = Hop { addr, proto: Proto::Tcp };
            self.ping_at(cx, step, (table, contact, place), hop, Some(socket));
            return true;
        }
        let uri = next_hop(contact, step.kind(self, contact).sends_sip);
        let hop = match uri_hop(uri) {
            Err(HopError::Unresolvable) => {
                let Some(token) = self.pings.later.begin_search(table, contact.id) else {
                    return true;
                };
                match cx.resolve(uri, token) {
                    Resolved::Later => return true,
                    Resolved::Now(found) => {
                        self.pings.later.end_search(token);
                        found.ok().and_then(|hops| hops.first().copied())
                    }
                }
            }
            found => found.ok(),
        };
        if let Some(hop) = hop {
            self.ping_at(cx, step, (table, contact, place), hop, None);
        }
        true
    }

    /// The name of a contact was looked up. It may have gone, or be another node's, by now.
    pub(crate) fn found(&self, cx: &mut Cx<'_>, token: u64, hops: &[Hop]) {
        let Some((table, id)) = self.pings.later.end_search(token) else { return };
        let (Some(usrloc), Some(hop)) = (&self.usrloc, hops.first()) else { return };
        let Some((place, contact)) = whereabouts(&table, id) else { return };
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        if self.may_ping(tags) {
            let mut step = Step::new(&node, usrloc, tags, cx.now.unix_s());
            self.ping_at(cx, &mut step, (&table, &contact, place), *hop, None);
        }
    }

    fn ping_at(
        &self,
        cx: &mut Cx<'_>,
        step: &mut Step<'_>,
        (table, contact, place): (&Arc<Table>, &Contact, Place),
        hop: Hop,
        flow: Option<SocketId>,
    ) {
        if step.node.sockets.is_own(hop.proto, hop.addr) {
            return add(&self.pings.counts.to_self, 1);
        }
        let kind = step.kind(self, contact);
        let plain = self.params.plain_socket.filter(|_| hop.proto == Proto::Udp);
        let preferred = plain.filter(|_| !kind.sends_sip).or(kind.socket);
        let Some(socket) = flow.or_else(|| self.way(cx, hop, preferred)) else { return };
        // The address is still on its way to this host, or has left it.
        if !step.node.sockets.get(socket).is_some_and(|s| s.is_held()) {
            return self.ping_when_held(cx, table, contact.id);
        }
        // The proof that this node is to act, asked where it acts.
        let Some(leave) = step.leaves.of(contact) else { return };
        let payload = match (kind.sends_sip, hop.proto) {
            (true, _) => {
                let to = (table, contact, place);
                self.request(cx, (step.node, &mut step.arena), socket, to, leave)
            }
            (false, Proto::Udp) => plain_ping(PING, leave),
            (false, _) => plain_ping(STREAM_PING, leave),
        };
        let ticket = match kind.sends_sip && (kind.is_removed || kind.is_measured) {
            true => self.watch(cx, step.usrloc, (table, contact, place), kind.is_removed),
            false => 0,
        };
        cx.send(Send { socket, to: hop.addr, payload, ticket: 0 }, ticket);
        add(&self.pings.counts.sent, 1);
    }

    /// The socket to ping from. Connections are never opened for it, and used only if that is
    /// wanted.
    fn way(&self, cx: &Cx<'_>, hop: Hop, preferred: Option<SocketId>) -> Option<SocketId> {
        let socket = cx.node.sockets.toward_by(hop.proto, hop.addr, preferred)?;
        let may = hop.proto == Proto::Udp
            || (self.params.pings_streams && cx.node.streams.leads_to(socket, hop.addr));
        may.then_some(socket)
    }
}

impl<'n> Step<'n> {
    pub(crate) fn new(
        node: &'n Node,
        usrloc: &'n Usrloc,
        tags: Option<&'n TagTable>,
        now_s: u64,
    ) -> Self {
        let leaves = usrloc.leaves(tags);
        Self { node, usrloc, leaves, kinds: Vec::new(), arena: BytesMut::new(), now_s }
    }

    fn kind(&mut self, module: &Nathelper, contact: &Contact) -> Kind {
        if let Some((_, kind)) = self.kinds.iter().find(|(shape, _)| shape.is_of(contact)) {
            return *kind;
        }
        let has = |flag: &Option<String>| has(contact, flag.as_ref());
        let params = &module.params;
        let kind = Kind {
            sends_sip: params.from.is_some() && has(&params.sip_flag),
            is_removed: has(&params.remove_flag),
            is_measured: has(&params.latency_flag),
            socket: self.usrloc.socket_of(self.node, contact).or(params.force_socket),
        };
        if self.kinds.len() >= KINDS_MAX {
            self.kinds.clear();
        }
        self.kinds.push((contact.shape(), kind));
        kind
    }
}

/// `_` is the proof that this node is to send it.
fn plain_ping(bytes: &'static [u8], _: &Leave<'_>) -> Bytes {
    Bytes::from_static(bytes)
}

/// The URI that a ping goes to.
fn next_hop(contact: &Contact, sends_sip: bool) -> &[u8] {
    let path = sends_sip.then(|| first_hop(contact.text(Text::Path))).flatten();
    match path {
        Some(hop) => hop,
        None if contact.received().is_empty() => contact.uri(),
        None => contact.received(),
    }
}

/// A contact, and where it is.
pub(crate) fn whereabouts(table: &Table, id: u64) -> Option<(Place, Arc<Contact>)> {
    table.domain.place_of(id).zip(table.domain.by_id(id))
}

/// Whether a contact has the branch flag of a parameter.
pub(crate) fn has(contact: &Contact, flag: Option<&String>) -> bool {
    flag.is_some_and(|name| !name.is_empty() && contact.has_branch_flag(name))
}
