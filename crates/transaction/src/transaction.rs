//! The transaction as its owner sees it: the inputs.

use bytes::Bytes;
use tandem_clock::{Mono, Now};
use thiserror::Error;

use crate::effects::{CancelReason, Effect, Effects};
use crate::fork::{BranchIndex, BranchSpec, BranchView, Dest, Fork, Phase};
use crate::server::{Server, ServerState, Upstream};
use crate::timers::{Timer, Timers};

/// The two kinds of RFC 3261 17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Invite,
    NonInvite,
}

/// What the script and the module parameters decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A 2xx, a 6xx or a local final reply cancels the other INVITE branches. Off for a request
    /// with `Request-Disposition: no-cancel` when that is allowed.
    pub auto_cancel: bool,
    /// Each provisional reply restarts `fr_inv`, not only the first.
    pub restart_fr_on_each_reply: bool,
    /// A 6xx neither ends the other branches nor forbids new ones.
    pub disable_6xx_block: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { auto_cancel: true, restart_fr_on_each_reply: false, disable_6xx_block: false }
    }
}

/// What a reply was to the transaction: whether routes of the script have to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// A provisional, or the first final reply of its branch.
    New,
    /// A final reply after the branch had one: a retransmission, a further 2xx, or the answer to
    /// a request given up before.
    Again,
    /// No branch waits for it.
    Stray,
}

/// Why no branch can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum BranchError {
    #[error("the caller has cancelled the request")]
    Cancelled,
    #[error("a 6xx reply forbids new branches")]
    Declined,
    #[error("a final reply was sent already")]
    Answered,
    #[error("the transaction had 256 branches already")]
    TooMany,
}

/// Why a reply cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ReplyError {
    #[error("a final reply was sent already")]
    AlreadyFinal,
    #[error("{0} is not a reply code (100 to 699)")]
    BadCode(u16),
}

/// What every step of a machine needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) timers: &'a Timers,
    pub(crate) settings: Settings,
}

/// One request on its way through this node; see the crate page.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub(crate) timers: Timers,
    pub(crate) settings: Settings,
    pub(crate) server: Server,
    pub(crate) fork: Fork,
    pub(crate) ended: bool,
}

impl Transaction {
    /// A transaction for a received request. `reliable_upstream`: it came over a transport that
    /// retransmits by itself. Nothing is sent or armed yet: the owner replies, adds branches or
    /// releases.
    pub fn new(kind: Kind, reliable_upstream: bool, timers: Timers, settings: Settings) -> Self {
        let upstream = if reliable_upstream { Upstream::Reliable } else { Upstream::Unreliable };
        Self::with_upstream(kind, upstream, timers, settings)
    }

    /// A transaction for a request of this node itself. The effects are the same, but `reply`
    /// sends nothing: with a final code it tells that the owner accepts the result.
    pub fn local(kind: Kind, timers: Timers, settings: Settings) -> Self {
        Self::with_upstream(kind, Upstream::Local, timers, settings)
    }

    /// The request came again (not an ACK, not a CANCEL): the last reply is sent again, except
    /// after a 2xx to INVITE, which is retransmitted end to end.
    pub fn on_request_retransmission(&mut self, out: &mut Effects) {
        if !self.ended {
            self.server.on_request_retransmission(out);
        }
    }

    /// An ACK came that belongs to this INVITE (same branch): it is to a negative reply.
    pub fn on_ack(&mut self, now: Now, out: &mut Effects) {
        self.step(now, out, |server, _, cx, out| server.on_ack(cx, out));
    }

    /// Adds a branch and sends its request. After [`Effect::Final`] it begins a new set. Not
    /// while CANCEL, a 6xx or a final reply forbid it, nor beyond [`crate::BRANCHES_MAX`].
    pub fn add_branch(
        &mut self,
        now: Now,
        spec: BranchSpec,
        out: &mut Effects,
    ) -> Result<BranchIndex, BranchError> {
        self.check_open()?;
        let cx = Cx { now, timers: &self.timers, settings: self.settings };
        let index = self.fork.add(spec, cx, out)?;
        self.server.unrelease();
        Ok(index)
    }

    fn check_open(&self) -> Result<(), BranchError> {
        match self.ended || !self.server.is_open() {
            true if self.fork.cancelled => Err(BranchError::Cancelled),
            true => Err(BranchError::Answered),
            false => Ok(()),
        }
    }

