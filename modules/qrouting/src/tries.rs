//! The gateways that one request has been sent to, until each has answered.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_dialog::DialogId;

use crate::table::RuleKey;

/// Tries of one request.
const TRIES_MAX: usize = 64;
/// Version of the bytes that go to another node.
const VERSION: u8 = 1;

/// What a request keeps, shared by all contexts of its transaction.
#[derive(Debug, Default)]
pub(crate) struct Tries(pub(crate) Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// What the script has chosen.
    pub(crate) rule: Option<RuleKey>,
    pub(crate) gateway: Option<Arc<str>>,
    /// It was chosen since the request left last.
    pub(crate) is_new: bool,
    pub(crate) all: SmallVec<[Try; 1]>,
    pub(crate) dialog: Option<DialogId>,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) rule: RuleKey,
    pub(crate) gateway: Arc<str>,
    pub(crate) branches: SmallVec<[u8; 2]>,
    /// Monotonic nanoseconds when the request left; 0: another node sent it.
    pub(crate) sent_ns: u64,
    pub(crate) rang: bool,
    pub(crate) done: bool,
}

impl State {
    /// The request leaves on a branch.
    pub(crate) fn sent(&mut self, branch: u8, now_ns: u64) {
        let (Some(rule), Some(gateway)) = (&self.rule, &self.gateway) else { return };
        let is_new = std::mem::take(&mut self.is_new);
        let has_room = self.all.len() < TRIES_MAX;
        let open = self.all.last_mut().filter(|t| !is_new && !t.done && t.gateway == *gateway);
        if let Some(open) = open {
            // Another address of the same gateway.
            open.branches.push(branch);
        } else if has_room {
            self.all.push(Try {
                rule: rule.clone(),
                gateway: Arc::clone(gateway),
                branches: [branch].into_iter().collect(),
                sent_ns: now_ns,
                rang: false,
                done: false,
            });
        }
    }

    /// The try that a reply of a branch is about, while it is open.
    pub(crate) fn open(&mut self, branch: u8) -> Option<&mut Try> {
        self.all.iter_mut().rev().find(|t| !t.done && t.branches.contains(&branch))
    }

    /// Ends what is open.
    pub(crate) fn give_up(&mut self) -> Vec<Try> {
        let open = self.all.iter_mut().filter(|t| !t.done);
        open.map(|t| {
            t.done = true;
            t.clone()
        })
        .collect()
    }
}

/// A gateway in a rule: partition, number and gateway, separated by zeros.
pub(crate) fn pack(rule: &RuleKey, gateway: &str) -> Vec<u8> {
    let id = rule.id.to_string();
    [rule.partition.as_bytes(), id.as_bytes(), gateway.as_bytes()].join(&0)
}

/// The same for the other direction.
pub(crate) fn unpack(bytes: &[u8]) -> Option<(RuleKey, Arc<str>)> {
    let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, '\0');
    let (partition, id) = (parts.next()?.into(), parts.next()?.parse().ok()?);
    Some((RuleKey { partition, id }, parts.next()?.into()))
}

impl Tries {
    /// As it goes with its transaction to another node: version, then the open tries: the first
    /// branch, whether it rings, and [`pack`] with its length in 2 bytes, little endian.
    pub(crate) fn bytes(&self) -> Bytes {
        let state = self.0.lock();
        let mut out = vec![VERSION];
        for one in state.all.iter().filter(|t| !t.done) {
            let packed = pack(&one.rule, &one.gateway);
            let Ok(len) = u16::try_from(packed.len()) else { continue };
            out.extend([one.branches.first().copied().unwrap_or(0), u8::from(one.rang)]);
            out.put_u16_le(len);
            out.extend_from_slice(&packed);
        }
        out.into()
    }

    /// Reads [`Tries::bytes`].
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let mut state = State::default();
        while version == VERSION && state.all.len() < TRIES_MAX && !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let (packed, after) = after.split_at_checked(len)?;
            rest = after;
            let (rule, gateway) = unpack(packed)?;
            state.rule = Some(rule.clone());
            state.gateway = Some(Arc::clone(&gateway));
            state.all.push(Try {
                rule,
                gateway,
                branches: [head[0]].into_iter().collect(),
                sent_ns: 0,
                rang: head[1] != 0,
                done: false,
            });
        }
        (version == VERSION).then(|| Self(Mutex::new(state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tries() -> Tries {
        let rule = RuleKey { partition: "Default".into(), id: -7 };
        let state = State { rule: Some(rule), ..State::default() };
        let tries = Tries(Mutex::new(state));
        for (at, gateway) in ["gw1", "gw2"].into_iter().enumerate() {
            let mut state = tries.0.lock();
            state.gateway = Some(gateway.into());
            state.is_new = true;
            state.sent(at as u8 * 2, 5);
            state.sent(at as u8 * 2 + 1, 6);
        }
        tries
    }

    #[test]
    fn open_tries_go_to_another_node() {
        let tries = tries();
        assert_eq!(tries.0.lock().all.len(), 2, "two addresses of a gateway are one try");
        tries.0.lock().open(1).unwrap().done = true;
        assert!(tries.0.lock().open(1).is_none());
        tries.0.lock().open(3).unwrap().rang = true;
        let again = Tries::read(&tries.bytes()).unwrap();
        let state = again.0.lock();
        assert_eq!((state.all.len(), &*state.all[0].gateway), (1, "gw2"));
        assert!(state.all[0].rang && state.all[0].sent_ns == 0 && state.all[0].rule.id == -7);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            cut in 0usize..60, bytes in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let whole = tries().bytes();
            let _ = Tries::read(&whole[..cut.min(whole.len())]);
            let _ = Tries::read(&bytes);
            let _ = unpack(&bytes);
        }
    }
}
