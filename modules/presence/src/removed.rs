//! Requests that have removed a publication, so that one that comes once more is answered alike:
//! a script may handle PUBLISH without a transaction.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

/// How long a request may come again (RFC 3261 timer J).
const LIFE_S: u64 = 32;
/// Requests that are remembered; the oldest is forgotten first.
const REQUESTS_MAX: usize = 10_000;

/// The last requests that have removed something, with the ETag of what it was.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    order: VecDeque<(u64, u64)>,
    etags: HashMap<u64, Bytes>,
}

impl Removed {
    /// `request`: 0 is none.
    pub(crate) fn add(&mut self, now_s: u64, request: u64, etag: Bytes) {
        if request == 0 {
            return;
        }
        while let Some((at_s, first)) = self.order.front().copied() {
            if self.order.len() < REQUESTS_MAX && at_s + LIFE_S > now_s {
                break;
            }
            self.order.pop_front();
            self.etags.remove(&first);
        }
        if self.etags.insert(request, etag).is_none() {
            self.order.push_back((now_s, request));
        }
    }

    pub(crate) fn etag_of(&self, request: u64) -> Option<Bytes> {
        self.etags.get(&request).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_remembered_for_a_while_and_not_too_many() {
        let mut removed = Removed::default();
        removed.add(100, 1, Bytes::from_static(b"e"));
        assert_eq!(removed.etag_of(1), Some(Bytes::from_static(b"e")));
        removed.add(100 + LIFE_S, 2, Bytes::new());
        assert_eq!(removed.etag_of(1), None);
        (0..2 * REQUESTS_MAX as u64).for_each(|n| removed.add(200, 10 + n, Bytes::new()));
        assert_eq!((removed.order.len(), removed.etags.len()), (REQUESTS_MAX, REQUESTS_MAX));
    }
}
