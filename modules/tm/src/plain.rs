//! Requests of this node that no route of the script sees, with one destination over UDP: NOTIFYs
//! by the thousand. Such a one needs no record of a transaction but a place in a table, where it
//! stays until it is answered, and no longer: a reply that comes again finds nobody, and is
//! absorbed by the form of its branch (RFC 3261 17.1.2.2, Completed). Places are used again at
//! once, so that their memory is warm.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Chance, Mono, Now};
use tandem_engine::effect::Send;
use tandem_engine::module::{Cx, Timer as WheelTimer};
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::transport::{is_allowed, uri_hop};
use tandem_script::sig::Routes;
use tandem_sip::{HeaderName, Message, glance, glance_branch};
use tandem_transaction::Timers;

use crate::drive::SOON;
use crate::local::{LocalRequest, Owner};
use crate::stats;
use crate::tm::Tm;
use crate::via_branch::TxId;

/// Parts of the table: workers seldom meet in one.
const SHARDS: usize = 16;

/// The requests of this kind that wait for their answers.
#[derive(Default)]
pub(crate) struct Plains {
    shards: [Mutex<Shard>; SHARDS],
    len: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    places: Vec<Option<Plain>>,
    free: Vec<u32>,
    /// Requests since the start.
    total: u64,
}

/// A request that waits for its answer.
struct Plain {
    /// The label of its name, by which a reply to an earlier one in the same place is told from
    /// one to this.
    label: u64,
    request: Bytes,
    to: SocketAddr,
    socket: SocketId,
    /// Module and number.
    owner: (u16, u64),
    /// When it is sent again: timer E.
    again: Mono,
    /// When nobody waits for an answer any more: timer F.
    until: Mono,
    interval_ms: u32,
    sends: u32,
    /// A provisional reply has come.
    is_heard: bool,
    /// Its place among those that are looked at after T1.
    turn: Option<u32>,
}

/// What is to be done about a request at a time.
enum Due {
    Nothing,
    Again { send: Send, sends: u32, next: Mono },
    Over(Plain),
}

impl Plain {
    fn is_of(&self, method: &[u8]) -> bool {
        self.request.strip_prefix(method).is_some_and(|rest| rest.first() == Some(&b' '))
    }

    /// Sends it once more; gives what, and when to look again.
    fn again(&mut self, now: Now, timers: &Timers) -> Due {
        let t2_ms = timers.t2_ms.max(1);
        // RFC 3261 17.1.2.2: T2 from the first provisional on.
        self.interval_ms =
            if self.is_heard { t2_ms } else { self.interval_ms.saturating_mul(2).min(t2_ms) };
        self.again = now.after_ms(self.interval_ms.into());
        self.sends = self.sends.saturating_add(1);
        let (socket, to, payload) = (self.socket, self.to, self.request.clone());
        let send = Send { socket, to, payload, ticket: 0 };
        Due::Again { send, sends: self.sends, next: self.again.min(self.until) }
    }
}

impl Plains {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The parts that hold requests: number, how many now, how many since the start.
    pub(crate) fn counts(&self) -> Vec<(usize, usize, u64)> {
        let each = self.shards.iter().enumerate().map(|(n, shard)| {
            let shard = shard.lock();
            (n, shard.places.len() - shard.free.len(), shard.total)
        });
        each.filter(|(_, now, _)| *now > 0).collect()
    }

