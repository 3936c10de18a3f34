//! The dialog of a message, attached to it and to the transaction that is made of it.

use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_sip::Method;

use crate::id::DialogId;
use crate::record::{Side, Text};

/// The dialog that a message belongs to. Routes, branches and replies share it.
#[derive(Debug)]
pub struct Current {
    pub id: DialogId,
    /// Who sent the request.
    pub sender: Side,
    /// Place of the callee that a request within the dialog is about.
    pub callee: u8,
    pub kind: Kind,
    pub(crate) work: Mutex<Work>,
}

/// What the message is to the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The INVITE that made it.
    Initial,
    /// A request within it.
    Within(Method),
    /// A request of this node itself.
    Own,
    /// No message of its: something that only looks at it.
    Outside,
}

/// What is remembered while the transaction goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// The last number towards the receiver before this request.
    pub(crate) cseq_before: u32,
    pub(crate) branches: SmallVec<[SentOn; 1]>,
    /// What the sender of a request within the dialog tells of itself.
    pub(crate) contact: Option<Text>,
    pub(crate) sdp: Option<Text>,
    /// The body of the last 2xx or 1xx as it came.
    pub(crate) answer: Option<Text>,
}

/// How the request left on a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentOn {
    pub(crate) branch: u8,
    /// Our socket, as nodes write it.
    pub(crate) socket: Text,
    /// The body, if it is another one than came; empty: none.
    pub(crate) sdp: Text,
    /// From and To, if they are others than came; empty: the same.
    pub(crate) from: Text,
    pub(crate) to: Text,
    /// Record-Routes that it had.
    pub(crate) routes: usize,
    /// The Contact, if it names this node: what the callee is shown.
    pub(crate) advertised: Text,
    /// Its number, if it is another one than came; 0: the same.
    pub(crate) cseq: u32,
}

impl Current {
    pub(crate) fn new(id: DialogId, sender: Side, callee: u8, kind: Kind) -> Self {
        Self { id, sender, callee, kind, work: Mutex::default() }
    }

    /// For what happens outside of a request.
    pub(crate) fn of(id: DialogId) -> Self {
        Self::new(id, Side::Caller, 0, Kind::Outside)
    }
}

/// Version of the bytes of a section.
const VERSION: u8 = 1;
/// Branches that are read.
const BRANCHES_MAX: usize = 255;

impl Current {
    /// What another node needs to go on with the transaction.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { id, sender, callee, kind, work } = self;
        let Work { cseq_before, branches, contact, sdp, answer } = &*work.lock();
        let mut out = vec![VERSION];
        out.extend_from_slice(&id.number().to_le_bytes());
        out.push(*sender as u8);
        out.push(*callee);
        let (number, method) = match kind {
            Kind::Initial => (0, ""),
            Kind::Own => (1, ""),
            Kind::Outside => (3, ""),
            Kind::Within(method) => (2, method.as_str()),
        };
        out.push(number);
        text(&mut out, method.as_bytes());
        out.extend_from_slice(&cseq_before.to_le_bytes());
        for part in [contact, sdp, answer] {
            out.push(u8::from(part.is_some()));
            text(&mut out, part.as_deref().unwrap_or_default());
        }
        out.push(branches.len().min(BRANCHES_MAX) as u8);
        for one in branches.iter().take(BRANCHES_MAX) {
            let SentOn { branch, socket, sdp, from, to, routes, advertised, cseq } = one;
            out.push(*branch);
            [socket, sdp, from, to, advertised].into_iter().for_each(|t| text(&mut out, t));
            out.extend_from_slice(&u32::try_from(*routes).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(&cseq.to_le_bytes());
        }
        out
    }

    /// `None`: it is none, or one of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if byte(&mut rest)? != VERSION {
            return None;
        }
        let id = DialogId::from_number(u64::from_le_bytes(array(&mut rest)?));
        let sender = match byte(&mut rest)? {
            0 => Side::Caller,
            1 => Side::Callee,
            _ => return None,
        };
        let callee = byte(&mut rest)?;
        let number = byte(&mut rest)?;
        let method = take(&mut rest)?;
        let kind = match number {
            0 => Kind::Initial,
            1 => Kind::Own,
            2 => Kind::Within(Method::of(&method)),
            3 => Kind::Outside,
            _ => return None,
        };
        let mut work =
            Work { cseq_before: u32::from_le_bytes(array(&mut rest)?), ..Work::default() };
        for part in [&mut work.contact, &mut work.sdp, &mut work.answer] {
            let is_there = byte(&mut rest)? != 0;
            let text = take(&mut rest)?;
            *part = is_there.then_some(text);
        }
        for _ in 0..byte(&mut rest)? {
            let branch = byte(&mut rest)?;
            let [socket, sdp, from, to, advertised] = [
                take(&mut rest)?,
                take(&mut rest)?,
                take(&mut rest)?,
                take(&mut rest)?,
                take(&mut rest)?,
            ];
            let routes = u32::from_le_bytes(array(&mut rest)?) as usize;
            let cseq = u32::from_le_bytes(array(&mut rest)?);
            let one = SentOn { branch, socket, sdp, from, to, routes, advertised, cseq };
            work.branches.push(one);
        }
        rest.is_empty().then(|| Self { id, sender, callee, kind, work: Mutex::new(work) })
    }
}

pub(crate) fn text(out: &mut Vec<u8>, text: &[u8]) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text);
}

pub(crate) fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

pub(crate) fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_at_checked(N)?;
    *rest = after;
    head.try_into().ok()
}

pub(crate) fn take(rest: &mut &[u8]) -> Option<Text> {
    let len = u32::from_le_bytes(array(rest)?);
    let (text, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number in any::<u64>(), callee in any::<u8>(), cseq in any::<u32>(),
            words in proptest::collection::vec("[ -~]{0,9}", 5),
            sdp in proptest::option::of("[a-z]{0,9}"),
            kind in prop::sample::select(
                vec![Kind::Initial, Kind::Own, Kind::Within(Method::Update)]
            )
        ) {
            let word = |n: usize| Text::from(words[n].as_bytes());
            let branch = SentOn {
                branch: callee, socket: word(0), sdp: word(1), from: word(2), to: word(3),
                routes: 3, advertised: word(4), cseq,
            };
            let work = Work {
                cseq_before: cseq, sdp: sdp.map(|s| s.into_bytes().into()),
                branches: [branch].into_iter().collect(), ..Work::default()
            };
            let it = Current {
                id: DialogId::from_number(number), sender: Side::Callee, callee, kind,
                work: Mutex::new(work),
            };
            let bytes = it.to_bytes();
            let read = Current::parse(&bytes).unwrap();
            prop_assert_eq!((read.id, read.sender), (it.id, it.sender));
            prop_assert_eq!((read.callee, read.kind), (callee, kind));
            prop_assert_eq!(&*read.work.lock(), &*it.work.lock());
            prop_assert!(Current::parse(&bytes[..bytes.len() - 1]).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Current::parse(&bytes);
        }
    }
}
