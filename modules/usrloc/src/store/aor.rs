//! The record of one AoR, and the rules by which changes of it win or lose.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use super::change::{Stamp, Tombstone};
use super::contact::{Contact, Slot};

/// Contacts of one AoR, at most.
pub const CONTACTS_MAX: usize = 512;
/// Deletes of one AoR that are remembered, at most; the oldest is forgotten.
pub const TOMBSTONES_MAX: usize = 64;
/// Contact labels have 14 bits.
pub(super) const LABELS: u16 = 1 << 14;

/// One AoR with its contacts, oldest first, and what was deleted from it.
#[derive(Debug, Default)]
pub(super) struct Aor {
    pub(super) record_label: u32,
    /// Contact label given out next, 0..16383.
    pub(super) next_label: u16,
    pub(super) contacts: SmallVec<[Slot; 1]>,
}

impl Aor {
    pub(super) fn position(&self, id: u64) -> Option<usize> {
        self.contacts.iter().position(|s| s.contact.id == id)
    }

    /// The contact with this name, as Tandem nodes name contacts between them: exactly.
    pub(super) fn named(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<usize> {
        self.contacts.iter().position(|s| {
            s.contact.uri() == uri
                && s.contact.keyed_by_call_id == call_id.is_some()
                && call_id.is_none_or(|c| c == s.contact.call_id())
        })
    }
}

/// Which of two states of one contact is the later one (decisions: "Contacts that conflict").
/// Equal stamps with different contents are parted by their digest, so that every node keeps
/// the same one.
pub(super) fn compare(a: &Contact, b: &Contact) -> Ordering {
    let by_cseq = if a.call_id() == b.call_id() { a.cseq.cmp(&b.cseq) } else { Ordering::Equal };
    by_cseq.then(a.stamp.cmp(&b.stamp)).then(a.digest.cmp(&b.digest))
}

/// The deletes of one AoR that are remembered.
#[derive(Debug, Default)]
pub(super) struct Graves(Vec<Tombstone>);

impl Graves {
    /// The stamp of the delete of the contact with this name.
    pub(super) fn stamp_of(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<Stamp> {
        self.0.iter().find(|t| is_named(t, uri, call_id)).map(|t| t.stamp)
    }

    /// Remembers a delete; the later one of the same name stays.
    pub(super) fn add(&mut self, tombstone: Tombstone) {
        let call_id = tombstone.keyed_by_call_id.then_some(&*tombstone.call_id);
        if let Some(old) = self.0.iter_mut().find(|t| is_named(t, &tombstone.uri, call_id)) {
            if order(old) < order(&tombstone) {
                *old = tombstone;
            }
            return;
        }
        if self.0.len() >= TOMBSTONES_MAX {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, t)| t.stamp).map(|(n, _)| n);
            oldest.map(|n| self.0.swap_remove(n));
        }
        self.0.push(tombstone);
    }

    /// Forgets the delete of a contact that was written again later.
    pub(super) fn remove(&mut self, uri: &[u8], call_id: Option<&[u8]>) {
        self.0.retain(|t| !is_named(t, uri, call_id));
    }

    pub(super) fn forget(&mut self, now_s: u64) {
        self.0.retain(|t| t.until_s > now_s);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn is_named(t: &Tombstone, uri: &[u8], call_id: Option<&[u8]>) -> bool {
    *t.uri == *uri
        && t.keyed_by_call_id == call_id.is_some()
        && call_id.is_none_or(|c| c == &*t.call_id)
}

fn order(t: &Tombstone) -> (Stamp, u64, u32, &[u8]) {
    (t.stamp, t.until_s, t.cseq, &t.call_id)
}

/// A contact as an AoR gives it out.
pub type Contacts = SmallVec<[Arc<Contact>; 2]>;
