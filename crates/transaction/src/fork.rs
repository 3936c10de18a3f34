//! Branches: parallel and serial forking, the choice of the winner, CANCEL.

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_clock::Mono;

use crate::client::{Client, ClientId, ClientState, Expiry, Meaning};
use crate::effects::{CancelReason, Effect, Effects};
use crate::timers::Timer;
use crate::transaction::{BranchError, Cx, Heard, Kind};

/// Branches of one transaction over its whole life.
pub const BRANCHES_MAX: usize = 256;

/// The number of a branch, in the order in which they were added; it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchIndex(pub u8);

/// Where a branch goes. The transaction only looks at `reliable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dest {
    /// The owner's number of the sending socket.
    pub socket: u32,
    pub addr: SocketAddr,
    /// The transport retransmits by itself (TCP, TLS, WS).
    pub reliable: bool,
}

/// A branch to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchSpec {
    pub request: Bytes,
    pub dest: Dest,
    /// Instead of [`crate::Timers::fr_ms`].
    pub fr_ms: Option<u32>,
    /// Instead of [`crate::Timers::fr_inv_ms`].
    pub fr_inv_ms: Option<u32>,
    /// The set does not wait for this branch.
    pub minor: bool,
}

/// What a branch is to its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Normal,
    /// The set does not wait for it.
    Minor,
    /// It sends nothing and waits for branches that come later.
    Phony,
}

/// The result of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 200 to 699.
    pub code: u16,
    /// Nobody sent it: a timeout (408) or a send error.
    pub local: bool,
}

/// How far the forking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No branch was added yet.
    Open,
    /// The current set has branches without a result.
    Forking,
    /// [`Effect::Final`] was given; the owner has the next move.
    Decided,
    /// A 2xx won or the owner has answered.
    Done,
}

/// What can be known about a branch.
#[derive(Clone, Copy, Debug)]
pub struct BranchView<'a> {
    pub index: BranchIndex,
    /// Empty when it is sent no more, unless it is one of this node.
    pub request: &'a Bytes,
    pub dest: &'a Dest,
    pub state: ClientState,
    /// The code of the last reply received, 0 before the first.
    pub last_code: u16,
    pub outcome: Option<Outcome>,
    /// The negative final reply; empty before it, and when the outcome is local.
    pub reply: &'a Bytes,
    /// Set once the branch has to be cancelled, even if the CANCEL is still held back.
    pub cancel_reason: Option<CancelReason>,
    pub role: Role,
}