    fn shard(&self, id: TxId) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(id.index))
    }

    /// A name nobody has. `worker` chooses the part of the table.
    fn take_place(&self, worker: usize, chance: &mut Chance) -> TxId {
        let index = worker % SHARDS;
        let mut shard = self.shards[index].lock();
        let place = shard.free.pop().unwrap_or_else(|| {
            shard.places.push(None);
            shard.places.len() as u32 - 1
        });
        shard.total += 1;
        drop(shard);
        self.len.fetch_add(1, Ordering::Relaxed);
        TxId::plain(index as u16, place, chance.u64())
    }

    /// A place that nobody wants after all.
    fn give_back(&self, id: TxId) {
        let Some(shard) = self.shard(id) else { return };
        shard.lock().free.push(id.plain_place() as u32);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    fn put(&self, id: TxId, plain: Plain) {
        let Some(shard) = self.shard(id) else { return };
        if let Some(place) = shard.lock().places.get_mut(id.plain_place()) {
            *place = Some(plain);
        }
    }

    /// Looks at a request that is there still.
    fn with<R>(&self, id: TxId, look: impl FnOnce(&mut Plain) -> R) -> Option<R> {
        let mut shard = self.shard(id)?.lock();
        let plain = shard.places.get_mut(id.plain_place())?.as_mut();
        plain.filter(|plain| plain.label == id.label).map(look)
    }

    /// The whole name of the request that a ticket is of, unless another has its place now.
    fn named(&self, ticket: u64) -> Option<TxId> {
        let (index, short, _) = TxId::of_token(ticket);
        let part = TxId { index, label: short.into() };
        let shard = self.shard(part)?.lock();
        let plain = shard.places.get(part.plain_place())?.as_ref()?;
        let id = TxId { index, label: plain.label };
        (id.plain_ticket() == ticket).then_some(id)
    }

    /// Takes out a request; `wanted` has the last word.
    fn take(&self, id: TxId, wanted: impl FnOnce(&Plain) -> bool) -> Option<Plain> {
        let mut shard = self.shard(id)?.lock();
        let place = shard.places.get_mut(id.plain_place())?;
        let plain = place.take_if(|plain| plain.label == id.label && wanted(plain))?;
        shard.free.push(id.plain_place() as u32);
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(plain)
    }

    /// What is to be done about the request in a place, which a timer knows only in part. A timer
    /// of an earlier one in its place finds nothing.
    fn due(&self, index: u16, short: u32, now: Now, timers: &Timers) -> Option<(TxId, Due)> {
        let part = TxId { index, label: short.into() };
        let mut shard = self.shard(part)?.lock();
        let place = shard.places.get_mut(part.plain_place())?;
        let plain = place.as_mut()?;
        let id = TxId { index, label: plain.label };
        if now.mono_ns >= plain.until {
            let over = place.take().map_or(Due::Nothing, Due::Over);
            shard.free.push(part.plain_place() as u32);
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Some((id, over));
        }
        let is_due = now.mono_ns >= plain.again;
        Some((id, if is_due { plain.again(now, timers) } else { Due::Nothing }))
    }
}

impl Tm {
    /// Sends a request of the kind that this file is about; `None`: it is of another.
    pub(crate) fn send_plain(
        &self,
        cx: &mut Cx<'_>,
        request: &LocalRequest,
        socket: SocketId,
        owner: &Owner,
    ) -> Option<()> {
        let Owner::Module { slot, token } = *owner else { return None };
        let is_seen = self.params.local_request_route.is_some()
            || cx.unnamed_route(Routes::LOCAL).is_some()
            || self.params.anycast.is_on();
        let is_plain = request.is_plain
            && request.attached.is_empty()
            && request.context.is_none()
            && *request.method != *b"INVITE";
        if is_seen || !is_plain {
            return None;
        }
        let hop = uri_hop(request.next_hop.as_ref().unwrap_or(&request.uri)).ok()?;
        let socket = cx.node.sockets.toward_by(hop.proto, hop.addr, Some(socket))?;
        if hop.proto != Proto::Udp {
            return None;
        }
        let id = self.plains.take_place(cx.worker.id, &mut cx.worker.chance);
        let bytes = request.bytes(self, cx, socket, Some(&id.via_branch(0)));
        if !is_allowed(cx, hop, &bytes) {
            self.plains.give_back(id);
            return None;
        }
        let first_ms = self.params.timers.t1_ms.max(1);
        let mut plain = Plain {
            label: id.label,
            request: bytes.clone(),
            to: hop.addr,
            socket,
            owner: (slot, token),
            again: cx.now.after_ms(first_ms.into()),
            until: cx.now.after_ms(self.params.timers.fr_ms.into()),
            interval_ms: first_ms,
            sends: 1,
            is_heard: false,
            turn: None,
        };
        plain.turn = self.be_looked_at(cx, id, plain.again.min(plain.until), true);
        self.plains.put(id, plain);
        self.count(cx, stats::UAC_TRANSACTIONS);
        cx.send(Send { socket, to: hop.addr, payload: bytes, ticket: 0 }, id.plain_ticket());
        Some(())
    }

    /// Has somebody look at a request at a time; its place in the line of those who are soon.
    fn be_looked_at(&self, cx: &mut Cx<'_>, id: TxId, at: Mono, is_first: bool) -> Option<u32> {
        let token = id.token(0);
        if let Some(place) = is_first.then(|| self.soon.join(at, token)).flatten() {
            if place.is_first {
                cx.set_timer(place.at, WheelTimer { kind: SOON, id: 0 });
            }
            return Some(place.number);
        }
        cx.set_timer(at, WheelTimer { kind: 0, id: token });
        None
    }

