//! The client machines: RFC 3261 figures 5 and 6, with the Accepted state of RFC 6026.

use crate::effects::Effects;
use crate::fork::BranchIndex;
use crate::timers::{Alarm, Timer};
use crate::transaction::{Cx, Kind};

/// Where a client machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientState {
    /// The request was sent, no reply yet. For a non-INVITE the RFC calls it Trying.
    Calling,
    /// A provisional reply came.
    Proceeding,
    /// A final reply came (INVITE: a negative one).
    Completed,
    /// A 2xx to INVITE came; more may follow (RFC 6026).
    Accepted,
    Terminated,
}

/// Which machine of a branch this is: that of its request, or that of the CANCEL for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientId {
    pub(crate) branch: BranchIndex,
    pub(crate) cancel: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) kind: Kind,
    pub(crate) reliable: bool,
    pub(crate) state: ClientState,
    pub(crate) interval_ms: u32,
    /// Timers A and E.
    pub(crate) retransmit: Alarm,
    /// What ends the present state: FR, FR_INV, D, K or M.
    pub(crate) deadline: Alarm,
}

/// What a reply was to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Provisional,
    /// A 2xx: to INVITE every one, otherwise the first.
    Success,
    /// The first negative final reply.
    Failure,
    /// A negative final reply to INVITE that only needs its ACK.
    FailureAgain,
    /// A provisional to an INVITE which was given up before anything came back.
    TooLate,
    Nothing,
}

/// What a deadline was to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Stale or moved.
    Nothing,
    /// No final reply in time. An INVITE in Proceeding stays there, for its owner to cancel it.
    NoReply,
    /// The machine has ended in order.
    Terminated,
}

