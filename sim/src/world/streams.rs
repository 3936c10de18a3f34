//! BIN streams: ordered bytes in arbitrary pieces, until an end closes, dies or gives up.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Mono, SEC};
use tandem_cluster::ConnId;

use super::network::{Network, segment_delay};
use super::queue::{Event, Life, Parcel, Queue};
use crate::options::{Dice, Options};

/// How long nodes wait for a connection: ours, and stock ones (`bin_async_local_connect_timeout`).
const CONNECT_TIMEOUT: Mono = 5 * SEC;
const CONNECT_TIMEOUT_OF_STOCK: Mono = 100 * MS;
/// When TCP repeats a SYN.
const SYN_AGAIN: Mono = SEC;

/// All streams, by number. End 0 has connected, end 1 has accepted.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    all: BTreeMap<u64, Stream>,
    ends: BTreeMap<(Life, ConnId), (u64, usize)>,
    next: u64,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ends: [End; 2],
    asked_at: Mono,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) of: Life,
    pub(crate) conn: ConnId,
    pub(crate) is_open: bool,
    /// Nothing arrives before what was sent before it.
    last_at: Mono,
    /// Number of the next parcel towards this end.
    next: u64,
    /// Parcels below this number were lost with the process that wrote them.
    lost_below: u64,
    /// Parcels that a cut holds back; TCP sends them again.
    held: BTreeMap<u64, Parcel>,
}

impl End {
    fn new(of: Life, conn: ConnId, is_open: bool) -> Self {
        let held = BTreeMap::new();
        Self { of, conn, is_open, last_at: 0, next: 0, lost_below: 0, held }
    }
}

/// What a stream needs of the world to move something.
pub(crate) struct Wire<'a> {
    pub(crate) now: Mono,
    pub(crate) options: &'a Options,
    pub(crate) network: &'a Network,
    pub(crate) queue: &'a mut Queue,
    pub(crate) dice: &'a mut Chance,
}

impl Streams {
    /// Begins to connect.
    pub(crate) fn connect(&mut self, wire: &mut Wire<'_>, of: Life, conn: ConnId, peer: u32) {
        self.next += 1;
        let accepted = End::new(Life { node: peer, life: 0 }, ConnId::Accepted(self.next), false);
        let ends = [End::new(of, conn, true), accepted];
        self.all.insert(self.next, Stream { ends, asked_at: wire.now });
        self.ends.insert((of, conn), (self.next, 0));
        let delay = segment_delay(wire.options, wire.dice);
        wire.queue.push(wire.now + delay, Event::Connect { stream: self.next });
    }

    /// Whom a stream that is not accepted yet wants to reach.
    pub(crate) fn target(&self, stream: u64) -> Option<u32> {
        self.all.get(&stream).map(|s| s.ends[1].of.node)
    }

    /// The wish to connect has arrived where `target` runs, if anything does. The accepted end
    /// if there is one now; otherwise the other side will hear that it failed.
    pub(crate) fn accept(
        &mut self,
        wire: &mut Wire<'_>,
        stream: u64,
        target: Option<Life>,
    ) -> Option<(Life, ConnId, Life)> {
        let s = self.all.get_mut(&stream)?;
        let waited = wire.now.saturating_sub(s.asked_at);
        let [from, to] = &mut s.ends;
        let (caller, conn) = (from.of, from.conn);
        let stuck = wire.network.is_stuck(caller.node, to.of.node);
        let is_stock = wire.options.is_stock(caller.node);
        if stuck && from.is_open && !is_stock && waited + SYN_AGAIN < CONNECT_TIMEOUT {
            wire.queue.push(wire.now + SYN_AGAIN, Event::Connect { stream });
            return None;
        }
        let target = target.filter(|_| !stuck && from.is_open);
        let Some(target) = target else {
            let wait = match (stuck, is_stock) {
                (false, _) => MS,
                (true, true) => CONNECT_TIMEOUT_OF_STOCK,
                (true, false) => CONNECT_TIMEOUT.saturating_sub(waited),
            };
            let failed = Event::ConnectFailed { of: caller, conn };
            wire.queue.push(wire.now + wait, failed);
            self.remove(stream);
            return None;
        };
        to.of = target;
        to.is_open = true;
        let accepted = to.conn;
        self.ends.insert((target, accepted), (stream, 1));
        self.send(wire, stream, 0, Parcel::Connected);
        Some((target, accepted, caller))
    }

    /// Sends bytes that a process wrote to a connection.
    pub(crate) fn write(&mut self, wire: &mut Wire<'_>, of: Life, conn: ConnId, bytes: &Bytes) {
        let Some(&(stream, end)) = self.ends.get(&(of, conn)) else { return };
        let mut rest = bytes.clone();
        while rest.len() > 1 && wire.dice.happens(wire.options.bin_split) {
            let at = 1 + wire.dice.pick(rest.len() - 1);
            let piece = rest.split_to(at);
            self.send(wire, stream, 1 - end, Parcel::Bytes(piece));
        }
        self.send(wire, stream, 1 - end, Parcel::Bytes(rest));
    }

    /// A process closes a connection.
    pub(crate) fn close(&mut self, wire: &mut Wire<'_>, of: Life, conn: ConnId) {
        let Some(&(stream, end)) = self.ends.get(&(of, conn)) else { return };
        self.shut(stream, end);
        self.send(wire, stream, 1 - end, Parcel::Closed);
    }