    /// The time of a request may have come to be sent again, or given up.
    pub(crate) fn look_after_plain(&self, cx: &mut Cx<'_>, (index, short): (u16, u32)) {
        match self.plains.due(index, short, cx.now, &self.params.timers) {
            None | Some((_, Due::Nothing)) => {}
            Some((id, Due::Again { send, sends, next })) => {
                let number = (sends as usize).saturating_sub(2).min(3);
                self.count(cx, stats::RETRANSMITTED_REQUESTS + number);
                cx.send(send, id.plain_ticket());
                self.be_looked_at(cx, id, next, false);
            }
            Some((_, Due::Over(plain))) => {
                self.count(cx, stats::TIMEOUT);
                self.end_plain(cx, &plain, 408, None);
            }
        }
    }

    /// A request could not leave.
    pub(crate) fn plain_failed(&self, cx: &mut Cx<'_>, ticket: u64) {
        let Some(id) = self.plains.named(ticket) else { return };
        if let Some(plain) = self.plains.take(id, |_| true) {
            self.end_plain(cx, &plain, 477, None);
        }
    }

    /// A reply at first sight. Of a 2xx nobody wants more than the code.
    pub(crate) fn takes_plain_reply(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> bool {
        if self.plains.len() == 0 || self.params.anycast.is_on() {
            return false;
        }
        let named = glance_branch(bytes).and_then(TxId::parse).map(|(id, _)| id);
        let Some(id) = named.filter(|id| id.is_plain()) else { return false };
        let Some(seen) = glance(bytes).filter(|seen| seen.status / 100 == 2) else { return false };
        let Some(plain) = self.plains.take(id, |plain| plain.is_of(seen.method)) else {
            return false;
        };
        self.count(cx, stats::RECEIVED_REPLIES);
        self.end_plain(cx, &plain, seen.status, Some(None));
        true
    }

    /// A reply that names a request of this kind; `false`: that is none of those that wait.
    pub(crate) fn take_plain_reply(&self, cx: &mut Cx<'_>, id: TxId, reply: &Message) -> bool {
        let (code, method) = (reply.status(), reply.method_bytes());
        if code < 200 {
            return self.plains.with(id, |plain| plain.is_heard |= plain.is_of(method)).is_some();
        }
        let Some(plain) = self.plains.take(id, |plain| plain.is_of(method)) else { return false };
        self.end_plain(cx, &plain, code, Some(Some(reply)));
        true
    }

    /// A request has its result. `reply`: `None`, nobody has answered.
    fn end_plain(
        &self,
        cx: &mut Cx<'_>,
        plain: &Plain,
        code: u16,
        reply: Option<Option<&Message>>,
    ) {
        if let Some(turn) = plain.turn {
            self.soon.leave(turn);
        }
        let own = reply.is_none();
        self.count(cx, if own { stats::LOCAL_REPLIES } else { stats::RELAYED_REPLIES });
        self.count(cx, stats::CLASSES + usize::from(code / 100).clamp(2, 6) - 2);
        let (slot, token) = plain.owner;
        cx.tell_reply(slot, token, code, reply.flatten().cloned());
    }
}

/// Whether a reply is to a request of this kind that is over: nothing sent by this node itself goes
/// on from here.
pub(crate) fn is_late(id: TxId, reply: &Message) -> bool {
    id.is_plain() && reply.values(HeaderName::Via).nth(1).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(plains: &Plains, random: u64) -> TxId {
        let id = plains.take_place(0, &mut Chance::from_number(random));
        let plain = Plain {
            label: id.label,
            request: Bytes::new(),
            to: SocketAddr::from(([127, 0, 0, 2], 5060)),
            socket: SocketId(0),
            owner: (0, 0),
            again: 0,
            until: 0,
            interval_ms: 0,
            sends: 1,
            is_heard: false,
            turn: None,
        };
        plains.put(id, plain);
        id
    }

    #[test]
    fn what_could_not_leave_for_an_earlier_one_is_not_of_the_next_in_its_place() {
        let plains = Plains::default();
        let first = waits(&plains, 1);
        assert_eq!(plains.named(first.plain_ticket()), Some(first));
        assert!(plains.take(first, |_| true).is_some(), "answered");
        let second = waits(&plains, 2);
        assert_eq!(second.plain_place(), first.plain_place());
        assert_eq!(plains.named(first.plain_ticket()), None);
        assert_eq!(plains.named(second.plain_ticket()), Some(second));
    }
}
