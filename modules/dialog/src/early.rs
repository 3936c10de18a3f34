//! Changes of dialogs that are not here yet. What a peer changes is told at once, and overtakes what
//! it tells of its dialogs when the two meet. If the peer dies then, nobody tells it again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Mono, SEC};

use crate::id::DialogId;

/// Changes and their bytes in all, and changes of one dialog, at most.
const CHANGES_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;
const EACH_MAX: usize = 32;
/// What is told when two nodes meet takes no longer.
const PATIENCE_NS: u64 = 60 * SEC;

#[derive(Debug, Default)]
pub(crate) struct Early(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The patches of a dialog, by its number.
    all: BTreeMap<u64, Vec<Bytes>>,
    /// When one came, in that order; it may have been taken since.
    order: VecDeque<(Mono, u64)>,
    bytes: usize,
}

impl Kept {
    fn take(&mut self, number: u64) -> Vec<Bytes> {
        let taken = self.all.remove(&number).unwrap_or_default();
        self.bytes -= taken.iter().map(Bytes::len).sum::<usize>();
        taken
    }
}

impl Early {
    /// Keeps a change until its dialog comes.
    pub(crate) fn keep(&self, now: Mono, id: DialogId, patch: Bytes) {
        let mut kept = self.0.lock();
        while let Some(&(at, number)) = kept.order.front() {
            let full = kept.order.len() >= CHANGES_MAX || kept.bytes + patch.len() > BYTES_MAX;
            if !full && now.saturating_sub(at) < PATIENCE_NS {
                break;
            }
            kept.order.pop_front();
            kept.take(number);
        }
        if kept.all.get(&id.number()).is_some_and(|all| all.len() >= EACH_MAX) {
            return;
        }
        kept.bytes += patch.len();
        kept.order.push_back((now, id.number()));
        kept.all.entry(id.number()).or_default().push(patch);
    }

    /// The changes of a dialog that has come, in their order.
    pub(crate) fn take(&self, id: DialogId) -> Vec<Bytes> {
        self.0.lock().take(id.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_in_their_order_and_in_bounds() {
        let early = Early::default();
        let id = DialogId::from_number;
        early.keep(1, id(7), Bytes::from_static(b"a"));
        early.keep(2, id(7), Bytes::from_static(b"b"));
        assert_eq!(early.take(id(7)), [&b"a"[..], b"b"]);
        assert!(early.take(id(7)).is_empty());
        early.keep(3, id(7), Bytes::from_static(b"a"));
        early.keep(3 + PATIENCE_NS, id(8), Bytes::from_static(b"a"));
        assert!(early.take(id(7)).is_empty());
        for n in 0..2 * CHANGES_MAX as u64 {
            early.keep(4 + PATIENCE_NS, id(n % 900), Bytes::from(vec![0; 600]));
        }
        let kept = early.0.lock();
        assert!(kept.order.len() <= CHANGES_MAX && kept.bytes <= BYTES_MAX);
        let bytes: usize = kept.all.values().flatten().map(Bytes::len).sum();
        assert_eq!(kept.bytes, bytes);
        assert!(kept.all.values().all(|all| all.len() <= EACH_MAX));
    }
}
