//! The server machines: RFC 3261 figures 7 and 8, with the Accepted state of RFC 6026.

use bytes::Bytes;

use crate::effects::{Effect, Effects};
use crate::timers::{Alarm, Timer};
use crate::transaction::{Cx, Kind, ReplyError};

/// Where the server machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// A non-INVITE without any reply yet.
    Trying,
    /// INVITE: from the start. Non-INVITE: a provisional reply was sent.
    Proceeding,
    /// A final reply was sent (INVITE: a negative one, not yet ACKed).
    Completed,
    /// The ACK to the negative reply came.
    Confirmed,
    /// A 2xx to INVITE was sent; more may follow (RFC 6026).
    Accepted,
    Terminated,
}

/// Where the request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Unreliable,
    Reliable,
    /// This node itself: replies are not sent, and the first final one is the end.
    Local,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) upstream: Upstream,
    pub(crate) state: ServerState,
    pub(crate) last_code: u16,
    /// The reply to send again when the request comes again.
    pub(crate) last_reply: Bytes,
    pub(crate) interval_ms: u32,
    /// Timer G.
    pub(crate) retransmit: Alarm,
    /// What ends the present state: H, I, J, L or WAIT.
    pub(crate) deadline: Alarm,
}

impl Server {
    pub(crate) fn new(kind: Kind, upstream: Upstream) -> Self {
        Self {
            kind,
            upstream,
            state: match kind {
                Kind::Invite => ServerState::Proceeding,
                Kind::NonInvite => ServerState::Trying,
            },
            last_code: 0,
            last_reply: Bytes::new(),
            interval_ms: 0,
            retransmit: Alarm::default(),
            deadline: Alarm::default(),
        }
    }

