//! What is kept alive, from where, and why.

use std::collections::HashMap;
use std::net::SocketAddr;

use smallvec::SmallVec;
use tandem_clock::{HashKey, Rota};
use tandem_engine::sockets::{Proto, SocketId};
use tandem_engine::transport::uri_hop;

use crate::tally::Tally;

/// Endpoints, at most: one more is not kept alive.
pub(crate) const ENDPOINTS_MAX: usize = 1_000_000;
/// Reasons of each kind for one endpoint, at most.
const REASONS_MAX: usize = 256;

/// An address that something was received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) is_stream: bool,
    pub(crate) addr: SocketAddr,
}

impl Endpoint {
    pub(crate) fn new(proto: Proto, addr: SocketAddr) -> Self {
        Self { is_stream: proto == Proto::Tcp, addr }
    }

    /// The endpoint with this URI: `sip:ip:port[;transport=tcp]`.
    pub(crate) fn parse(uri: &[u8]) -> Option<Self> {
        let hop = uri_hop(uri).ok()?;
        Some(Self::new(hop.proto, hop.addr))
    }

    pub(crate) fn proto(self) -> Proto {
        if self.is_stream { Proto::Tcp } else { Proto::Udp }
    }

    pub(crate) fn uri(self) -> String {
        let transport = if self.is_stream { ";transport=tcp" } else { "" };
        format!("sip:{}{transport}", self.addr)
    }
}

/// Why an endpoint is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// By AoR or, for a subscription, Call-ID; until this second of Unix time. 0: no longer.
    Registered {
        who: u64,
        until_s: u64,
    },
    Subscribed {
        who: u64,
        until_s: u64,
    },
    /// By the number of the dialog.
    Dialog {
        id: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) socket: SocketId,
    turn: usize,
    registered: SmallVec<[(u64, u64); 1]>,
    subscribed: SmallVec<[(u64, u64); 1]>,
    dialogs: SmallVec<[u64; 1]>,
}

impl Entry {
    /// The last second of Unix time of its registrations and of its subscriptions.
    pub(crate) fn until_s(&self) -> (u64, u64) {
        let last = |all: &[(u64, u64)]| all.iter().map(|(_, until_s)| *until_s).max().unwrap_or(0);
        (last(&self.registered), last(&self.subscribed))
    }

    /// When it is no longer kept alive, has no registration, no subscription, no call; 0: now.
    fn ends(&self) -> [u64; 4] {
        let (registered_s, subscribed_s) = self.until_s();
        let call_s = if self.dialogs.is_empty() { 0 } else { u64::MAX };
        [registered_s.max(subscribed_s).max(call_s), registered_s, subscribed_s, call_s]
    }

    fn is_wanted(&self, now_s: u64) -> bool {
        self.ends()[0] > now_s
    }
}

/// All endpoints, each with its turn in the interval.
#[derive(Debug)]
pub(crate) struct Endpoints {
    all: HashMap<Endpoint, Entry, ahash::RandomState>,
    rota: Rota<Endpoint>,
    /// How many there are: all, with a registration, a subscription, a call.
    tallies: [Tally; 4],
}

impl Endpoints {
    pub(crate) fn new(slots: usize, key: HashKey) -> Self {
        let (all, tallies) = (HashMap::with_hasher(key.state()), Default::default());
        Self { all, rota: Rota::new(slots), tallies }
    }

    pub(crate) fn get(&self, endpoint: Endpoint) -> Option<&Entry> {
        self.all.get(&endpoint)
    }

    /// A reason comes, is renewed, or goes. False: there is no room for it.
    pub(crate) fn note(
        &mut self,
        endpoint: Endpoint,
        socket: SocketId,
        reason: Reason,
        now_s: u64,
    ) -> bool {
        if !self.all.contains_key(&endpoint) {
            let ends = matches!(
                reason,
                Reason::Registered { until_s: 0, .. } | Reason::Subscribed { until_s: 0, .. }
            );
            if ends || self.all.len() >= ENDPOINTS_MAX {
                return ends;
            }
            let turn = self.rota.join(endpoint);
            let (registered, subscribed, dialogs) = Default::default();
            self.all.insert(endpoint, Entry { socket, turn, registered, subscribed, dialogs });
        }
        let Some(entry) = self.all.get_mut(&endpoint) else { return false };
        entry.socket = socket;
        let before = entry.ends();
        let fits = match reason {
            Reason::Registered { who, until_s } => put(&mut entry.registered, who, until_s, now_s),
            Reason::Subscribed { who, until_s } => put(&mut entry.subscribed, who, until_s, now_s),
            Reason::Dialog { id } if entry.dialogs.contains(&id) => true,
            Reason::Dialog { id } => {
                let fits = entry.dialogs.len() < REASONS_MAX;
                if fits {
                    entry.dialogs.push(id);
                }
                fits
            }
        };
        count(&mut self.tallies, before, entry.ends());
        self.drop_unwanted(endpoint, now_s);
        fits
    }

