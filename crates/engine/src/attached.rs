//! What modules attach to a message and the transaction that is made of it, and what they hear of
//! that transaction.
//!
//! A section is shared: the contexts of all routes of a transaction, its branches and the
//! transaction itself hold the same one. So what a failure route changes in it counts for the
//! reply that follows.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tandem_sip::Message;

use crate::sockets::SocketId;

/// What a module attaches; locks what changes in it.
pub type Section = Arc<dyn Any + Send + Sync>;

/// The sections of one message, by the slot of their module. Copies are cheap.
#[derive(Clone, Default)]
pub struct Attached(Option<Arc<Vec<(u16, Section)>>>);

impl Attached {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What module `slot` attached.
    pub fn get<T: Any + Send + Sync>(&self, slot: u16) -> Option<Arc<T>> {
        let (_, section) = self.iter().find(|(s, _)| *s == slot)?;
        Arc::clone(section).downcast().ok()
    }

    /// Attaches a section in the place of the one that module `slot` may have.
    pub fn put(&mut self, slot: u16, section: Section) {
        let all = Arc::make_mut(self.0.get_or_insert_default());
        match all.iter_mut().find(|(s, _)| *s == slot) {
            Some((_, old)) => *old = section,
            None => all.push((slot, section)),
        }
    }

    /// Takes the section of module `slot` away, for this message and what is made of it later.
    pub fn remove(&mut self, slot: u16) {
        if self.iter().any(|(s, _)| *s == slot) {
            let left: Vec<_> = self.iter().filter(|(s, _)| *s != slot).cloned().collect();
            self.0 = (!left.is_empty()).then(|| Arc::new(left));
        }
    }

    /// Takes over what a route of the message has attached; nothing attached says nothing.
    pub fn update(&mut self, newer: &Self) {
        if !newer.is_empty() {
            self.0.clone_from(&newer.0);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &(u16, Section)> {
        self.0.iter().flat_map(|all| all.iter())
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(slot, _)| slot)).finish()
    }
}

/// A message as it leaves. Whoever wants to look into it shares one reading.
#[derive(Clone, Debug, Default)]
pub struct Written {
    bytes: Bytes,
    read: OnceLock<Option<Message>>,
    contact: Option<Bytes>,
}

impl Written {
    /// With a message that is known to say the same, but for what proxies change on its way: its
    /// Request-URI, Vias, Routes and hop count. That is what is looked into.
    pub fn like(bytes: Bytes, same: Message) -> Self {
        Self { bytes, read: OnceLock::from(Some(same)), contact: None }
    }

    /// With the URI of the sender's Contact as the script has put it right, where the message
    /// shows another.
    #[must_use]
    pub fn with_contact(self, contact: Option<Bytes>) -> Self {
        Self { contact, ..self }
    }

    /// See [`Self::with_contact`].
    pub fn contact(&self) -> Option<&[u8]> {
        self.contact.as_deref()
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it says, perhaps with the Request-URI, Vias, Routes and hop count that it came with.
    /// `None`: it cannot be read.
    pub fn message(&self) -> Option<&Message> {
        self.read.get_or_init(|| Message::parse(self.bytes.clone()).ok()).as_ref()
    }
}

impl From<Bytes> for Written {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, read: OnceLock::new(), contact: None }
    }
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What happened to a transaction. The module hears it in the same step, before anything of the
/// step leaves the node and while no lock of the transaction is held.
#[derive(Clone, Debug)]
pub enum TxMoment {
    /// The request left on a branch, for the first time.
    Sent {
        branch: u8,
        socket: SocketId,
        to: SocketAddr,
        request: Written,
        /// Record-Routes of this node that [`Written::message`] of it does not show.
        added_routes: usize,
    },
    /// A reply came in on a branch, before any route sees it. The retransmission of a 2xx to an
    /// INVITE is told like the first.
    Received { branch: u8, reply: Message },
    /// A reply goes to the caller.
    Replied {
        code: u16,
        reply: Written,
        /// It was made here.
        own: bool,
        /// No final reply went before it.
        first: bool,
    },
    /// The caller's CANCEL came before a final reply.
    Cancelled,
    /// All branches have failed, before a failure route may send the request elsewhere.
    Failed { code: u16, branch: Option<u8>, reply: Written },
    /// The transaction is gone.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_finds_its_own_section_and_copies_share_it() {
        let mut attached = Attached::default();
        assert!(attached.is_empty() && attached.get::<u32>(1).is_none());
        attached.put(1, Arc::new(7_u32));
        attached.put(2, Arc::new("text"));
        let copy = attached.clone();
        assert!(Arc::ptr_eq(&copy.get::<u32>(1).unwrap(), &attached.get::<u32>(1).unwrap()));
        assert!(copy.get::<u32>(2).is_none(), "another type");
        attached.put(1, Arc::new(8_u32));
        attached.remove(2);
        assert_eq!(attached.iter().count(), 1);
        assert_eq!((*copy.get::<u32>(1).unwrap(), *attached.get::<u32>(1).unwrap()), (7, 8));
        attached.remove(1);
        assert!(attached.is_empty());
    }

    #[test]
    fn nothing_newer_takes_nothing_away() {
        let mut attached = Attached::default();
        attached.put(1, Arc::new(7_u32));
        attached.update(&Attached::default());
        assert_eq!(*attached.get::<u32>(1).unwrap(), 7);
    }
}
