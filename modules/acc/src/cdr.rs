//! The record of a whole call.

use sha2::{Digest, Sha256};

use crate::fields::Values;
use crate::record::Record;

/// What is known of a call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cdr {
    /// As they were when the call was answered.
    pub(crate) core: Record,
    pub(crate) extra: Values,
    pub(crate) legs: Vec<Values>,
    /// Unix milliseconds of the INVITE, of its answer and of the end.
    pub(crate) created_ms: u64,
    pub(crate) answered_ms: u64,
    pub(crate) ended_ms: u64,
    /// Proxies between the caller and this node: one more each time that a call comes by again.
    pub(crate) hops: usize,
}

impl Cdr {
    pub(crate) fn created_s(&self) -> u64 {
        self.created_ms / 1000
    }

    pub(crate) fn duration_ms(&self) -> u64 {
        self.ended_ms.saturating_sub(self.answered_ms)
    }

    /// A second that was begun is paid for.
    pub(crate) fn duration_s(&self) -> u64 {
        self.duration_ms().div_ceil(1000)
    }

    pub(crate) fn setup_s(&self) -> u64 {
        (self.answered_ms / 1000).saturating_sub(self.created_s())
    }

    /// The same on every node that knows the call.
    pub(crate) fn id(&self) -> CdrId {
        let core = &self.core;
        let tags = (&core.from_tag[..], &core.to_tag[..]);
        CdrId::of_call(&core.call_id, tags, self.created_s(), self.hops)
    }
}

/// The identity of a record: what has the same one is the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CdrId(pub(crate) u128);

impl CdrId {
    /// Of the parts that make the record different from all others.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let half = digest.iter().take(16).fold(0_u128, |id, b| id << 8 | u128::from(*b));
        Self(half)
    }

    /// Of a whole call with these tags that began then, so many proxies behind its caller.
    pub(crate) fn of_call(
        call_id: &[u8],
        (from, to): (&[u8], &[u8]),
        start_s: u64,
        hops: usize,
    ) -> Self {
        let start = start_s.to_be_bytes();
        match hops {
            0 => Self::of(&[b"cdr", call_id, from, to, &start]),
            hops => Self::of(&[b"cdr", call_id, from, to, &start, &(hops as u64).to_be_bytes()]),
        }
    }

    /// 32 digits.
    pub(crate) fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// The half that a dialog keeps of it.
    pub(crate) fn short(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_depends_on_where_its_parts_end() {
        assert_ne!(CdrId::of(&[b"ab", b"c"]), CdrId::of(&[b"a", b"bc"]));
        let id = CdrId::of(&[b"ab"]);
        assert_eq!(CdrId::parse(&id.text()), Some(id));
        assert_eq!(CdrId::parse("x"), None);
    }
}
