//! What `nathelper` needs: who may ping a contact, and what came of it. Whose turn it is stands in
//! the store.

use std::sync::Arc;

use tandem_clock::Now;
use tandem_cluster::{Duty, TagTable};
use tandem_engine::module::Cx;
use tandem_sip::sip_hash;

use crate::events;
use crate::params::Pinging;
use crate::state::{Table, Usrloc};
use crate::store::{Contact, Local, Place, Text};

/// Leave to act on a contact on one's own initiative.
#[derive(Debug)]
pub enum Leave<'t> {
    /// The node is in no cluster.
    Alone,
    Duty(Duty<'t>),
}

/// The capability whose synced nodes share the contacts.
const SHARED: &str = "usrloc-contact-repl";

/// Texts of key/values whose leave is known, at most.
const KNOWN_MAX: usize = 16;

/// Leaves of many contacts in one step: what contacts of one tag have in common is asked once.
pub struct Leaves<'t> {
    usrloc: &'t Usrloc,
    /// `None`: nobody else could ping.
    tags: Option<&'t TagTable>,
    /// By key/values; the inner `None`: there is no tag in them.
    by_keys: Vec<(Box<[u8]>, ByTag<'t>)>,
    /// The leave of the contact at hand, where no tag decides.
    at_hand: Option<Leave<'t>>,
}

/// What the tag of a contact says.
enum ByTag<'t> {
    /// It has none.
    NoTag,
    Tag(Option<Leave<'t>>),
}

impl<'t> Leaves<'t> {
    /// Whether this node may ping a contact (`pinging_mode`).
    ///
    /// Ownership: the holder of the contact's tag does; a contact without one is everybody's.
    /// Cooperation: the synced nodes share the AoRs. Unset: by tag if there is one, else shared.
    pub fn of(&mut self, contact: &Contact) -> Option<&Leave<'t>> {
        let Some(tags) = self.tags else {
            return Some(self.at_hand.insert(Leave::Alone));
        };
        let pinging = self.usrloc.params.pinging;
        if pinging != Pinging::Cooperation {
            let at = self.known(tags, contact);
            if let Some((_, ByTag::Tag(leave))) = self.by_keys.get(at) {
                return leave.as_ref();
            }
        }
        self.at_hand = match pinging {
            Pinging::Ownership => Some(Leave::Duty(tags.sole())),
            Pinging::Unset | Pinging::Cooperation => {
                let hash = u64::from(sip_hash(contact.aor()));
                tags.duty_by_share(self.usrloc.params.cluster, SHARED, hash).map(Leave::Duty)
            }
        };
        self.at_hand.as_ref()
    }

    fn known(&mut self, tags: &'t TagTable, contact: &Contact) -> usize {
        let keys = contact.text(Text::KeyValues);
        if let Some(at) = self.by_keys.iter().position(|(known, _)| **known == *keys) {
            return at;
        }
        if self.by_keys.len() >= KNOWN_MAX {
            self.by_keys.clear();
        }
        let by_tag = contact.sharing_tag().map_or(ByTag::NoTag, |tag| {
            ByTag::Tag(tags.duty(&tag, self.usrloc.params.cluster).map(Leave::Duty))
        });
        self.by_keys.push((keys.into(), by_tag));
        self.by_keys.len() - 1
    }
}

impl Usrloc {
    /// The contacts of a table that have not ended, one shard after the other.
    pub fn all(&self, table: &Table, now: Now) -> impl Iterator<Item = (Arc<Contact>, Local)> {
        let now_s = now.unix_s();
        let shards = 0..table.domain.shard_count();
        let contacts = shards.flat_map(|shard| table.domain.shard_contacts(shard));
        contacts.filter(move |(contact, _)| !contact.is_expired(now_s))
    }

    /// Who may be pinged by this node now; `tags` is its table.
    pub fn leaves<'t>(&'t self, tags: Option<&'t TagTable>) -> Leaves<'t> {
        let tags = tags.filter(|_| self.params.is_shared);
        Leaves { usrloc: self, tags, by_keys: Vec::new(), at_hand: None }
    }

    /// Whether this node may act on one contact now.
    pub fn may_act(&self, tags: Option<&TagTable>, contact: &Contact) -> bool {
        self.leaves(tags).of(contact).is_some()
    }

    /// A ping has left whose answer matters. `reign` counts the times at which this node has
    /// begun to ping: what was lost in an earlier one is forgotten.
    pub fn ping_sent(&self, table: &Table, (id, near): (u64, Place), now: Now, reign: u16) {
        table.domain.with_local_near(near, id, |_, local| {
            let ping = local.ping_mut();
            if ping.reign != reign {
                (ping.reign, ping.lost) = (reign, 0);
            }
            ping.sent_ns = now.mono_ns.max(1);
        });
    }

    /// Nobody may have answered the ping sent at `sent_ns`. Gives how many were lost in a row;
    /// `None`: an answer came behind it, or the contact is gone. Others may have been sent since.
    pub fn ping_lost(&self, table: &Table, (id, near): (u64, Place), sent_ns: u64) -> Option<u16> {
        table.domain.with_local_near(near, id, |_, local| {
            let ping = local.pinged_mut().filter(|ping| ping.answered_ns < sent_ns)?;
            if ping.sent_ns == sent_ns {
                ping.sent_ns = 0;
            }
            ping.lost = ping.lost.saturating_add(1);
            Some(ping.lost)
        })?
    }

    /// The ping sent at `sent_ns` did not leave this host: it says nothing about the phone.
    pub fn ping_void(&self, table: &Table, id: u64, sent_ns: u64) {
        table.domain.with_local(id, |_, local| {
            if let Some(ping) = local.pinged_mut().filter(|ping| ping.sent_ns == sent_ns) {
                ping.sent_ns = 0;
            }
        });
    }

    /// A ping was answered. If `measures` says so for the contact, its latency is kept, and
    /// E_UL_LATENCY_UPDATE raised where the limits of the parameters want it. False: the contact
    /// is gone.
    pub fn ping_answered(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        (id, near): (u64, Place),
        measures: impl FnOnce(&Contact) -> bool,
    ) -> bool {
        let (now, params) = (cx.now, &self.params);
        let found = table.domain.with_local_near(near, id, |contact, local| {
            let ping = local.pinged_mut()?;
            (ping.lost, ping.answered_ns) = (0, now.mono_ns.max(1));
            let sent_ns = std::mem::take(&mut ping.sent_ns);
            if sent_ns == 0 || !measures(contact) {
                return None;
            }
            let micros = now.mono_ns.saturating_sub(sent_ns) / 1000;
            let latency_us = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
            let before_us = std::mem::replace(&mut ping.latency_us, latency_us);
            let is_due = params.tells_latency(before_us, latency_us);
            is_due.then(|| (Arc::clone(contact), *ping))
        });
        let Some(to_tell) = found else { return false };
        if let Some((contact, ping)) = to_tell {
            events::tell_latency(cx, table.name(), &contact, &ping);
        }
        true
    }
}
