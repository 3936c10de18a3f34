//! Keeping the hole in the NAT open.
//!
//! Every second one slice of the location tables is walked, so that each contact is pinged once
//! in an interval and never in a burst.

use bytes::Bytes;
use tandem_cluster::TagTable;
use tandem_engine::effect::Send;
use tandem_engine::module::Cx;
use tandem_engine::transport::uri_target;
use tandem_usrloc::store::Contact;
use tandem_usrloc::{Leave, Usrloc};

use crate::Nathelper;

/// The timer of the slices.
pub(crate) const TICK: u32 = 0;

/// What goes out: four zero bytes, which a phone ignores and a NAT does not.
const PING: &[u8] = &[0; 4];

impl Nathelper {
    /// Pings the contacts of one slice that this node may ping.
    pub(crate) fn ping_slice(&self, cx: &mut Cx<'_>, tick: u64) {
        let Some(usrloc) = &self.usrloc else { return };
        let node = std::sync::Arc::clone(cx.node);
        let tags = node.membership().tags().map(|t| &**t);
        if !self.may_ping(tags) {
            return;
        }
        let (part, of) = ((tick % self.interval_s) as usize, self.interval_s as usize);
        for table in usrloc.tables() {
            for (contact, _) in usrloc.part(&table, part, of, cx.now) {
                if self.nated_only && !contact.has_branch_flag(&usrloc.params.nat_flag) {
                    continue;
                }
                if let Some(leave) = usrloc.leave_to_ping(tags, &contact) {
                    ping(cx, usrloc, &contact, &leave);
                }
            }
        }
    }

    /// The switch of cluster_sharing_tag; without one the contacts decide.
    fn may_ping(&self, tags: Option<&TagTable>) -> bool {
        match &self.tag {
            None => true,
            Some((cluster, name)) => tags.is_some_and(|t| t.duty(name, *cluster).is_some()),
        }
    }
}

/// Sends one ping; `_leave` is the proof that this node is to.
fn ping(cx: &mut Cx<'_>, usrloc: &Usrloc, contact: &Contact, _leave: &Leave<'_>) {
    let uri = if contact.received().is_empty() { contact.uri() } else { contact.received() };
    let Ok(to) = uri_target(uri) else { return };
    let preferred = usrloc.socket_of(cx.node, contact);
    let Some(socket) = cx.node.sockets.toward(to, preferred) else { return };
    let payload = Bytes::from_static(PING);
    cx.send(Send { socket, to, payload, ticket: 0 }, 0);
}
