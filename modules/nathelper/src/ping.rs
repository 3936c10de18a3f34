//! Keeping the hole in the NAT open.
//!
//! Every second, or several times a second, one slice of the location tables is walked, so that
//! each contact is pinged once in an interval and never in a burst.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::Mono;
use tandem_cluster::TagTable;
use tandem_engine::dns::Resolved;
use tandem_engine::effect::Send;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::transport::{Hop, HopError, uri_hop};
use tandem_usrloc::store::{Contact, Text};
use tandem_usrloc::{Leave, Table, Usrloc};

use crate::Nathelper;
use crate::sip_ping::first_hop;

/// The timer of the slices.
pub(crate) const TICK: u32 = 0;

/// What goes out: four zero bytes, which a phone ignores and a NAT does not.
const PING: &[u8] = &[0; 4];

/// The same on a connection (RFC 5626 3.5.1).
const STREAM_PING: &[u8] = b"\r\n\r\n";

/// Contacts whose names are being looked up, at most: one more is not pinged this time.
const NAMED_MAX: usize = 10_000;

/// Pings whose answers are waited for, at most: a contact more is not watched this time.
const WATCHED_MAX: usize = 1_000_000;

/// Pings that may get lost.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    watched: Mutex<VecDeque<Watched>>,
    named: Mutex<Named>,
}

/// Contacts whose names are being looked up.
#[derive(Debug, Default)]
struct Named {
    last: u64,
    waiting: BTreeMap<u64, (Arc<Table>, u64)>,
}

/// A ping to a contact that is removed when it does not answer.
#[derive(Debug)]
struct Watched {
    due: Mono,
    sent_ns: u64,
    table: Arc<Table>,
    id: u64,
}

impl Nathelper {
    /// Pings the contacts of one slice that this node may ping.
    pub(crate) fn ping_slice(&self, cx: &mut Cx<'_>, tick: u64) {
        let Some(usrloc) = &self.usrloc else { return };
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        if !self.may_ping(tags) {
            return;
        }
        let of = self.params.interval_s.saturating_mul(self.params.partitions);
        let (part, of) = ((tick % of) as usize, of as usize);
        for table in usrloc.tables() {
            for (contact, _) in usrloc.part(&table, part, of, cx.now) {
                if self.params.nated_only && !contact.has_branch_flag(&usrloc.params.nat_flag) {
                    continue;
                }
                if let Some(leave) = usrloc.leave_to_ping(tags, &contact) {
                    self.ping(cx, usrloc, &table, &contact, &leave);
                }
            }
        }
    }

    /// The switch of cluster_sharing_tag; without one the contacts decide.
    fn may_ping(&self, tags: Option<&TagTable>) -> bool {
        match &self.params.tag {
            None => true,
            Some((cluster, name)) => tags.is_some_and(|t| t.duty(name, *cluster).is_some()),
        }
    }

    /// Pings one contact, at once or when its name has been looked up; `leave` is the proof that
    /// this node is to.
    fn ping(
        &self,
        cx: &mut Cx<'_>,
        usrloc: &Usrloc,
        table: &Arc<Table>,
        contact: &Contact,
        leave: &Leave<'_>,
    ) {
        let uri = self.next_hop(contact);
        let hop = match uri_hop(uri) {
            Err(HopError::Unresolvable) => {
                let Some(token) = self.pings.begin_search(table, contact.id) else { return };
                match cx.resolve(uri, token) {
                    Resolved::Later => return,
                    Resolved::Now(found) => {
                        self.pings.end_search(token);
                        found.ok().and_then(|hops| hops.first().copied())
                    }
                }
            }
            found => found.ok(),
        };
        if let Some(hop) = hop {
            self.ping_at(cx, usrloc, (table, contact), hop, leave);
        }
    }

    /// The name of a contact was looked up. It may have gone, or be another node's, by now.
    pub(crate) fn found(&self, cx: &mut Cx<'_>, token: u64, hops: &[Hop]) {
        let Some((table, id)) = self.pings.end_search(token) else { return };
        let (Some(usrloc), Some(hop)) = (&self.usrloc, hops.first()) else { return };
        let Some(contact) = table.domain.by_id(id) else { return };
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        if let Some(leave) = usrloc.leave_to_ping(tags, &contact).filter(|_| self.may_ping(tags)) {
            self.ping_at(cx, usrloc, (&table, &contact), *hop, &leave);
        }
    }

    fn sends_sip(&self, contact: &Contact) -> Option<&str> {
        let from = self.params.from.as_deref();
        from.filter(|_| has(contact, self.params.sip_flag.as_ref()))
    }