    /// No final reply was sent yet.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, ServerState::Trying | ServerState::Proceeding)
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.state == ServerState::Terminated
    }

    pub(crate) fn on_request_retransmission(&self, out: &mut Effects) {
        // Whoever repeats an INVITE has lost its 2xx: RFC 6026 7.1 leaves it to the callee to
        // send that again, OpenSIPS and we do it at once.
        let answered = [ServerState::Proceeding, ServerState::Completed, ServerState::Accepted];
        if answered.contains(&self.state) {
            self.resend(out);
        }
    }

    pub(crate) fn on_ack(&mut self, cx: Cx<'_>, out: &mut Effects) {
        if self.kind != Kind::Invite || self.state != ServerState::Completed {
            return;
        }
        self.retransmit.stop();
        if self.upstream == Upstream::Unreliable {
            self.state = ServerState::Confirmed;
            self.deadline.set(Timer::I, cx.now.after_ms(cx.timers.wait_ms.into()), out);
        } else {
            self.terminate();
        }
    }

    /// A reply of the transaction user.
    pub(crate) fn reply(
        &mut self,
        code: u16,
        bytes: Bytes,
        cx: Cx<'_>,
        out: &mut Effects,
    ) -> Result<(), ReplyError> {
        if !(100..=699).contains(&code) {
            return Err(ReplyError::BadCode(code));
        }
        let success = (200..=299).contains(&code);
        if !self.is_open() {
            // RFC 3261 16.7 step 5 and RFC 6026 7.1: any 2xx to INVITE, whatever was sent before.
            if self.kind == Kind::Invite && success {
                self.send(bytes, out);
                return Ok(());
            }
            return Err(ReplyError::AlreadyFinal);
        }
        self.last_code = code;
        self.send(bytes.clone(), out);
        // A 2xx to INVITE ends the transaction for us over a connection, where nothing is repeated.
        let keep = match self.upstream {
            Upstream::Unreliable => true,
            Upstream::Reliable => !(self.kind == Kind::Invite && success),
            Upstream::Local => false,
        };
        self.last_reply = if keep { bytes } else { Bytes::new() };
        match (self.kind, code) {
            (_, 100..=199) => self.state = ServerState::Proceeding,
            _ if self.upstream == Upstream::Local => self.terminate(),
            (Kind::Invite, _) if success => self.accept(cx, out),
            (Kind::Invite, _) => self.refuse(cx, out),
            (Kind::NonInvite, _) => self.complete(cx, out),
        }
        Ok(())
    }

    /// RFC 3261 17.2.4. An INVITE has other ways to end in Proceeding and Accepted (RFC 6026 7.1).
    pub(crate) fn on_send_error(&mut self) {
        match (self.kind, self.state) {
            (Kind::NonInvite, ServerState::Proceeding) | (_, ServerState::Completed) => {
                self.terminate();
            }
            _ => {}
        }
    }

    /// The transaction user has nothing to say: absorb retransmissions for a while, then end.
    pub(crate) fn release(&mut self, cx: Cx<'_>, out: &mut Effects) {
        if self.upstream == Upstream::Local {
            self.terminate();
        } else if self.is_open() {
            self.deadline.set(Timer::Wait, cx.now.after_ms(cx.timers.wait_ms.into()), out);
        }
    }

    /// The transaction user goes on after all.
    pub(crate) fn unrelease(&mut self) {
        if self.is_open() {
            self.deadline.stop();
        }
    }

    pub(crate) fn on_retransmit(&mut self, at: u64, cx: Cx<'_>, out: &mut Effects) {
        let fired = self.retransmit.fired(cx.now, Timer::G, at, out);
        if !fired || self.state != ServerState::Completed {
            return;
        }
        self.interval_ms = cx.timers.next_ms(self.interval_ms);
        self.retransmit.set(Timer::G, cx.now.after_ms(self.interval_ms.into()), out);
        self.resend(out);
    }

    pub(crate) fn on_deadline(&mut self, at: u64, cx: Cx<'_>, out: &mut Effects) {
        if self.deadline.fired(cx.now, self.deadline_name(), at, out) {
            self.terminate();
        }
    }

    fn resend(&self, out: &mut Effects) {
        if !self.last_reply.is_empty() {
            out.push(Effect::SendReply { bytes: self.last_reply.clone() });
        }
    }

    fn send(&self, bytes: Bytes, out: &mut Effects) {
        if self.upstream != Upstream::Local {
            out.push(Effect::SendReply { bytes });
        }
    }

    fn accept(&mut self, cx: Cx<'_>, out: &mut Effects) {
        self.state = ServerState::Accepted;
        self.deadline.set(Timer::L, cx.now.after_ms(cx.timers.t1_x64_ms()), out);
    }

    fn refuse(&mut self, cx: Cx<'_>, out: &mut Effects) {
        self.state = ServerState::Completed;
        if self.upstream == Upstream::Unreliable {
            self.interval_ms = cx.timers.first_ms();
            self.retransmit.set(Timer::G, cx.now.after_ms(self.interval_ms.into()), out);
        }
        self.deadline.set(Timer::H, cx.now.after_ms(cx.timers.fr_ms.into()), out);
    }

    fn complete(&mut self, cx: Cx<'_>, out: &mut Effects) {
        if self.upstream == Upstream::Unreliable {
            self.state = ServerState::Completed;
            self.deadline.set(Timer::J, cx.now.after_ms(cx.timers.wait_ms.into()), out);
        } else {
            self.terminate();
        }
    }

    pub(crate) fn terminate(&mut self) {
        self.state = ServerState::Terminated;
        self.retransmit.stop();
        self.deadline.stop();
    }

    pub(crate) fn deadline_name(&self) -> Timer {
        match (self.kind, self.state) {
            (_, ServerState::Trying | ServerState::Proceeding) => Timer::Wait,
            (_, ServerState::Accepted) => Timer::L,
            (Kind::NonInvite, _) => Timer::J,
            (Kind::Invite, ServerState::Completed) => Timer::H,
            (Kind::Invite, _) => Timer::I,
        }
    }
}
