//! What is going to happen, ordered by time and, at one time, by the order of its making.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::Mono;
use tandem_cluster::ConnId;
use tandem_db::Query;
use tandem_dns::Question;

use crate::plan::Action;

/// A process of a host: the events of an earlier life are void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) node: u32,
    pub(crate) life: u64,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// A worker gets the processor. Void unless the worker still waits for this very instant.
    Turn { of: Life, worker: usize, at: Mono },
    /// A datagram arrives.
    Datagram { from: SocketAddr, to: SocketAddr, payload: Bytes },
    /// Something travels along a BIN stream towards one of its ends.
    Parcel { stream: u64, to: usize, number: u64, parcel: Parcel },
    /// The wish to connect arrives.
    Connect { stream: u64 },
    /// A connection attempt has failed.
    ConnectFailed { of: Life, conn: ConnId },
    /// An end of a stream has heard nothing for too long.
    Break { stream: u64, to: usize, cut: u64 },
    /// A write to disk is durable, or has failed.
    Written { of: Life, write: u64 },
    /// The database answers.
    Database { of: Life, query: u64, ask: Query },
    /// The DNS answers, or not.
    Named { of: Life, query: u64, question: Question },
    /// A step of the plan.
    Act(Action),
    /// A timer of a phone.
    Phone { phone: u32, timer: u64 },
    /// The heartbeat of a stock node.
    StockTick { of: Life },
    /// A worker of a stock node takes a packet.
    StockPacket { of: Life, conn: ConnId, frame: Bytes },
    /// The checkers look.
    Look,
}

#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Connected,
    Bytes(Bytes),
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Mono, u64), Event>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Mono, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Mono, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