    /// The URI that a ping goes to.
    fn next_hop<'c>(&self, contact: &'c Contact) -> &'c [u8] {
        let path = self.sends_sip(contact).and_then(|_| first_hop(contact.text(Text::Path)));
        match path {
            Some(hop) => hop,
            None if contact.received().is_empty() => contact.uri(),
            None => contact.received(),
        }
    }

    fn ping_at(
        &self,
        cx: &mut Cx<'_>,
        usrloc: &Usrloc,
        (table, contact): (&Arc<Table>, &Contact),
        hop: Hop,
        leave: &Leave<'_>,
    ) {
        let Some(from) = self.sends_sip(contact) else {
            return self.plain_ping(cx, usrloc, contact, hop, leave);
        };
        let Some(send) = self.sip_ping(cx, usrloc, (table, contact), (hop, from), leave) else {
            return;
        };
        cx.send(send, 0);
        usrloc.ping_sent(table, contact.id, cx.now);
        self.watch(cx, table, contact);
    }

    fn plain_ping(
        &self,
        cx: &mut Cx<'_>,
        usrloc: &Usrloc,
        contact: &Contact,
        hop: Hop,
        _: &Leave<'_>,
    ) {
        let preferred = self.params.plain_socket.filter(|_| hop.proto == Proto::Udp);
        let preferred = preferred.or_else(|| self.socket(cx, usrloc, contact));
        let Some(socket) = self.way(cx, hop, preferred) else { return };
        let ping = if hop.proto == Proto::Udp { PING } else { STREAM_PING };
        let payload = Bytes::from_static(ping);
        cx.send(Send { socket, to: hop.addr, payload, ticket: 0 }, 0);
    }

    /// The socket to ping from. Connections are never opened for it, and used only if that is
    /// wanted.
    pub(crate) fn way(
        &self,
        cx: &Cx<'_>,
        hop: Hop,
        preferred: Option<SocketId>,
    ) -> Option<SocketId> {
        let socket = cx.node.sockets.toward_by(hop.proto, hop.addr, preferred)?;
        let may = hop.proto == Proto::Udp
            || (self.params.pings_streams && cx.node.streams.leads_to(socket, hop.addr));
        may.then_some(socket)
    }

    /// The socket that a contact registered at, else force_socket.
    pub(crate) fn socket(
        &self,
        cx: &Cx<'_>,
        usrloc: &Usrloc,
        contact: &Contact,
    ) -> Option<SocketId> {
        usrloc.socket_of(cx.node, contact).or(self.params.force_socket)
    }

    fn watch(&self, cx: &Cx<'_>, table: &Arc<Table>, contact: &Contact) {
        if !has(contact, self.params.remove_flag.as_ref()) {
            return;
        }
        let mut watched = self.pings.watched.lock();
        if watched.len() < WATCHED_MAX {
            watched.push_back(Watched {
                due: cx.now.after_s(self.params.threshold_s),
                sent_ns: cx.now.mono_ns.max(1),
                table: Arc::clone(table),
                id: contact.id,
            });
        }
    }

    /// Counts what was not answered in time, and removes contacts that did not answer too often,
    /// where this node still is the one to do so.
    pub(crate) fn count_lost(&self, cx: &mut Cx<'_>) {
        let Some(usrloc) = &self.usrloc else { return };
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        let now = cx.now.mono_ns;
        loop {
            let Some(ping) = self.pings.watched.lock().pop_front_if(|p| p.due <= now) else {
                break;
            };
            let lost = usrloc.ping_lost(&ping.table, ping.id, ping.sent_ns);
            if lost.is_none_or(|lost| lost < self.params.lost_max) || !self.may_ping(tags) {
                continue;
            }
            let Some(contact) = ping.table.domain.by_id(ping.id) else { continue };
            if usrloc.leave_to_ping(tags, &contact).is_some() {
                let aor = String::from_utf8_lossy(contact.aor()).into_owned();
                let lost = lost.unwrap_or_default();
                let text = format!("a contact of {aor} is removed: {lost} pings were lost");
                cx.log(Level::Info, text);
                usrloc.delete(cx, &ping.table, ping.id);
            }
        }
    }
}

impl Pings {
    fn begin_search(&self, table: &Arc<Table>, id: u64) -> Option<u64> {
        let named = &mut *self.named.lock();
        if named.waiting.len() >= NAMED_MAX {
            return None;
        }
        named.last += 1;
        named.waiting.insert(named.last, (Arc::clone(table), id));
        Some(named.last)
    }

    fn end_search(&self, token: u64) -> Option<(Arc<Table>, u64)> {
        self.named.lock().waiting.remove(&token)
    }
}

/// Whether a contact has the branch flag of a parameter.
pub(crate) fn has(contact: &Contact, flag: Option<&String>) -> bool {
    flag.is_some_and(|name| !name.is_empty() && contact.has_branch_flag(name))
}
