//! What many contacts have in common, kept once: a million phones of one kind behind one socket
//! have one User-Agent, one set of methods and one list of flags.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

use super::contact::NewContact;

/// The part of a contact that is usually the same for many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) user_agent: Box<[u8]>,
    pub(super) socket: Box<[u8]>,
    pub(super) branch_flags: Box<[u8]>,
    pub(super) key_values: Box<[u8]>,
    pub(super) methods: u32,
    pub(super) flags: u32,
    pub(super) q: i16,
    pub(super) keyed_by_call_id: bool,
}

impl Shared {
    fn new(new: &NewContact<'_>, keyed_by_call_id: bool) -> Self {
        Self {
            user_agent: new.user_agent.into(),
            socket: new.socket.into(),
            branch_flags: new.branch_flags.into(),
            key_values: new.key_values.into(),
            methods: new.methods,
            flags: new.flags,
            q: new.q,
            keyed_by_call_id,
        }
    }

    pub(super) fn is_of(&self, new: &NewContact<'_>, keyed_by_call_id: bool) -> bool {
        *self.user_agent == *new.user_agent
            && *self.socket == *new.socket
            && *self.branch_flags == *new.branch_flags
            && *self.key_values == *new.key_values
            && self.numbers() == (new.methods, new.flags, new.q, keyed_by_call_id)
    }

    pub(super) fn numbers(&self) -> (u32, u32, i16, bool) {
        (self.methods, self.flags, self.q, self.keyed_by_call_id)
    }
}

/// Everything that is shared in a table. Its locks are the innermost: one is taken while a shard
/// is locked, and nothing is locked while one is held.
#[derive(Debug)]
pub(super) struct Pool {
    stripes: Vec<Mutex<Stripe>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Stripe {
    known: HashTable<Arc<Shared>>,
    /// Size at which what nobody uses any more is thrown out.
    purge_at: usize,
}

const STRIPES: usize = 16;
const PURGE_MIN: usize = 64;

impl Pool {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hasher }
    }

    /// The shared part of a contact; `old` is tried first, since most writes are refreshes.
    pub(super) fn of(
        &self,
        new: &NewContact<'_>,
        keyed_by_call_id: bool,
        old: Option<&Arc<Shared>>,
    ) -> Arc<Shared> {
        if let Some(old) = old.filter(|old| old.is_of(new, keyed_by_call_id)) {
            return Arc::clone(old);
        }
        let hash = self.hasher.hash_one((
            (new.user_agent, new.socket, new.branch_flags, new.key_values),
            (new.methods, new.flags, new.q, keyed_by_call_id),
        ));
        let Some(stripe) = self.stripes.get(hash as usize % STRIPES) else {
            return Arc::new(Shared::new(new, keyed_by_call_id));
        };
        let mut stripe = stripe.lock();
        if let Some(found) = stripe.known.find(hash, |s| s.is_of(new, keyed_by_call_id)) {
            return Arc::clone(found);
        }
        let made = Arc::new(Shared::new(new, keyed_by_call_id));
        stripe.add(hash, Arc::clone(&made), &self.hasher);
        made
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.stripes.iter().map(|s| s.lock().known.len()).sum()
    }
}

impl Stripe {
    fn add(&mut self, hash: u64, made: Arc<Shared>, hasher: &RandomState) {
        // What a stranger sends once is kept no longer than his contact, give or take as much
        // again as is in use.
        if self.known.len() >= self.purge_at.max(PURGE_MIN) {
            self.known.retain(|s| Arc::strong_count(s) > 1);
            self.purge_at = self.known.len() * 2;
        }
        self.known.insert_unique(hash, made, |s| {
            hasher.hash_one((
                (&*s.user_agent, &*s.socket, &*s.branch_flags, &*s.key_values),
                s.numbers(),
            ))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_are_kept_once_and_unused_ones_not_for_ever() {
        let pool = Pool::new(RandomState::with_seed(1));
        let new = NewContact { user_agent: b"phone", ..NewContact::default() };
        let a = pool.of(&new, false, None);
        assert!(Arc::ptr_eq(&a, &pool.of(&new, false, None)));
        assert!(!Arc::ptr_eq(&a, &pool.of(&new, true, None)));
        for n in 0..100_000u32 {
            pool.of(&NewContact { user_agent: &n.to_be_bytes(), ..new }, false, None);
        }
        assert!(pool.len() <= STRIPES * (PURGE_MIN + 1), "{}", pool.len());
        assert!(Arc::ptr_eq(&a, &pool.of(&new, false, None)));
    }
}
