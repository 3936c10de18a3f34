//! What is not in RFC 3261: branches that wait for others to come, branches that go elsewhere, and
//! branches that the script cancels.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::client::{Client, ClientId};
use crate::effects::{CancelReason, Effect, Effects};
use crate::fork::{Branch, BranchIndex, Dest, Fork, Outcome, Phase, Role};
use crate::transaction::{BranchError, Cx, Kind};

impl Fork {
    /// A branch without a request, which keeps the set open until `fr_inv` has passed.
    pub(crate) fn wait(
        &mut self,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> Result<BranchIndex, BranchError> {
        let index = self.open_branch()?;
        let id = ClientId { branch: index, cancel: false };
        let dest = Dest { socket: 0, addr: ([0, 0, 0, 0], 0).into(), reliable: true };
        let client = Client::waiting(self.kind, cx.timers.fr_inv_ms, cx, id, out);
        self.branches.push(Branch {
            request: Bytes::new(),
            dest,
            fr_inv_ms: cx.timers.fr_inv_ms,
            role: Role::Phony,
            client,
            cancel: None,
            cancel_reason: None,
            last_code: 0,
            outcome: None,
            reply: Bytes::new(),
        });
        Ok(index)
    }

    /// No further branch is waited for.
    pub(crate) fn stop_waiting(&mut self, code: u16, cx: Cx<'_>, out: &mut Effects) {
        let waiting: SmallVec<[BranchIndex; 1]> = self.phony().collect();
        for index in waiting {
            if let Some(branch) = self.branches.get_mut(usize::from(index.0)) {
                branch.client.terminate();
            }
            self.end_branch(index, Outcome { code, local: true }, cx, out);
        }
    }

    /// The branches that only wait.
    fn phony(&self) -> impl Iterator<Item = BranchIndex> + '_ {
        let numbered = (0..=u8::MAX).map(BranchIndex).zip(&self.branches);
        numbered.filter(|(_, b)| b.role == Role::Phony && b.outcome.is_none()).map(|(n, _)| n)
    }

    /// Ends what only waits, without a word to the owner, who has decided.
    pub(crate) fn drop_waiting(&mut self) {
        for branch in &mut self.branches {
            if branch.role == Role::Phony && branch.outcome.is_none() {
                branch.client.terminate();
                branch.outcome = Some(Outcome { code: 487, local: true });
            }
        }
    }

    /// Sends the request of a branch elsewhere; the branch begins again.
    pub(crate) fn redirect(
        &mut self,
        index: BranchIndex,
        request: Bytes,
        dest: Dest,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> bool {
        let kind = self.kind;
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return false };
        let untouched = branch.last_code == 0 && branch.outcome.is_none();
        if !untouched || !branch.client.is_waiting() || branch.role == Role::Phony {
            return false;
        }
        let id = ClientId { branch: index, cancel: false };
        (branch.request, branch.dest) = (request.clone(), dest);
        branch.client.begin_again(kind, dest.reliable, cx.timers.fr_ms, cx, id, out);
        out.push(Effect::SendBranch { branch: index, dest, bytes: request });
        true
    }

    /// Cancels one branch that has no result.
    pub(crate) fn cancel_one(
        &mut self,
        index: BranchIndex,
        reason: CancelReason,
        cx: Cx<'_>,
        out: &mut Effects,
    ) {
        if self.kind != Kind::Invite {
            return;
        }
        let Some(branch) = self.branches.get_mut(usize::from(index.0)) else { return };
        if branch.role == Role::Phony {
            return;
        }
        if branch.client.is_waiting() && branch.cancel_reason.is_none() {
            branch.cancel(reason, index, cx, out);
        }
    }

    /// A place for one more branch, in the set that it belongs to.
    pub(crate) fn open_branch(&mut self) -> Result<BranchIndex, BranchError> {
        let number = self.branches.len();
        let Some(index) = u8::try_from(number).ok().map(BranchIndex) else {
            return Err(BranchError::TooMany);
        };
        match self.phase {
            Phase::Done => return Err(BranchError::Answered),
            _ if self.cancelled => return Err(BranchError::Cancelled),
            _ if self.declined => return Err(BranchError::Declined),
            Phase::Open | Phase::Decided => self.set_start = number,
            Phase::Forking => {}
        }
        self.phase = Phase::Forking;
        Ok(index)
    }
}