    /// A process dies; what it wrote last arrives or not.
    pub(crate) fn crash(&mut self, wire: &mut Wire<'_>, of: Life) {
        let gone: Vec<_> =
            self.ends.range((of, ConnId::Outgoing(0))..).map(|(k, v)| (*k, *v)).collect();
        for ((_, _), (stream, end)) in gone.into_iter().filter(|((l, _), _)| *l == of) {
            let loses = wire.dice.happens(0.5);
            self.shut(stream, end);
            let other = self.all.get_mut(&stream).and_then(|s| s.ends.get_mut(1 - end));
            if let Some(other) = other.filter(|_| loses) {
                other.lost_below = other.next;
                other.held.clear();
            }
            self.send(wire, stream, 1 - end, Parcel::Closed);
        }
    }

    fn send(&mut self, wire: &mut Wire<'_>, stream: u64, to: usize, parcel: Parcel) {
        let Some(s) = self.all.get_mut(&stream) else { return };
        let from = s.ends.get(1 - to).map_or(0, |end| end.of.node);
        let Some(end) = s.ends.get_mut(to) else { return };
        let number = end.next;
        end.next += 1;
        if wire.network.is_cut(from, end.of.node) || !end.held.is_empty() {
            end.held.insert(number, parcel);
            return;
        }
        let delay = segment_delay(wire.options, wire.dice);
        end.last_at = end.last_at.max(wire.now + delay);
        wire.queue.push(end.last_at, Event::Parcel { stream, to, number, parcel });
    }

    /// A parcel has arrived: the connection to tell, and of what.
    pub(crate) fn arrive(
        &mut self,
        network: &Network,
        stream: u64,
        to: usize,
        number: u64,
        parcel: Parcel,
    ) -> Option<(Life, ConnId, Parcel)> {
        let s = self.all.get_mut(&stream)?;
        let from = s.ends.get(1 - to).map_or(0, |end| end.of.node);
        let end = s.ends.get_mut(to)?;
        if number < end.lost_below || !end.is_open {
            return None;
        }
        if network.is_cut(from, end.of.node) {
            end.held.insert(number, parcel);
            return None;
        }
        let told = (end.of, end.conn);
        if matches!(parcel, Parcel::Closed) {
            self.shut(stream, to);
        }
        Some((told.0, told.1, parcel))
    }

    /// Two nodes were cut off from each other: after some seconds each end gives up.
    pub(crate) fn cut(&mut self, wire: &mut Wire<'_>, a: u32, b: u32, cut: u64) {
        for (stream, _) in self.all.iter().filter(|(_, s)| s.joins(a, b)) {
            for to in 0..2 {
                let wait = wire.dice.between(2 * SEC, 8 * SEC);
                wire.queue.push(wire.now + wait, Event::Break { stream: *stream, to, cut });
            }
        }
    }

    /// An end gives up, if it is still open: the connection to tell.
    pub(crate) fn give_up(&mut self, stream: u64, to: usize) -> Option<(Life, ConnId)> {
        let end = self.all.get(&stream)?.ends.get(to)?;
        let told = end.is_open.then_some((end.of, end.conn))?;
        self.shut(stream, to);
        Some(told)
    }

    /// Nodes reach each other again: what was held back is sent again, and an end that hears
    /// from one that gave up learns of it.
    pub(crate) fn heal(&mut self, wire: &mut Wire<'_>) {
        let numbers: Vec<u64> = self.all.keys().copied().collect();
        for stream in numbers {
            for to in 0..2 {
                let Some(end) = self.all.get_mut(&stream).and_then(|s| s.ends.get_mut(to)) else {
                    continue;
                };
                for (number, parcel) in std::mem::take(&mut end.held) {
                    let delay = segment_delay(wire.options, wire.dice);
                    let again = wire.dice.between(0, SEC / 2);
                    end.last_at = end.last_at.max(wire.now + delay + again);
                    wire.queue.push(end.last_at, Event::Parcel { stream, to, number, parcel });
                }
            }
            let open = self.all.get(&stream).map(|s| [s.ends[0].is_open, s.ends[1].is_open]);
            match open {
                Some([true, false]) if self.was_accepted(stream) => {
                    self.send(wire, stream, 0, Parcel::Closed);
                }
                Some([false, true]) => self.send(wire, stream, 1, Parcel::Closed),
                _ => {}
            }
        }
    }

    fn was_accepted(&self, stream: u64) -> bool {
        self.all.get(&stream).is_some_and(|s| s.ends[1].of.life != 0)
    }

    fn shut(&mut self, stream: u64, end: usize) {
        let Some(s) = self.all.get_mut(&stream) else { return };
        if let Some(end) = s.ends.get_mut(end) {
            end.is_open = false;
            self.ends.remove(&(end.of, end.conn));
        }
        if s.ends.iter().all(|end| !end.is_open) {
            self.all.remove(&stream);
        }
    }

    fn remove(&mut self, stream: u64) {
        if let Some(s) = self.all.remove(&stream) {
            for end in s.ends {
                self.ends.remove(&(end.of, end.conn));
            }
        }
    }
}

impl Stream {
    fn joins(&self, a: u32, b: u32) -> bool {
        let [x, y] = [self.ends[0].of.node, self.ends[1].of.node];
        (x, y) == (a, b) || (y, x) == (a, b)
    }
}