    /// A dialog is over.
    pub(crate) fn end_dialog(&mut self, endpoint: Endpoint, id: u64, now_s: u64) {
        if let Some(entry) = self.all.get_mut(&endpoint) {
            let before = entry.ends();
            entry.dialogs.retain(|d| *d != id);
            count(&mut self.tallies, before, entry.ends());
            self.drop_unwanted(endpoint, now_s);
        }
    }

    fn drop_unwanted(&mut self, endpoint: Endpoint, now_s: u64) {
        let gone = self.all.get(&endpoint).filter(|entry| !entry.is_wanted(now_s));
        if let Some((turn, ends)) = gone.map(|entry| (entry.turn, entry.ends())) {
            count(&mut self.tallies, ends, [0; 4]);
            self.rota.leave(turn, &endpoint);
            self.all.remove(&endpoint);
        }
    }

    /// Whether nobody has a turn in a slot.
    pub(crate) fn is_empty(&self, slot: usize) -> bool {
        self.rota.members(slot).is_empty()
    }

    /// Those whose turn a slot is, with their sockets; who has no reason any more goes.
    pub(crate) fn turn(&mut self, slot: usize, now_s: u64) -> Vec<(Endpoint, SocketId)> {
        let members = self.rota.members(slot).to_vec();
        members.iter().for_each(|endpoint| self.drop_unwanted(*endpoint, now_s));
        let left = members.iter().filter_map(|e| Some((*e, self.all.get(e)?.socket)));
        let left: Vec<_> = left.collect();
        let surplus = self.rota.took_turn(slot, left.len() as u32);
        for (endpoint, _) in left.iter().take(surplus as usize) {
            if let Some(to) = self.rota.shift(slot, endpoint)
                && let Some(entry) = self.all.get_mut(endpoint)
            {
                entry.turn = to;
            }
        }
        left
    }

    /// All of them, with those that have a registration, a subscription, a call.
    pub(crate) fn counts(&mut self, now_s: u64) -> [u64; 4] {
        self.tallies.each_mut().map(|tally| tally.len(now_s))
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Endpoint, &Entry)> {
        self.all.iter().map(|(endpoint, entry)| (*endpoint, entry))
    }
}

fn count(tallies: &mut [Tally; 4], before: [u64; 4], after: [u64; 4]) {
    let ends = before.into_iter().zip(after);
    tallies.iter_mut().zip(ends).for_each(|(tally, (old_s, new_s))| tally.moves(old_s, new_s));
}

/// Puts an end in the place of the one before; 0 takes it away.
fn put(all: &mut SmallVec<[(u64, u64); 1]>, who: u64, until_s: u64, now_s: u64) -> bool {
    all.retain(|(other, until_s)| *other != who && *until_s > now_s);
    if until_s <= now_s {
        return true;
    }
    let fits = all.len() < REASONS_MAX;
    if fits {
        all.push((who, until_s));
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints::new(100, tandem_clock::Chance::from_number(1).hash_key())
    }

    #[test]
    fn an_endpoint_stays_as_long_as_there_is_a_reason() {
        let mut all = endpoints();
        let phone = Endpoint::parse(b"sip:203.0.113.7:4000").unwrap();
        let socket = SocketId(0);
        let note = |all: &mut Endpoints, reason| assert!(all.note(phone, socket, reason, 100));
        note(&mut all, Reason::Registered { who: 1, until_s: 200 });
        note(&mut all, Reason::Registered { who: 2, until_s: 150 });
        note(&mut all, Reason::Dialog { id: 7 });
        assert_eq!(all.counts(100), [1, 1, 0, 1]);
        note(&mut all, Reason::Registered { who: 1, until_s: 0 });
        assert_eq!(all.get(phone).unwrap().until_s(), (150, 0));
        assert_eq!(all.counts(160), [1, 0, 0, 1], "the call goes on");
        all.end_dialog(phone, 7, 160);
        assert_eq!(all.counts(160), [0; 4]);
        note(&mut all, Reason::Subscribed { who: 1, until_s: 0 });
        assert_eq!(all.counts(100), [0; 4], "the end of nothing is nothing");
        let turns: usize = (0..100).map(|slot| all.turn(slot, 100).len()).sum();
        assert_eq!(turns, 0);
    }

    #[test]
    fn each_has_one_turn_and_the_uri_says_who_it_is() {
        let mut all = endpoints();
        for port in 1..=500 {
            let uri = format!("sip:203.0.113.7:{port};transport=tcp");
            let phone = Endpoint::parse(uri.as_bytes()).unwrap();
            assert_eq!(phone.uri(), uri);
            all.note(phone, SocketId(0), Reason::Dialog { id: 1 }, 0);
        }
        assert!((0..100).all(|slot| all.turn(slot, 0).len() == 5));
        assert!(Endpoint::parse(b"sip:phone.example.org").is_none());
    }
}
