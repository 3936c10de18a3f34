//! Contact ids: what management shows, pings carry, and rows of SQL are named by.

use super::aor::LABELS;
use super::edit::Edit;
use super::slots::Slots;

/// The labels of an AoR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) record: u32,
    /// Contact label given out next, 0..16383.
    pub(super) next: u16,
}

impl Labels {
    /// Of the AoR whose first contact is at `first`; `None`: there is none.
    pub(super) fn of(slots: &Slots, first: u32) -> Option<Self> {
        slots.next_label(first).map(|(id, next)| Self { record: (id >> 14) as u32, next })
    }
}

impl Edit<'_> {
    /// The id of a new contact: the labels a peer gave, if they are free here, else fresh ones.
    pub(super) fn new_id(&mut self, given: Option<u64>) -> u64 {
        let given = self.free_id(given);
        if self.labels.is_none() {
            let record = given.map_or(self.shard.next_label, |id| (id >> 14) as u32);
            if given.is_none() {
                self.shard.next_label = self.shard.next_label.wrapping_add(1);
            }
            // As a stock node does: contact labels begin anywhere.
            let next = (record ^ self.at.hash).wrapping_mul(0x9e37_79b1) >> 18;
            self.labels = Some(Labels { record, next: next as u16 });
        }
        given.unwrap_or_else(|| self.fresh_id())
    }

    fn fresh_id(&mut self) -> u64 {
        let hash = self.at.hash;
        let mut labels = self.labels.unwrap_or_default();
        // Far fewer contacts than labels: one is always free.
        let id = loop {
            let label = labels.next;
            labels.next = (label + 1) % LABELS;
            let id = contact_id(hash, labels.record, label);
            if self.shard.slots.place_of(id).is_none() {
                break id;
            }
            if label == LABELS - 1 {
                labels.record = labels.record.wrapping_add(1);
            }
        };
        self.labels = Some(labels);
        id
    }

    /// A peer's id with our own computation of the hash part, if nobody has it here.
    pub(super) fn free_id(&self, given: Option<u64>) -> Option<u64> {
        let id = given.map(|id| contact_id(self.at.hash, (id >> 14) as u32, id as u16 % LABELS));
        id.filter(|id| self.shard.slots.place_of(*id).is_none())
    }
}

/// Bits 0-13 contact label, 14-45 record label, 46-61 low 16 bits of the hash.
pub(super) fn contact_id(hash: u32, record_label: u32, label: u16) -> u64 {
    u64::from(hash & 0xffff) << 46 | u64::from(record_label) << 14 | u64::from(label)
}

/// Whether an id is one that this AoR can have.
pub(crate) fn is_id_of(aor: &[u8], id: u64) -> bool {
    (id >> 46) as u32 == tandem_sip::sip_hash(aor) & 0xffff
}
