//! What `nathelper` needs: whom to ping, who may, and what came of it.

use std::sync::Arc;

use tandem_clock::Now;
use tandem_cluster::{Duty, TagTable};
use tandem_engine::module::Cx;
use tandem_sip::sip_hash;

use crate::events;
use crate::params::Pinging;
use crate::state::{Table, Usrloc};
use crate::store::{Contact, Local};

/// Leave to act on a contact on one's own initiative.
#[derive(Debug)]
pub enum Leave<'t> {
    /// The node is in no cluster.
    Alone,
    Duty(Duty<'t>),
}

impl Usrloc {
    /// Contacts of one of `of` about equal parts of a table that have not ended, in a fixed
    /// order. A contact stays in its part, so walking all parts in turn meets every contact once.
    pub fn part(
        &self,
        table: &Table,
        part: usize,
        of: usize,
        now: Now,
    ) -> impl Iterator<Item = (Arc<Contact>, Local)> {
        let (of, now_s, all) = (of.max(1), now.unix_s(), table.domain.shard_count());
        let shards = (part..all).step_by(of).chain((part >= all).then_some(part % all));
        // With more parts than shards, the contacts of a shard are dealt out to its parts.
        let dealt = (of - part % all).div_ceil(all).max(1) as u64;
        let mine = (part / all) as u64;
        let contacts = shards.flat_map(|shard| table.domain.shard_contacts(shard));
        contacts.filter(move |(contact, _)| {
            !contact.is_expired(now_s) && (of <= all || (contact.id >> 14) % dealt == mine)
        })
    }

    /// Whether this node may ping a contact (`pinging_mode`). `tags` is the node's table.
    ///
    /// Ownership: the holder of the contact's tag does; a contact without one is everybody's.
    /// Cooperation: the synced nodes share the AoRs. Unset: by tag if there is one, else shared.
    pub fn leave_to_ping<'t>(
        &self,
        tags: Option<&'t TagTable>,
        contact: &Contact,
    ) -> Option<Leave<'t>> {
        let Some(tags) = tags.filter(|_| self.params.is_shared) else {
            return Some(Leave::Alone);
        };
        let cluster = self.params.cluster;
        let by_tag = || contact.sharing_tag().map(|tag| tags.duty(&tag, cluster));
        let by_share = || {
            let hash = u64::from(sip_hash(contact.aor()));
            tags.duty_by_share(cluster, "usrloc-contact-repl", hash)
        };
        let duty = match self.params.pinging {
            Pinging::Ownership => by_tag().unwrap_or_else(|| Some(tags.sole())),
            Pinging::Unset => by_tag().unwrap_or_else(by_share),
            Pinging::Cooperation => by_share(),
        };
        duty.map(Leave::Duty)
    }

    /// A ping has left.
    pub fn ping_sent(&self, table: &Table, id: u64, now: Now) {
        table.domain.with_local(id, |_, local| local.ping_mut().sent_ns = now.mono_ns.max(1));
    }

    /// Nobody may have answered the ping sent at `sent_ns`. Gives how many were lost in a row;
    /// `None`: it was answered, or the contact is gone.
    pub fn ping_lost(&self, table: &Table, id: u64, sent_ns: u64) -> Option<u16> {
        table.domain.with_local(id, |_, local| {
            let ping = local.ping_mut();
            if ping.sent_ns != sent_ns {
                return None;
            }
            ping.sent_ns = 0;
            ping.lost = ping.lost.saturating_add(1);
            Some(ping.lost)
        })?
    }

    /// A ping was answered. If `measures` says so for the contact, its latency is kept, and
    /// E_UL_LATENCY_UPDATE raised where the limits of the parameters want it. False: the contact
    /// is gone.
    pub fn ping_answered(
        &self,
        cx: &mut Cx<'_>,
        table: &Table,
        id: u64,
        measures: impl FnOnce(&Contact) -> bool,
    ) -> bool {
        let (now, params) = (cx.now, &self.params);
        let found = table.domain.with_local(id, |contact, local| {
            let ping = local.ping_mut();
            ping.lost = 0;
            if ping.sent_ns == 0 {
                return (Arc::clone(contact), *ping, false);
            }
            let micros = now.mono_ns.saturating_sub(ping.sent_ns) / 1000;
            ping.sent_ns = 0;
            if !measures(contact) {
                return (Arc::clone(contact), *ping, false);
            }
            ping.latency_us = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
            let is_due = ping.latency_us >= params.latency_min_us
                && ping.latency_us.abs_diff(ping.reported_us) >= params.latency_min_delta_us;
            if is_due {
                ping.reported_us = ping.latency_us;
            }
            (Arc::clone(contact), *ping, is_due)
        });
        let Some((contact, ping, is_due)) = found else { return false };
        if is_due {
            events::tell_latency(cx, table.name(), &contact, &ping);
        }
        true
    }
}