    /// Keeps the set open for branches that come later (a phone that has to be woken up first):
    /// until [`Transaction::stop_waiting`], a 2xx, a 6xx, a CANCEL or `fr_inv`. Not where
    /// [`Transaction::add_branch`] is not possible.
    pub fn wait_for_branches(
        &mut self,
        now: Now,
        out: &mut Effects,
    ) -> Result<BranchIndex, BranchError> {
        self.check_open()?;
        let cx = Cx { now, timers: &self.timers, settings: self.settings };
        let index = self.fork.wait(cx, out)?;
        self.server.unrelease();
        Ok(index)
    }

    /// No further branch is waited for. When nothing else is pending, the best result is given.
    pub fn stop_waiting(&mut self, now: Now, out: &mut Effects) {
        self.step(now, out, |_, fork, cx, out| fork.stop_waiting(408, cx, out));
    }

    /// The request of a branch goes to another destination, because the first could not be
    /// reached. Only as long as nobody has answered; `false` if that is too late.
    pub fn redirect_branch(
        &mut self,
        now: Now,
        branch: BranchIndex,
        (request, dest): (Bytes, Dest),
        out: &mut Effects,
    ) -> bool {
        let mut done = false;
        self.step(now, out, |_, fork, cx, out| {
            done = fork.redirect(branch, request, dest, cx, out);
        });
        done
    }

    /// Cancels a branch of an INVITE that has no result, now or with its first provisional reply.
    pub fn cancel_branch(&mut self, now: Now, branch: BranchIndex, out: &mut Effects) {
        self.step(now, out, |_, fork, cx, out| {
            fork.cancel_one(branch, CancelReason::Script, cx, out);
        });
    }

    /// A reply that matches this branch. Codes outside 100 to 699 are ignored.
    pub fn on_reply(
        &mut self,
        now: Now,
        branch: BranchIndex,
        code: u16,
        reply: Bytes,
        out: &mut Effects,
    ) -> Heard {
        if !(100..=699).contains(&code) {
            return Heard::Stray;
        }
        let mut heard = Heard::Stray;
        self.step(now, out, |server, fork, cx, out| {
            heard = fork.on_reply(branch, code, reply, cx, out);
            // A request of this node itself is acknowledged from here.
            if server.upstream != Upstream::Local {
                fork.forget_request(branch);
            }
        });
        heard
    }

    /// A reply to the CANCEL of this branch: it only stops its timers.
    pub fn on_cancel_reply(&mut self, now: Now, branch: BranchIndex, code: u16, out: &mut Effects) {
        self.step(now, out, |_, fork, _, _| fork.on_cancel_reply(branch, code));
    }

    /// Sends a reply upstream: a relayed one or one of this node. A final one before all branches
    /// have ended cancels the others (unless `auto_cancel` is off). After a final reply only 2xx
    /// to INVITE pass.
    pub fn reply(
        &mut self,
        now: Now,
        code: u16,
        bytes: Bytes,
        out: &mut Effects,
    ) -> Result<(), ReplyError> {
        if self.ended {
            return Err(ReplyError::AlreadyFinal);
        }
        let mut result = Ok(());
        self.step(now, out, |server, fork, cx, out| {
            result = server.reply(code, bytes, cx, out);
            if result.is_ok() && code >= 200 && fork.phase != Phase::Done {
                fork.answered(code, cx, out);
            }
        });
        result
    }

    /// The caller sent CANCEL (the owner answers it). Branches that had a provisional reply are
    /// cancelled now, the others with their first one. Nothing happens after a final reply or
    /// to a non-INVITE.
    pub fn on_cancel(&mut self, now: Now, out: &mut Effects) {
        self.step(now, out, |server, fork, cx, out| {
            if server.kind == Kind::Invite && server.is_open() {
                fork.on_cancel(cx, out);
            }
        });
    }

    /// An entry that [`Effect::SetTimer`] asked for came back; `at` as it was given there.
    pub fn on_timer(&mut self, now: Now, timer: Timer, at: Mono, out: &mut Effects) {
        self.step(now, out, |server, fork, cx, out| match timer {
            Timer::G => server.on_retransmit(at, cx, out),
            Timer::H | Timer::I | Timer::J | Timer::L | Timer::Wait => {
                server.on_deadline(at, cx, out);
            }
            _ => fork.on_timer(timer, at, cx, out),
        });
    }

    /// The request of a branch could not be sent: the branch ends with this local `code`, such as
    /// 477 (send failed) or 503; anything but 400 to 599 counts as 503. Not for failed
    /// CANCELs: those run into their timers.
    pub fn on_send_error(&mut self, now: Now, branch: BranchIndex, code: u16, out: &mut Effects) {
        let code = if (400..=599).contains(&code) { code } else { 503 };
        self.step(now, out, |_, fork, cx, out| fork.on_send_error(branch, code, cx, out));
    }

