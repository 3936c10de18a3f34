//! Flows (RFC 5626): which connection leads to whom, although no address says so.
//!
//! A phone behind NAT is reached over the connection that it has opened and over no other. What
//! a module calls a flow (a contact of a location table) is bound to a connection here, goes over
//! to a newer one, and ends with the connection. It means something on this node only.

use std::net::SocketAddr;

use super::{StreamId, Streams};
use crate::context::Source;
use crate::sockets::SocketId;

/// The name of a flow: whose it is, and what it stands for there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    pub owner: u32,
    pub id: u64,
}

/// Flows of one connection, at most: a proxy may have many phones behind one.
pub(super) const FLOWS_MAX: usize = 65_536;
/// Requests of a connection without a flow that are looked at.
pub(super) const LOOKS_MAX: u8 = 8;

impl Streams {
    /// From now on the connection that a message came over leads to a flow. False: it came over
    /// none, or too many lead there already.
    pub fn bind(&self, source: &Source, flow: Flow) -> bool {
        let mut table = self.table.lock();
        let id = table.exact(source.socket, source.addr);
        id.is_some_and(|id| table.bind(id, flow))
    }

    /// Where the living connection of a flow leads, and from which socket.
    pub fn flow(&self, flow: Flow) -> Option<(SocketId, SocketAddr)> {
        if !self.is_active() {
            return None;
        }
        let table = self.table.lock();
        let (socket, remote, _) = table.ends(table.of_flow(flow)?)?;
        Some((socket, remote))
    }

    /// Whether a request may belong to a flow that is not bound yet: it is one of the first over
    /// a connection that leads to none.
    pub(super) fn may_bind(&self, id: StreamId) -> bool {
        self.table.lock().take_look(id)
    }
}
