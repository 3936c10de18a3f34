//! No registration that was acknowledged through a gate is lost while a node that had it lives.

use std::collections::{BTreeMap, BTreeSet};

use tandem_clock::{Mono, SEC};

use crate::actors::Registered;
use crate::world::Life;

/// Name in findings.
pub const NAME: &str = "lost";

/// What each running node has: AoR and contact, with Call-ID and CSeq.
pub(crate) type Presence = BTreeMap<Life, BTreeMap<(String, String), (String, u64)>>;

/// What is owed to the phones.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Replies that left a node: by Call-ID and CSeq, which node, and whether through a gate.
    replies: BTreeMap<(String, u32), (u32, bool)>,
    owed: BTreeMap<(String, String), Owed>,
    /// Contacts that have asked to be forgotten.
    gone: BTreeSet<(String, String)>,
    last_crash: Option<Mono>,
}

#[derive(Debug)]
struct Owed {
    registered: Registered,
    until: Mono,
    holders: BTreeSet<Life>,
}

/// A node that has acknowledged may die before the reply has reached the phone.
const CRASH_NS: Mono = 3 * SEC;
/// Replies that are remembered; the oldest keys go first.
const REPLIES_MAX: usize = 10_000;

impl Lost {
    /// A 200 to REGISTER has left a node.
    pub(crate) fn reply_left(&mut self, node: u32, call_id: &str, cseq: u32, is_gated: bool) {
        while self.replies.len() >= REPLIES_MAX {
            self.replies.pop_first();
        }
        let entry = self.replies.entry((call_id.to_owned(), cseq)).or_insert((node, is_gated));
        // The phone may have got either copy: it is owed only what both promise.
        *entry = (node, entry.1 && is_gated);
    }

    /// A phone has accepted a 200. `slack_ns` is how far the wall clocks of the hosts have been
    /// apart: a copy may end that much earlier.
    pub(crate) fn acknowledged(
        &mut self,
        now: Mono,
        registered: &Registered,
        slack_ns: Mono,
        presence: &Presence,
    ) -> Option<String> {
        let key = (registered.aor.clone(), registered.contact.clone());
        self.owed.remove(&key);
        self.gone.remove(&key);
        let reply = self.replies.get(&(registered.call_id.clone(), registered.cseq)).copied();
        // What no node has sent is no reason for an exemption.
        let (node, is_gated) = reply.unwrap_or((0, true));
        if !is_gated {
            return None;
        }
        let holders = holders(registered, presence);
        let crashed = self.last_crash.is_some_and(|at| now.saturating_sub(at) < CRASH_NS);
        if !crashed && !holders.iter().any(|life| life.node != node) {
            let what = describe(registered);
            return Some(match node {
                0 => format!("{what}: acknowledged, but no node has it or has sent that reply"),
                n => format!("{what}: acknowledged by node {n} through a gate, no other has it"),
            });
        }
        let lasts = registered.granted_s.saturating_mul(SEC).saturating_sub(slack_ns + 2 * SEC);
        let owed = Owed { registered: registered.clone(), until: now + lasts, holders };
        self.owed.insert(key, owed);
        None
    }

    /// The phone has asked to be forgotten.
    pub(crate) fn left(&mut self, aor: &str, contact: &str) {
        let key = (aor.to_owned(), contact.to_owned());
        self.owed.remove(&key);
        self.gone.insert(key);
    }

    /// Whether a contact has asked to be forgotten, and has not come back.
    pub(crate) fn has_left(&self, key: &(String, String)) -> bool {
        self.gone.contains(key)
    }

    /// A clock has jumped: what a wall clock may end earlier is owed for less time.
    pub(crate) fn shorten(&mut self, by_ns: Mono) {
        for owed in self.owed.values_mut() {
            owed.until = owed.until.saturating_sub(by_ns);
        }
    }

    pub(crate) fn crashed(&mut self, now: Mono) {
        self.last_crash = Some(now);
    }