impl Client {
    /// The machine in Calling; the caller sends the request.
    pub(crate) fn start(
        kind: Kind,
        reliable: bool,
        fr_ms: u32,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> Self {
        let mut client = Self {
            kind,
            reliable,
            state: ClientState::Calling,
            interval_ms: cx.timers.first_ms(),
            retransmit: Alarm::default(),
            deadline: Alarm::default(),
        };
        if !reliable {
            let at = cx.now.after_ms(client.interval_ms.into());
            client.retransmit.set(client.retransmit_name(id), at, out);
        }
        client.deadline.set(client.deadline_name(id), cx.now.after_ms(fr_ms.into()), out);
        client
    }

    /// The machine of a branch that sends nothing: in Proceeding, until `ms` have passed.
    pub(crate) fn waiting(
        kind: Kind,
        ms: u32,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> Self {
        let mut client = Self {
            kind,
            reliable: true,
            state: ClientState::Proceeding,
            interval_ms: 0,
            retransmit: Alarm::default(),
            deadline: Alarm::default(),
        };
        client.deadline.set(client.deadline_name(id), cx.now.after_ms(ms.into()), out);
        client
    }

    /// In Calling again, towards another destination. The entries in the wheel are kept: what is
    /// set later is set again when they come back.
    pub(crate) fn begin_again(
        &mut self,
        kind: Kind,
        reliable: bool,
        fr_ms: u32,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) {
        self.kind = kind;
        self.reliable = reliable;
        self.state = ClientState::Calling;
        self.interval_ms = cx.timers.first_ms();
        self.retransmit.stop();
        if !reliable {
            let at = cx.now.after_ms(self.interval_ms.into());
            self.retransmit.set(self.retransmit_name(id), at, out);
        }
        self.deadline.set(self.deadline_name(id), cx.now.after_ms(fr_ms.into()), out);
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.state == ClientState::Terminated
    }

    /// A final reply to the request is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, ClientState::Calling | ClientState::Proceeding)
    }

    /// A reply with this code. `fr_inv_ms` is set on the first provisional to INVITE, and on each
    /// if `restart_fr`.
    pub(crate) fn on_reply(
        &mut self,
        code: u16,
        fr_inv_ms: u32,
        restart_fr: bool,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> Meaning {
        match (self.state, code) {
            (ClientState::Calling | ClientState::Proceeding, 100..=199) => {
                let first = self.state == ClientState::Calling;
                self.state = ClientState::Proceeding;
                if self.kind == Kind::Invite {
                    self.retransmit.stop();
                    if first || restart_fr {
                        let at = cx.now.after_ms(fr_inv_ms.into());
                        self.deadline.set(self.deadline_name(id), at, out);
                    }
                }
                Meaning::Provisional
            }
            (ClientState::Calling | ClientState::Proceeding, 200..=699) => {
                self.finish(code, cx, id, out);
                if code < 300 { Meaning::Success } else { Meaning::Failure }
            }
            (state, code) if self.kind == Kind::Invite => {
                self.after_final(state, code, cx, id, out)
            }
            _ => Meaning::Nothing,
        }
    }

    /// Timer A or E. True if the request has to be sent again.
    pub(crate) fn on_retransmit(
        &mut self,
        at: u64,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> bool {
        let fired = self.retransmit.fired(cx.now, self.retransmit_name(id), at, out);
        if !fired || !self.is_waiting() {
            return false;
        }
        self.interval_ms = match self.state {
            ClientState::Calling => cx.timers.next_ms(self.interval_ms),
            // RFC 3261 17.1.2.2: T2 from the first provisional on.
            _ => cx.timers.t2_ms.max(1),
        };
        let next = cx.now.after_ms(self.interval_ms.into());
        self.retransmit.set(self.retransmit_name(id), next, out);
        true
    }

    pub(crate) fn on_deadline(
        &mut self,
        at: u64,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> Expiry {
        if !self.deadline.fired(cx.now, self.deadline_name(id), at, out) {
            return Expiry::Nothing;
        }
        if !self.is_waiting() {
            self.terminate();
            return Expiry::Terminated;
        }
        if self.kind == Kind::NonInvite || self.state == ClientState::Calling {
            self.terminate();
        }
        Expiry::NoReply
    }

    /// The request (or the ACK) could not be sent. True if the branch has failed by that. An
    /// INVITE in Proceeding sends nothing, so figure 5 has no such arrow there.
    pub(crate) fn on_send_error(&mut self) -> bool {
        match (self.kind, self.state) {
            (_, ClientState::Calling) | (Kind::NonInvite, ClientState::Proceeding) => {
                self.terminate();
                true
            }
            (Kind::Invite, ClientState::Completed) => {
                self.terminate();
                false
            }
            _ => false,
        }
    }

    /// RFC 3261 9.1: a cancelled INVITE has 64*T1 to end.
    pub(crate) fn hurry(&mut self, cx: Cx<'_>, id: ClientId, out: &mut Effects) {
        if !self.is_waiting() {
            return;
        }
        let limit = cx.now.after_ms(cx.timers.t1_x64_ms());
        if self.deadline.due().is_none_or(|due| due > limit) {
            self.deadline.set(self.deadline_name(id), limit, out);
        }
    }

    pub(crate) fn terminate(&mut self) {
        self.state = ClientState::Terminated;
        self.retransmit.stop();
        self.deadline.stop();
    }

    /// The first final reply.
    fn finish(&mut self, code: u16, cx: Cx<'_>, id: ClientId, out: &mut Effects) {
        self.retransmit.stop();
        if self.kind == Kind::Invite && code < 300 {
            self.state = ClientState::Accepted;
            let at = cx.now.after_ms(cx.timers.t1_x64_ms());
            self.deadline.set(self.deadline_name(id), at, out);
        } else if self.reliable {
            self.terminate();
        } else {
            self.state = ClientState::Completed;
            let at = cx.now.after_ms(cx.timers.wait_ms.into());
            self.deadline.set(self.deadline_name(id), at, out);
        }
    }

    /// Replies to an INVITE after its final one.
    fn after_final(
        &mut self,
        state: ClientState,
        code: u16,
        cx: Cx<'_>,
        id: ClientId,
        out: &mut Effects,
    ) -> Meaning {
        match (state, code) {
            (ClientState::Completed, 200..=299) => {
                // A fork further down may answer after a failure: RFC 3261 16.7 step 5 wants
                // every 2xx passed on.
                self.finish(code, cx, id, out);
                Meaning::Success
            }
            (ClientState::Accepted | ClientState::Terminated, 200..=299) => Meaning::Success,
            (ClientState::Completed | ClientState::Terminated, 300..=699) => Meaning::FailureAgain,
            (ClientState::Terminated, 100..=199) => Meaning::TooLate,
            _ => Meaning::Nothing,
        }
    }

    pub(crate) fn retransmit_name(&self, id: ClientId) -> Timer {
        match (id.cancel, self.kind) {
            (true, _) => Timer::CancelE(id.branch),
            (false, Kind::Invite) => Timer::A(id.branch),
            (false, Kind::NonInvite) => Timer::E(id.branch),
        }
    }

    pub(crate) fn deadline_name(&self, id: ClientId) -> Timer {
        match (self.kind, self.state) {
            _ if id.cancel => Timer::CancelFr(id.branch),
            (Kind::Invite, ClientState::Proceeding) => Timer::FrInv(id.branch),
            (_, ClientState::Calling | ClientState::Proceeding) => Timer::Fr(id.branch),
            (Kind::Invite, ClientState::Accepted) => Timer::M(id.branch),
            (Kind::Invite, _) => Timer::D(id.branch),
            (Kind::NonInvite, _) => Timer::K(id.branch),
        }
    }
}
