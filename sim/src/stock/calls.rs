//! The calls of a stock node: what peers tell it of theirs. Sockets of peers are taken as if they
//! had tags that both sides know.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tandem_bin::dialog::profiles::Counter;
use tandem_bin::dialog::{DialogName, DialogPacket, FullDialog, entries};

/// Call-ID and dialog id.
pub(super) type Key = (Bytes, u32);

/// The profile of all calls, and how a dialog names it.
const PROFILE: &[u8] = b"calls";
const IN_PROFILE: &[u8] = b"calls/b";

#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<Key, FullDialog>);

/// What a stock node says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) state: i32,
    pub(crate) expires_unix_s: u64,
}

impl Calls {
    /// Takes a packet; the call that it is about, if there is one now.
    pub(super) fn take(&mut self, packet: &DialogPacket) -> Option<Key> {
        match packet {
            DialogPacket::Created(dialog) => {
                let key = key(dialog);
                self.0.entry(key.clone()).or_insert_with(|| (**dialog).clone());
                Some(key)
            }
            DialogPacket::Updated(dialog) => {
                let key = key(dialog);
                match self.0.get_mut(&key) {
                    Some(known) => update(known, dialog),
                    None => drop(self.0.insert(key.clone(), (**dialog).clone())),
                }
                Some(key)
            }
            DialogPacket::Deleted(name) => {
                self.0.remove(&(name.call_id.clone(), name.id?));
                None
            }
            DialogPacket::Cseq { name, cseq } => {
                let key = (name.call_id.clone(), name.id?);
                let known = self.0.get_mut(&key)?;
                let is_caller = known.caller.tag == name.to_tag;
                let leg = if is_caller { &mut known.caller } else { &mut known.callee };
                leg.last_generated_cseq = *cseq;
                Some(key)
            }
            DialogPacket::Value { call_id, id, name, value } => {
                let key = (call_id.clone(), *id);
                let known = self.0.get_mut(&key)?;
                // A stock node does not forget a value that is taken away.
                let value = value.clone().unwrap_or(entries::Value::Int(0));
                known.variables = merged(&known.variables, vec![(name.clone(), value)]);
                Some(key)
            }
        }
    }

    /// Forgets calls whose time is over; with the role, the packets that tell so.
    pub(super) fn expire(&mut self, unix_s: u64, is_active: bool) -> Vec<DialogPacket> {
        let mut told = Vec::new();
        self.0.retain(|(call_id, id), dialog| {
            let lives = u64::from(dialog.expires_unix_s) > unix_s;
            if !lives && is_active {
                told.push(DialogPacket::Deleted(DialogName {
                    call_id: call_id.clone(),
                    from_tag: dialog.caller.tag.clone(),
                    to_tag: dialog.callee.tag.clone(),
                    id: Some(*id),
                }));
            }
            lives
        });
        told
    }

    /// What it counts in the one profile of the scenarios: calls that it acts for.
    pub(super) fn counters(&self, is_active: bool) -> Vec<Counter> {
        let is_in = |dialog: &&FullDialog| {
            let profiles = entries::decode(&dialog.profiles).unwrap_or_default();
            profiles.iter().any(|(name, _)| *name == IN_PROFILE[..])
        };
        let count = if is_active { self.0.values().filter(is_in).count() } else { 0 };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        vec![Counter { profile: Bytes::from_static(PROFILE), value: None, count }]
    }

    /// Drops all but these.
    pub(super) fn keep(&mut self, seen: &BTreeSet<Key>) {
        self.0.retain(|key, _| seen.contains(key));
    }

    /// One chunk for each.
    pub(super) fn records(&self) -> Vec<Bytes> {
        self.0.values().filter_map(|dialog| dialog.encode().ok()).collect()
    }

    pub(super) fn listed(&self) -> BTreeMap<String, Listed> {
        let shown = |((call_id, _), dialog): (&Key, &FullDialog)| {
            let (state, expires_unix_s) = (dialog.state, dialog.expires_unix_s.into());
            (String::from_utf8_lossy(call_id).into_owned(), Listed { state, expires_unix_s })
        };
        self.0.iter().map(shown).collect()
    }
}

fn key(dialog: &FullDialog) -> Key {
    (dialog.call_id.clone(), dialog.id)
}

/// Start, sockets, route sets, mangled URIs and advertised contacts stay as they are.
fn update(known: &mut FullDialog, news: &FullDialog) {
    known.state = news.state;
    for (leg, other) in [(&mut known.caller, &news.caller), (&mut known.callee, &news.callee)] {
        leg.cseq.clone_from(&other.cseq);
        leg.contact.clone_from(&other.contact);
        leg.sdp_in.clone_from(&other.sdp_in);
        leg.sdp_out.clone_from(&other.sdp_out);
    }
    known.flags = news.flags;
    known.user_flags = news.user_flags;
    known.module_flags = news.module_flags;
    known.expires_unix_s = news.expires_unix_s;
    let values = entries::decode(&news.variables).unwrap_or_default();
    known.variables = merged(&known.variables, values);
    known.on_answer.clone_from(&news.on_answer);
    known.on_timeout.clone_from(&news.on_timeout);
    known.on_hangup.clone_from(&news.on_hangup);
}

/// Values that are not told again are kept.
fn merged(known: &Bytes, news: Vec<(Bytes, entries::Value)>) -> Bytes {
    let mut all = entries::decode(known).unwrap_or_default();
    for (name, value) in news {
        match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => all.push((name, value)),
        }
    }
    Bytes::from(entries::encode(all.iter().map(|(name, value)| (&name[..], value))))
}
