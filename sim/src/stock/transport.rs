//! Connections: opened on demand, several in parallel at times, closed when idle. A packet in a
//! connection that is lost is lost.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use tandem_bin::{Framer, NodeId};
use tandem_clock::{Mono, Now, SEC};
use tandem_cluster::ConnId;

use super::{Act, Stock};
use crate::options::Dice;

#[derive(Debug)]
pub(super) struct Conn {
    /// Whom it leads to; `None` if a peer opened it: then nothing is sent on it.
    to: Option<NodeId>,
    pub(super) ip: IpAddr,
    is_open: bool,
    waiting: BytesMut,
    framer: Framer,
    used_at: Mono,
}

const IDLE_NS: Mono = 120 * SEC;
/// How often a worker opens a connection although another one has one.
const PARALLEL: f64 = 0.02;
/// Connections of one direction to one node.
const PARALLEL_MAX: usize = 3;

impl Stock {
    pub(super) fn post(&mut self, now: Now, to: NodeId, bytes: &[u8]) {
        let usable: Vec<ConnId> =
            self.conns.iter().filter(|(_, c)| c.to == Some(to)).map(|(&id, _)| id).collect();
        let more = usable.len() < PARALLEL_MAX && self.dice.happens(PARALLEL);
        let conn = match usable.get(self.dice.pick(usable.len())) {
            Some(&conn) if !more => conn,
            _ => match self.open(now, to) {
                Some(conn) => conn,
                None => return,
            },
        };
        let Some(c) = self.conns.get_mut(&conn) else { return };
        c.used_at = now.mono_ns;
        if c.is_open {
            self.acts.push(Act::Write { conn, bytes: Bytes::copy_from_slice(bytes) });
        } else {
            c.waiting.extend_from_slice(bytes);
        }
    }

    fn open(&mut self, now: Now, to: NodeId) -> Option<ConnId> {
        let peer = self.peers.get(&to)?.address;
        self.next_conn += 1;
        let conn = ConnId::Outgoing(self.next_conn);
        self.insert(now, conn, Some(to), peer.ip());
        self.acts.push(Act::Connect { conn, peer });
        Some(conn)
    }

    fn insert(&mut self, now: Now, conn: ConnId, to: Option<NodeId>, ip: IpAddr) {
        let (waiting, framer, used_at) = (BytesMut::new(), Framer::default(), now.mono_ns);
        let is_open = to.is_none();
        self.conns.insert(conn, Conn { to, ip, is_open, waiting, framer, used_at });
    }

    pub(crate) fn accepted(&mut self, now: Now, conn: ConnId, ip: IpAddr) {
        self.insert(now, conn, None, ip);
    }

    pub(crate) fn connected(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        c.is_open = true;
        let bytes = std::mem::take(&mut c.waiting).freeze();
        if !bytes.is_empty() {
            self.acts.push(Act::Write { conn, bytes });
        }
    }

    /// Failed or closed: what waited is lost, and nobody is told.
    pub(crate) fn gone(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    /// Whole packets of a connection.
    pub(crate) fn frames(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> Vec<Bytes> {
        let Some(c) = self.conns.get_mut(&conn) else { return Vec::new() };
        c.used_at = now.mono_ns;
        c.framer.push(bytes);
        let mut frames = Vec::new();
        loop {
            match c.framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => break,
            }
        }
        self.conns.remove(&conn);
        self.acts.push(Act::Close { conn });
        frames
    }

    pub(super) fn close_idle(&mut self, now: Now) {
        let idle = |c: &Conn| now.mono_ns.saturating_sub(c.used_at) >= IDLE_NS;
        let idle: Vec<ConnId> =
            self.conns.iter().filter(|(_, c)| idle(c)).map(|(&id, _)| id).collect();
        for conn in idle {
            self.conns.remove(&conn);
            self.acts.push(Act::Close { conn });
        }
    }
}