/// The rank of a result; the lowest of a set wins. `cancelled`: the caller sent CANCEL.
pub fn rank(code: u16, cancelled: bool) -> u16 {
    match code {
        487 if cancelled => 0,
        401 => 500,
        407 => 501,
        415 => 502,
        420 => 503,
        484 => 504,
        408 => 800,
        503 => 801,
        300..=399 => code + 100,
        400..=599 => code + 200,
        600..=699 => code - 300,
        _ => code,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) request: Bytes,
    pub(crate) dest: Dest,
    pub(crate) fr_inv_ms: u32,
    pub(crate) role: Role,
    pub(crate) client: Client,
    /// The machine of our CANCEL, once it was sent.
    pub(crate) cancel: Option<Box<Client>>,
    pub(crate) cancel_reason: Option<CancelReason>,
    pub(crate) last_code: u16,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reply: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Fork {
    pub(crate) kind: Kind,
    pub(crate) branches: SmallVec<[Branch; 1]>,
    /// The first branch of the current parallel set.
    pub(crate) set_start: usize,
    pub(crate) phase: Phase,
    /// The caller sent CANCEL.
    pub(crate) cancelled: bool,
    /// A 6xx came that forbids new branches.
    pub(crate) declined: bool,
}

impl Fork {
    /// When the machines of the branches want to be called.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Mono> + '_ {
        let clients = self.branches.iter().flat_map(|b| [Some(&b.client), b.cancel.as_deref()]);
        clients.flatten().flat_map(|c| [c.retransmit.due(), c.deadline.due()]).flatten()
    }

    /// When the first of the branches that wait for a final reply waits no longer.
    pub(crate) fn gives_up_at(&self) -> Option<Mono> {
        let waiting = self.branches.iter().filter(|b| b.outcome.is_none());
        waiting.filter_map(|b| b.client.deadline.due()).min()
    }

    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            branches: SmallVec::new(),
            set_start: 0,
            phase: Phase::Open,
            cancelled: false,
            declined: false,
        }
    }

    pub(crate) fn add(
        &mut self,
        spec: BranchSpec,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> Result<BranchIndex, BranchError> {
        let index = self.open_branch()?;
        let BranchSpec { request, dest, fr_ms, fr_inv_ms, minor } = spec;
        out.push(Effect::SendBranch { branch: index, dest, bytes: request.clone() });
        let fr_ms = fr_ms.unwrap_or(cx.timers.fr_ms);
        let id = ClientId { branch: index, cancel: false };
        self.branches.push(Branch {
            request,
            dest,
            fr_inv_ms: fr_inv_ms.unwrap_or(cx.timers.fr_inv_ms),
            role: if minor { Role::Minor } else { Role::Normal },
            client: Client::start(self.kind, dest.reliable, fr_ms, cx, id, out),
            cancel: None,
            cancel_reason: None,
            last_code: 0,
            outcome: None,
            reply: Bytes::new(),
        });
        Ok(index)
    }

    pub(crate) fn on_reply(
        &mut self,
        index: BranchIndex,
        code: u16,
        reply: Bytes,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> Heard {
        let real = |branch: &&mut Branch| branch.role != Role::Phony;
        let Some(branch) = self.branches.get_mut(usize::from(index.0)).filter(real) else {
            return Heard::Stray;
        };
        // A cancelled branch has 64*T1 to end; further provisionals must not prolong that.
        let restart = cx.settings.restart_fr_on_each_reply && branch.cancel.is_none();
        let id = ClientId { branch: index, cancel: false };
        let unheard = branch.last_code == 0;
        let meaning = branch.client.on_reply(code, branch.fr_inv_ms, restart, cx, id, out);
        if meaning != Meaning::Nothing {
            branch.last_code = code;
        }
        match meaning {
            Meaning::Nothing => Heard::Stray,
            Meaning::Provisional => self.provisional(index, code, cx, out),
            Meaning::TooLate => {
                // It rings after all: the CANCEL that was held back can go.
                if unheard {
                    branch.send_held_cancel(index, cx, out);
                }
                Heard::Stray
            }
            Meaning::FailureAgain => {
                out.push(Effect::SendAck { branch: index });
                Heard::Again
            }
            Meaning::Success => self.success(index, code, cx, out),
            Meaning::Failure => {
                if self.kind == Kind::Invite {
                    out.push(Effect::SendAck { branch: index });
                }
                let new = branch.outcome.is_none();
                if new {
                    branch.reply = reply;
                }
                self.end_branch(index, Outcome { code, local: false }, cx, out);
                if new { Heard::New } else { Heard::Again }
            }
        }
    }

    /// Lets go of a request that is sent no more: of a branch with a 2xx, and of a non-INVITE with
    /// any result. (A negative reply to INVITE is acknowledged by it, whenever it comes.)
    pub(crate) fn forget_request(&mut self, index: BranchIndex) {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        let is_over = branch.outcome.is_some_and(|outcome| {
            (200..=299).contains(&outcome.code) || self.kind == Kind::NonInvite
        });
        if is_over && branch.cancel.is_none() {
            branch.request = Bytes::new();
        }
    }

    /// What the next provisional reply of each branch starts timer C with.
    pub(crate) fn set_fr_inv(&mut self, ms: u32) {
        let real = |branch: &&mut Branch| branch.role != Role::Phony;
        for branch in self.branches.iter_mut().filter(real) {
            branch.fr_inv_ms = ms;
        }
    }

    /// A reply to our CANCEL: it only stops its timers.
    pub(crate) fn on_cancel_reply(&mut self, index: BranchIndex, code: u16) {
        let branch = self.branches.get_mut(usize::from(index.0));
        let Some(cancel) = branch.and_then(|branch| branch.cancel.as_mut()) else { return };
        if (200..=699).contains(&code) {
            cancel.terminate();
        }
    }

    pub(crate) fn on_cancel(&mut self, cx: Cx<'_>, out: &mut Effects) {
        self.cancelled = true;
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Decided;
                out.push(Effect::Final { branch: None, code: 487, local: true });
            }
            Phase::Forking => {
                self.cancel_pending(CancelReason::Originator, cx, out);
                self.stop_waiting(487, cx, out);
            }
            Phase::Decided | Phase::Done => {}
        }
    }

    /// The owner sent this final reply: nothing else is wanted.
    pub(crate) fn answered(&mut self, code: u16, cx: Cx<'_>, out: &mut Effects) {
        self.phase = Phase::Done;
        self.drop_waiting();
        if cx.settings.auto_cancel {
            let success = (200..=299).contains(&code);
            let completed = CancelReason::CompletedElsewhere;
            let reason = if success { completed } else { CancelReason::Answered(code) };
            self.cancel_pending(reason, cx, out);
        }
    }

    pub(crate) fn on_send_error(
        &mut self,
        index: BranchIndex,
        code: u16,
        cx: Cx<'_>,
        out: &mut Effects,
    ) {
        let real = |branch: &&mut Branch| branch.role != Role::Phony;
        let Some(branch) = self.branches.get_mut(usize::from(index.0)).filter(real) else {
            return;
        };
        if branch.client.on_send_error() {
            self.end_branch(index, Outcome { code, local: true }, cx, out);
        }
    }

    pub(crate) fn on_timer(&mut self, timer: Timer, at: u64, cx: Cx<'_>, out: &mut Effects) {
        match timer {
            Timer::A(index) | Timer::E(index) => self.on_retransmit(index, at, cx, out),
            Timer::Fr(index)
            | Timer::FrInv(index)
            | Timer::D(index)
            | Timer::K(index)
            | Timer::M(index) => self.on_deadline(index, at, cx, out),
            Timer::CancelE(index) | Timer::CancelFr(index) => {
                self.on_cancel_timer(index, timer, at, cx, out);
            }
            Timer::G | Timer::H | Timer::I | Timer::J | Timer::L | Timer::Wait => {}
        }
    }

    pub(crate) fn is_terminated(&self) -> bool {
        let over = |client: &Client| client.is_terminated();
        self.branches.iter().all(|b| over(&b.client) && b.cancel.as_deref().is_none_or(over))
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = BranchView<'_>> {
        let numbered = (0..=u8::MAX).map(BranchIndex).zip(&self.branches);
        numbered.map(|(index, branch)| branch.view(index))
    }

    fn provisional(
        &mut self,
        index: BranchIndex,
        code: u16,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> Heard {
        let relayed = matches!(self.phase, Phase::Forking);
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else {
            return Heard::Stray;
        };
        if relayed && code > 100 && branch.outcome.is_none() {
            out.push(Effect::Relay { branch: index, code });
        }
        branch.send_held_cancel(index, cx, out);
        Heard::New
    }

    fn success(&mut self, index: BranchIndex, code: u16, cx: Cx<'_>, out: &mut Effects) -> Heard {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else {
            return Heard::Stray;
        };
        let first = branch.outcome.is_none_or(|outcome| outcome.code >= 300);
        if first {
            branch.outcome = Some(Outcome { code, local: false });
            branch.reply = Bytes::new();
            out.push(Effect::BranchEnded { branch: index, code, local: false });
        }
        // Of several 2xx to a non-INVITE only the first is passed: RFC 3261 16.7 step 5.
        if self.kind == Kind::Invite || self.phase != Phase::Done {
            out.push(Effect::Relay { branch: index, code });
        }
        if self.phase != Phase::Done {
            self.answered(code, cx, out);
        }
        if first { Heard::New } else { Heard::Again }
    }

    /// The result of a branch that did not succeed.
    pub(crate) fn end_branch(
        &mut self,
        index: BranchIndex,
        outcome: Outcome,
        cx: Cx<'_>,
        out: &mut Effects,
    ) {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        if branch.outcome.is_some() {
            return;
        }
        branch.outcome = Some(outcome);
        let Outcome { code, local } = outcome;
        out.push(Effect::BranchEnded { branch: index, code, local });
        let declines = (600..=699).contains(&code) && !local && !cx.settings.disable_6xx_block;
        self.declined |= declines;
        if self.phase != Phase::Forking {
            return;
        }
        if declines {
            if cx.settings.auto_cancel {
                self.cancel_pending(CancelReason::Answered(code), cx, out);
            }
            self.phase = Phase::Decided;
            self.drop_waiting();
            out.push(Effect::Final { branch: Some(index), code, local });
        } else if let Some((winner, Outcome { code, local })) = self.winner() {
            self.phase = Phase::Decided;
            // Minor branches that nobody waited for.
            self.cancel_pending(CancelReason::Answered(code), cx, out);
            out.push(Effect::Final { branch: Some(winner), code, local });
        }
    }

    /// The best result of the current set, once each of its branches has one that the set waits
    /// for: minor ones count only when there is no other.
    fn winner(&self) -> Option<(BranchIndex, Outcome)> {
        let mut best: Option<(BranchIndex, Outcome)> = None;
        let set = || self.views().skip(self.set_start);
        let only_minor = set().all(|view| view.role == Role::Minor);
        for view in set() {
            let Some(outcome) = view.outcome else {
                if view.role == Role::Minor && !only_minor {
                    continue;
                }
                return None;
            };
            let better = best.is_none_or(|(_, other)| {
                rank(outcome.code, self.cancelled) < rank(other.code, self.cancelled)
            });
            if better {
                best = Some((view.index, outcome));
            }
        }
        best
    }

    fn cancel_pending(&mut self, reason: CancelReason, cx: Cx<'_>, out: &mut Effects) {
        if self.kind != Kind::Invite {
            return;
        }
        for (index, branch) in (0..=u8::MAX).map(BranchIndex).zip(&mut self.branches) {
            let real = branch.role != Role::Phony;
            if real && branch.client.is_waiting() && branch.cancel_reason.is_none() {
                branch.cancel(reason, index, cx, out);
            }
        }
    }

    fn on_retransmit(&mut self, index: BranchIndex, at: u64, cx: Cx<'_>, out: &mut Effects) {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        let id = ClientId { branch: index, cancel: false };
        if branch.client.on_retransmit(at, cx, id, out) {
            let bytes = branch.request.clone();
            out.push(Effect::SendBranch { branch: index, dest: branch.dest, bytes });
        }
    }

    fn on_deadline(&mut self, index: BranchIndex, at: u64, cx: Cx<'_>, out: &mut Effects) {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        let id = ClientId { branch: index, cancel: false };
        if branch.client.on_deadline(at, cx, id, out) != Expiry::NoReply {
            return;
        }
        let cancels = self.kind == Kind::Invite && branch.role != Role::Phony;
        if cancels && branch.cancel_reason.is_none() {
            branch.cancel(CancelReason::NoAnswer, index, cx, out);
        } else {
            // RFC 3261 9.1: a cancelled branch had 64*T1 to react.
            branch.client.terminate();
        }
        self.end_branch(index, Outcome { code: 408, local: true }, cx, out);
    }

    fn on_cancel_timer(
        &mut self,
        index: BranchIndex,
        timer: Timer,
        at: u64,
        cx: Cx<'_>,
        out: &mut Effects,
    ) {
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        let (Some(cancel), Some(reason)) = (&mut branch.cancel, branch.cancel_reason) else {
            return;
        };
        let id = ClientId { branch: index, cancel: true };
        if matches!(timer, Timer::CancelFr(_)) {
            cancel.on_deadline(at, cx, id, out);
        } else if cancel.on_retransmit(at, cx, id, out) {
            out.push(Effect::SendCancel { branch: index, reason });
        }
    }
}