    /// A reply could not be sent upstream, and sending it again is hopeless (RFC 3261 17.2.4): the
    /// server machine ends in Completed, and for a non-INVITE in Proceeding.
    pub fn on_reply_send_error(&mut self, now: Now, out: &mut Effects) {
        self.step(now, out, |server, _, _, _| server.on_send_error());
    }

    /// The script has ended. If it neither added a branch nor sent a final reply, the transaction
    /// ends after `wait`, unless a branch or a reply comes before. Otherwise nothing happens; in
    /// particular a winner that [`Effect::Final`] gave still has to be answered.
    pub fn release(&mut self, now: Now, out: &mut Effects) {
        self.step(now, out, |server, fork, cx, out| {
            if fork.phase == Phase::Open {
                server.release(cx, out);
            }
        });
    }

    /// Changes `fr` and `fr_inv` for branches that will be added and replies that will be sent, and
    /// `fr_inv` also for the next provisional reply of the branches that are there.
    pub fn set_timeouts(&mut self, fr_ms: Option<u32>, fr_inv_ms: Option<u32>) {
        self.timers.fr_ms = fr_ms.unwrap_or(self.timers.fr_ms);
        if let Some(ms) = fr_inv_ms {
            self.timers.fr_inv_ms = ms;
            self.fork.set_fr_inv(ms);
        }
    }

    /// Changes the settings from here on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    pub fn kind(&self) -> Kind {
        self.server.kind
    }

    pub fn server_state(&self) -> ServerState {
        self.server.state
    }

    pub fn phase(&self) -> Phase {
        self.fork.phase
    }

    /// The code of the last reply sent upstream, 0 before the first.
    pub fn last_code(&self) -> u16 {
        self.server.last_code
    }

    /// The caller sent CANCEL (`t_was_cancelled`).
    pub fn was_cancelled(&self) -> bool {
        self.fork.cancelled
    }

    /// When something is to happen next if nothing comes; entries for what was stopped or moved to
    /// later may come back before.
    pub fn next_deadline(&self) -> Option<Mono> {
        let server = [self.server.retransmit.due(), self.server.deadline.due()];
        server.into_iter().flatten().chain(self.fork.deadlines()).min()
    }

    /// Ends it without a word: another node goes on with it, and nothing that comes later is for
    /// this machine.
    pub fn abandon(&mut self) {
        self.ended = true;
    }

    /// [`Effect::Ended`] was given, or another node goes on with it.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    pub fn branch(&self, index: BranchIndex) -> Option<BranchView<'_>> {
        self.fork.views().nth(usize::from(index.0))
    }

    /// When the first branch that waits for a final reply waits no longer.
    pub fn gives_up_at(&self) -> Option<Mono> {
        self.fork.gives_up_at()
    }

    /// All branches, in the order in which they were added.
    pub fn branches(&self) -> impl Iterator<Item = BranchView<'_>> {
        self.fork.views()
    }

    /// The branches among which the next (after [`Effect::Final`]: the last) winner is chosen.
    pub fn current_set(&self) -> impl Iterator<Item = BranchView<'_>> {
        self.fork.views().skip(self.fork.set_start)
    }

    fn with_upstream(kind: Kind, upstream: Upstream, timers: Timers, settings: Settings) -> Self {
        let (server, fork) = (Server::new(kind, upstream), Fork::new(kind));
        Self { timers, settings, server, fork, ended: false }
    }

    /// One input: nothing after the end, and the end after everything.
    fn step(
        &mut self,
        now: Now,
        out: &mut Effects,
        input: impl FnOnce(&mut Server, &mut Fork, Cx<'_>, &mut Effects),
    ) {
        if self.ended {
            return;
        }
        let cx = Cx { now, timers: &self.timers, settings: self.settings };
        input(&mut self.server, &mut self.fork, cx, out);
        if self.server.is_terminated() && self.fork.is_terminated() {
            self.ended = true;
            out.push(Effect::Ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_with_its_first_branch_inside_stays_below_one_kilobyte() {
        let size = size_of::<Transaction>();
        assert!(size <= 1024, "{size}");
    }

    #[test]
    fn reply_codes_outside_100_to_699_are_refused() {
        let now = Now { mono_ns: 0, unix_ms: 0 };
        let mut out = Effects::new();
        let mut tx = Transaction::new(Kind::Invite, false, Timers::default(), Settings::default());
        for code in [0, 99, 700, u16::MAX] {
            let result = tx.reply(now, code, Bytes::new(), &mut out);
            assert_eq!(result, Err(ReplyError::BadCode(code)));
        }
        assert!(out.is_empty());
    }
}
