//! Everything that a transaction can ask of its owner.

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_clock::Mono;

use crate::fork::{BranchIndex, Dest};
use crate::timers::Timer;

/// One thing to do. The owner does them in the order of [`Effects`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes to where the request came from.
    SendReply { bytes: Bytes },
    /// Send the request of this branch, for the first time or again.
    SendBranch { branch: BranchIndex, dest: Dest, bytes: Bytes },
    /// Build and send an ACK for the reply just given to `on_reply`, from it and the request of
    /// the branch (RFC 3261 17.1.1.3). Comes from `on_reply` only.
    SendAck { branch: BranchIndex },
    /// Build and send a CANCEL for the request of the branch (RFC 3261 9.1), for the first time
    /// or again: the same branch and reason must give the same bytes.
    SendCancel { branch: BranchIndex, reason: CancelReason },
    /// Call `on_timer(now, timer, at)` at or after `at`, once.
    SetTimer { timer: Timer, at: Mono },
    /// Pass the reply just given to `on_reply` upstream now: edit it and call `reply`. The code is
    /// 101 to 299.
    Relay { branch: BranchIndex, code: u16 },
    /// The result of a branch is known. `local`: nobody sent it (timeout, send error). Comes again
    /// if a 2xx follows a failure.
    BranchEnded { branch: BranchIndex, code: u16, local: bool },
    /// All branches of the set have failed and this is the best result (300 to 699). The owner
    /// adds branches or calls `reply`. `branch` is `None` when a CANCEL came before any branch.
    Final { branch: Option<BranchIndex>, code: u16, local: bool },
    /// Nothing more will happen: the transaction may be dropped. Comes once, last.
    Ended,
}

/// Why a branch is cancelled; the owner turns it into a Reason header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The caller sent CANCEL: `SIP;cause=487;text="ORIGINATOR_CANCEL"` unless it gave a reason.
    Originator,
    /// Another branch (or this node) answered with 2xx:
    /// `SIP ;cause=200 ;text="Call completed elsewhere"`.
    CompletedElsewhere,
    /// `fr_inv` passed: `SIP;cause=480;text="NO_ANSWER"`.
    NoAnswer,
    /// The script wants it.
    Script,
    /// The transaction got this final reply, 300 to 699: a 6xx of another branch or a local one.
    Answered(u16),
}

/// What steps ask for, in order. That of one step has room without an allocation, unless it is
/// about several branches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects(SmallVec<[Effect; ROOM]>);

/// An INVITE that leaves asks for three; a reply to it that is passed on for as many.
const ROOM: usize = 4;

impl Effects {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> smallvec::Drain<'_, [Effect; ROOM]> {
        self.0.drain(..)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_slice(&self) -> &[Effect] {
        &self.0
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }
}