    /// Looks at all nodes; what is missing is named. To be called before every crash, too, so
    /// that the last holders are known.
    pub(crate) fn look(&mut self, now: Mono, presence: &Presence) -> Vec<String> {
        let mut lost = Vec::new();
        self.owed.retain(|_, owed| {
            if now >= owed.until {
                return false;
            }
            let holders = holders(&owed.registered, presence);
            if !holders.is_empty() {
                owed.holders = holders;
                return true;
            }
            let had = owed.holders.iter().filter(|life| presence.contains_key(life));
            let had: Vec<String> = had.map(|life| life.node.to_string()).collect();
            if !had.is_empty() {
                let what = describe(&owed.registered);
                lost.push(format!("{what}: gone, although node {} had it", had.join(" and ")));
            }
            // All that had it are dead: nobody can be asked for it.
            false
        });
        lost
    }

    /// Registrations that are owed now.
    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }
}

fn describe(r: &Registered) -> String {
    format!("{} at {} (CSeq {})", r.aor, r.contact, r.cseq)
}

/// The nodes that have the registration, or a later one of the same contact.
fn holders(registered: &Registered, presence: &Presence) -> BTreeSet<Life> {
    let key = (registered.aor.clone(), registered.contact.clone());
    let has = |listed: &BTreeMap<(String, String), (String, u64)>| {
        listed.get(&key).is_some_and(|(call_id, cseq)| {
            *call_id != registered.call_id || *cseq >= u64::from(registered.cseq)
        })
    };
    presence.iter().filter(|(_, listed)| has(listed)).map(|(life, _)| *life).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Life = Life { node: 1, life: 1 };
    const B: Life = Life { node: 2, life: 1 };

    fn registered() -> Registered {
        Registered {
            aor: "a".into(),
            contact: "sip:a@x".into(),
            call_id: "c".into(),
            cseq: 5,
            granted_s: 60,
        }
    }

    fn presence(nodes: &[(Life, Option<u64>)]) -> Presence {
        let listed = |cseq: &Option<u64>| {
            cseq.iter().map(|n| (("a".into(), "sip:a@x".into()), ("c".into(), *n))).collect()
        };
        nodes.iter().map(|(life, cseq)| (*life, listed(cseq))).collect()
    }

    fn gated() -> Lost {
        let mut lost = Lost::default();
        lost.reply_left(1, "c", 5, true);
        lost
    }

    #[test]
    fn what_only_the_answering_node_has_was_not_acknowledged_by_a_peer() {
        let only = presence(&[(A, Some(5)), (B, None)]);
        assert!(gated().acknowledged(0, &registered(), 0, &only).is_some());
        let mut ungated = Lost::default();
        ungated.reply_left(1, "c", 5, false);
        assert_eq!(ungated.acknowledged(0, &registered(), 0, &only), None);
    }

    #[test]
    fn a_forged_reply_is_noticed() {
        let nobody = presence(&[(A, None), (B, None)]);
        assert!(Lost::default().acknowledged(0, &registered(), 0, &nobody).is_some());
    }

    #[test]
    fn it_is_lost_when_a_living_node_had_it_and_not_when_all_that_had_it_died() {
        let both = presence(&[(A, Some(5)), (B, Some(5))]);
        let mut lost = gated();
        assert_eq!(lost.acknowledged(0, &registered(), 0, &both), None);
        assert!(lost.look(1, &presence(&[(B, Some(5))])).is_empty());
        assert_eq!(lost.look(2, &presence(&[(B, None)])).len(), 1);

        let mut lost = gated();
        lost.acknowledged(0, &registered(), 0, &both);
        let reborn = Life { node: 1, life: 2 };
        assert!(lost.look(1, &presence(&[(reborn, None)])).is_empty());
        assert_eq!(lost.len(), 0);
    }

    #[test]
    fn nothing_is_owed_after_the_end_of_the_registration() {
        let both = presence(&[(A, Some(5)), (B, Some(5))]);
        let mut lost = gated();
        lost.acknowledged(0, &registered(), 0, &both);
        assert!(lost.look(59 * SEC, &presence(&[(A, None), (B, None)])).is_empty());
    }
}