impl Branch {
    /// Cancels the branch: at once if it had a provisional reply, otherwise with its first one
    /// (RFC 3261 9.1).
    pub(crate) fn cancel(
        &mut self,
        reason: CancelReason,
        index: BranchIndex,
        cx: Cx<'_>,
        out: &mut Effects,
    ) {
        self.cancel_reason = Some(reason);
        if self.client.state == ClientState::Proceeding {
            self.send_held_cancel(index, cx, out);
        }
    }

    fn send_held_cancel(&mut self, index: BranchIndex, cx: Cx<'_>, out: &mut Effects) {
        let (Some(reason), None) = (self.cancel_reason, &self.cancel) else { return };
        out.push(Effect::SendCancel { branch: index, reason });
        let id = ClientId { branch: index, cancel: true };
        let (reliable, fr_ms) = (self.dest.reliable, cx.timers.fr_ms);
        let client = Client::start(Kind::NonInvite, reliable, fr_ms, cx, id, out);
        self.cancel = Some(Box::new(client));
        self.client.hurry(cx, ClientId { branch: index, cancel: false }, out);
    }

    fn view(&self, index: BranchIndex) -> BranchView<'_> {
        BranchView {
            index,
            request: &self.request,
            dest: &self.dest,
            state: self.client.state,
            last_code: self.last_code,
            outcome: self.outcome,
            reply: &self.reply,
            cancel_reason: self.cancel_reason,
            role: self.role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_order_of_tm() {
        let order = [487, 603, 302, 401, 407, 415, 420, 484, 400, 404, 486, 500, 504, 408, 503];
        let ranks: Vec<u16> = order.iter().map(|&code| rank(code, true)).collect();
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert_eq!(rank(487, false), 687);
        assert_eq!((rank(180, false), rank(200, false)), (180, 200));
    }
}
