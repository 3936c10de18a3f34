//! The BIN connections of a node, as `tcp:list` shows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;
use tandem_cluster::ConnId;

use crate::effect::BinInput;
use crate::stream::StreamId;

/// Rows that are kept; more connections work, and are not shown.
const SHOWN_MAX: usize = 1024;
/// Added to the number of a BIN connection, so that no connection for SIP has the same one.
const NUMBERS: u64 = 1 << 40;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BinLink {
    pub(crate) conn: ConnId,
    pub(crate) remote: SocketAddr,
    /// Our address; `None` while it is being opened, and for one that our socket accepted.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) open: bool,
}

impl BinLink {
    /// As it is shown: accepted connections have odd numbers.
    pub(crate) fn number(&self) -> u64 {
        let id = match self.conn {
            ConnId::Outgoing(n) => StreamId(n & !(1 << 63)),
            ConnId::Accepted(n) => StreamId(n | 1 << 63),
        };
        NUMBERS + id.number()
    }
}

/// All of them, by their names.
#[derive(Debug, Default)]
pub(crate) struct BinLinks(Mutex<BTreeMap<ConnId, BinLink>>);

impl BinLinks {
    pub(crate) fn list(&self) -> Vec<BinLink> {
        self.0.lock().values().cloned().collect()
    }

    /// A connection is being opened.
    pub(crate) fn connecting(&self, conn: ConnId, remote: SocketAddr) {
        self.insert(BinLink { conn, remote, local: None, open: false });
    }

    pub(crate) fn heard(&self, event: &BinInput) {
        match event {
            BinInput::Data { .. } => {}
            BinInput::Accepted { conn, peer } => {
                self.insert(BinLink { conn: *conn, remote: *peer, local: None, open: true });
            }
            BinInput::Connected { conn, local } => {
                if let Some(link) = self.0.lock().get_mut(conn) {
                    (link.local, link.open) = (*local, true);
                }
            }
            BinInput::ConnectFailed { conn } | BinInput::Closed { conn } => {
                self.0.lock().remove(conn);
            }
        }
    }

    fn insert(&self, link: BinLink) {
        let mut links = self.0.lock();
        if links.len() < SHOWN_MAX || links.contains_key(&link.conn) {
            links.insert(link.conn, link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_listed_from_its_beginning_to_its_end() {
        let links = BinLinks::default();
        let addr = |text: &str| text.parse().unwrap();
        let (dialed, taken) = (ConnId::Outgoing(3), ConnId::Accepted(3));
        links.connecting(dialed, addr("10.0.0.2:5566"));
        assert!(!links.list()[0].open);
        let local = Some(addr("10.0.0.1:40000"));
        links.heard(&BinInput::Connected { conn: dialed, local });
        links.heard(&BinInput::Accepted { conn: taken, peer: addr("10.0.0.2:41000") });
        let listed = links.list();
        assert_eq!(listed.iter().map(|l| l.open).collect::<Vec<_>>(), [true, true]);
        assert_eq!(listed[0].local, local);
        assert_eq!(listed[0].number() % 2, 0);
        assert_eq!(listed[1].number(), listed[0].number() + 1);
        links.heard(&BinInput::Closed { conn: dialed });
        links.heard(&BinInput::Closed { conn: taken });
        assert_eq!(links.list(), []);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let links = BinLinks::default();
        for n in 0..2 * SHOWN_MAX as u64 {
            links.connecting(ConnId::Outgoing(n), "10.0.0.2:5566".parse().unwrap());
        }
        assert_eq!(links.list().len(), SHOWN_MAX);
    }
}
