//! A transaction as plain data, to be replicated and restored elsewhere.

use bytes::Bytes;
use tandem_clock::{Mono, Now};
use thiserror::Error;

use crate::client::{Client, ClientId, ClientState};
use crate::effects::{CancelReason, Effect, Effects};
use crate::fork::{BRANCHES_MAX, Branch, BranchIndex, Dest, Fork, Outcome, Phase, Role};
use crate::server::{Server, ServerState, Upstream};
use crate::timers::{Alarm, Timer, Timers};
use crate::transaction::{Kind, Settings, Transaction};

/// A whole transaction. Instants are relative to the moment of the snapshot, so that they mean
/// something on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub kind: Kind,
    pub timers: Timers,
    pub settings: Settings,
    pub server: ServerSnapshot,
    pub branches: Vec<BranchSnapshot>,
    /// The first branch of the current parallel set.
    pub set_start: u16,
    pub phase: Phase,
    pub cancelled: bool,
    pub declined: bool,
    pub ended: bool,
}

/// The machine towards the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSnapshot {
    /// The request is one of the node itself.
    pub local: bool,
    pub reliable: bool,
    pub state: ServerState,
    pub last_code: u16,
    pub last_reply: Bytes,
    pub interval_ms: u32,
    pub retransmit: AlarmSnapshot,
    pub deadline: AlarmSnapshot,
}

/// A branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchSnapshot {
    pub request: Bytes,
    pub dest: Dest,
    pub fr_inv_ms: u32,
    pub role: Role,
    pub client: ClientSnapshot,
    pub cancel: Option<ClientSnapshot>,
    pub cancel_reason: Option<CancelReason>,
    pub last_code: u16,
    pub outcome: Option<Outcome>,
    pub reply: Bytes,
}

/// A client machine, of a request or of a CANCEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSnapshot {
    pub state: ClientState,
    pub interval_ms: u32,
    pub retransmit: AlarmSnapshot,
    pub deadline: AlarmSnapshot,
}

/// A timer: nanoseconds until it is due and until its entry in the wheel comes back. Negative
/// if that moment has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmSnapshot {
    pub due_in_ns: Option<i64>,
    pub entry_in_ns: Option<i64>,
}

/// Why a snapshot cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum RestoreError {
    #[error("{0} branches are more than 256")]
    TooManyBranches(usize),
    #[error("the current set begins at branch {0}, which does not exist")]
    BadSetStart(u16),
    #[error("branch {0} has neither a result nor a way to get one")]
    LostBranch(usize),
    #[error("the current set waits for a branch, but none is pending")]
    NothingPending,
    #[error("it has branches, and says that it has none yet")]
    OpenWithBranches,
    #[error("it says that it is answered, and its request is not")]
    DoneUnanswered,
}

/// No timer of a transaction that has been taken over is longer, whatever was told: an hour.
const LEFT_MS_MAX: u32 = 3_600_000;
/// It sends nothing again more often than this.
const AGAIN_MS_MIN: u32 = 50;
/// What is left of `fr_inv` at least when a transaction has been taken over, milliseconds.
const FR_INV_LEFT_MS: u32 = 1_000;

impl Snapshot {
    /// What so much time did to it that nobody looked after; a peer tells it, so it is bounded, too.
    /// A branch without any answer begins anew: see [`Transaction::ask_again`]. Its wait for a final
    /// answer does not.
    pub fn grow_older(&mut self, ns: u64) {
        let age_ms = u32::try_from(ns / 1_000_000).unwrap_or(u32::MAX);
        let Timers { t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms } = &mut self.timers;
        for ms in [t1_ms, t2_ms, fr_ms, fr_inv_ms, wait_ms] {
            *ms = LEFT_MS_MAX.min(*ms);
        }
        for ms in [&mut self.timers.t1_ms, &mut self.timers.t2_ms] {
            *ms = AGAIN_MS_MIN.max(*ms);
        }
        self.server.interval_ms = self.server.interval_ms.clamp(AGAIN_MS_MIN, LEFT_MS_MAX);
        self.server.retransmit.grow_older(ns);
        self.server.deadline.grow_older(ns);
        for branch in &mut self.branches {
            branch.fr_inv_ms = branch.fr_inv_ms.min(LEFT_MS_MAX);
            let left_ms = branch.fr_inv_ms.saturating_sub(age_ms);
            branch.fr_inv_ms = left_ms.max(FR_INV_LEFT_MS.min(branch.fr_inv_ms));
            let cancel = branch.cancel.as_mut();
            for client in cancel.into_iter().chain([&mut branch.client]) {
                client.interval_ms = client.interval_ms.clamp(AGAIN_MS_MIN, LEFT_MS_MAX);
                let ns = if client.state == ClientState::Calling { 0 } else { ns };
                client.retransmit.grow_older(ns);
                client.deadline.grow_older(ns);
            }
        }
    }
}

impl AlarmSnapshot {
    fn grow_older(&mut self, ns: u64) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        for left in [&mut self.due_in_ns, &mut self.entry_in_ns] {
            *left =
                left.map(|left| left.saturating_sub(ns).min(i64::from(LEFT_MS_MAX) * 1_000_000));
        }
    }
}

impl Transaction {
    /// Sends every request again that has had no answer. Over a transport that retransmits by
    /// itself, too: the connection to the node that is gone was not this one's.
    pub fn ask_again(&self, out: &mut Effects) {
        for (number, branch) in (0..=u8::MAX).zip(&self.fork.branches) {
            let asks = branch.client.state == ClientState::Calling && !branch.request.is_empty();
            if asks {
                let (dest, bytes) = (branch.dest, branch.request.clone());
                out.push(Effect::SendBranch { branch: BranchIndex(number), dest, bytes });
            }
        }
    }

    /// The transaction as plain data. The request and reply bytes are shared, not copied.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        // No `..` here and below: a field that is forgotten must not compile.
        let Self { timers, settings, server, fork, ended } = self;
        let Fork { kind, branches, set_start, phase, cancelled, declined } = fork;
        Snapshot {
            kind: *kind,
            timers: *timers,
            settings: *settings,
            server: server.snapshot(now),
            branches: branches.iter().map(|branch| branch.snapshot(now)).collect(),
            set_start: u16::try_from(*set_start).unwrap_or(u16::MAX),
            phase: *phase,
            cancelled: *cancelled,
            declined: *declined,
            ended: *ended,
        }
    }

    /// The transaction of a snapshot, with its timers. `now` is the moment of the snapshot on the
    /// clock of this node, as well as it is known (for a replicated one: of its receipt, which
    /// may be long ago: what is overdue by then fires at once). In [`Phase::Decided`] the owner
    /// has the next move, as before. Fails on what no transaction can be; nothing is armed then.
    pub fn restore(snapshot: Snapshot, now: Now, out: &mut Effects) -> Result<Self, RestoreError> {
        let Snapshot {
            kind,
            timers,
            settings,
            server,
            branches,
            set_start,
            phase,
            cancelled,
            declined,
            ended,
        } = snapshot;
        if branches.len() > BRANCHES_MAX {
            return Err(RestoreError::TooManyBranches(branches.len()));
        }
        if usize::from(set_start) > branches.len() {
            return Err(RestoreError::BadSetStart(set_start));
        }
        check_pending(phase, &branches, usize::from(set_start))?;
        let is_open = matches!(server.state, ServerState::Trying | ServerState::Proceeding);
        if phase == Phase::Done && is_open && !ended {
            return Err(RestoreError::DoneUnanswered);
        }
        let server = Server::restore(kind, server, now, out);
        let numbered = (0..=u8::MAX).map(BranchIndex).zip(branches);
        let branches =
            numbered.map(|(index, branch)| Branch::restore(kind, index, branch, now, out));
        let branches = branches.collect();
        let set_start = usize::from(set_start);
        let fork = Fork { kind, branches, set_start, phase, cancelled, declined };
        Ok(Self { timers, settings, server, fork, ended })
    }
}

/// What could never end is refused.
fn check_pending(
    phase: Phase,
    branches: &[BranchSnapshot],
    set_start: usize,
) -> Result<(), RestoreError> {
    let lost = |branch: &BranchSnapshot| {
        let waiting = matches!(branch.client.state, ClientState::Calling | ClientState::Proceeding);
        branch.outcome.is_none() && !waiting
    };
    if let Some(number) = branches.iter().position(lost) {
        return Err(RestoreError::LostBranch(number));
    }
    if phase == Phase::Open && !branches.is_empty() {
        return Err(RestoreError::OpenWithBranches);
    }
    let set = || branches.iter().skip(set_start);
    let minor = |branch: &BranchSnapshot| branch.role == Role::Minor;
    let counts = |branch: &&BranchSnapshot| !minor(branch) || set().all(minor);
    let pending = set().filter(counts).any(|branch| branch.outcome.is_none());
    if phase == Phase::Forking && !pending {
        return Err(RestoreError::NothingPending);
    }
    Ok(())
}

impl Server {
    fn snapshot(&self, now: Now) -> ServerSnapshot {
        let Self {
            kind: _, // that of the transaction
            upstream,
            state,
            last_code,
            last_reply,
            interval_ms,
            retransmit,
            deadline,
        } = self;
        ServerSnapshot {
            local: *upstream == Upstream::Local,
            reliable: *upstream == Upstream::Reliable,
            state: *state,
            last_code: *last_code,
            last_reply: last_reply.clone(),
            interval_ms: *interval_ms,
            retransmit: retransmit.snapshot(now),
            deadline: deadline.snapshot(now),
        }
    }

    fn restore(kind: Kind, snapshot: ServerSnapshot, now: Now, out: &mut Effects) -> Self {
        let ServerSnapshot {
            local,
            reliable,
            state,
            last_code,
            last_reply,
            interval_ms,
            retransmit,
            deadline,
        } = snapshot;
        let upstream = match (local, reliable) {
            (true, _) => Upstream::Local,
            (false, true) => Upstream::Reliable,
            (false, false) => Upstream::Unreliable,
        };
        let mut server = Self {
            kind,
            upstream,
            state,
            last_code,
            last_reply,
            interval_ms,
            retransmit: Alarm::default(),
            deadline: Alarm::default(),
        };
        server.retransmit = Alarm::restore(retransmit, Timer::G, now, out);
        let name = server.deadline_name();
        server.deadline = Alarm::restore(deadline, name, now, out);
        if !server.is_open() && !server.is_terminated() {
            server.deadline.must_come(name, now, out);
        }
        server
    }
}

impl Branch {
    fn snapshot(&self, now: Now) -> BranchSnapshot {
        let Self {
            request,
            dest,
            fr_inv_ms,
            role,
            client,
            cancel,
            cancel_reason,
            last_code,
            outcome,
            reply,
        } = self;
        BranchSnapshot {
            request: request.clone(),
            dest: *dest,
            fr_inv_ms: *fr_inv_ms,
            role: *role,
            client: client.snapshot(now),
            cancel: cancel.as_ref().map(|cancel| cancel.snapshot(now)),
            cancel_reason: *cancel_reason,
            last_code: *last_code,
            outcome: *outcome,
            reply: reply.clone(),
        }
    }

    fn restore(
        kind: Kind,
        index: BranchIndex,
        snapshot: BranchSnapshot,
        now: Now,
        out: &mut Effects,
    ) -> Self {
        let BranchSnapshot {
            request,
            dest,
            fr_inv_ms,
            role,
            client,
            cancel,
            cancel_reason,
            last_code,
            outcome,
            reply,
        } = snapshot;
        let id = ClientId { branch: index, cancel: false };
        let client = Client::restore(kind, dest.reliable, client, id, now, out);
        let id = ClientId { branch: index, cancel: true };
        let cancel = cancel
            .map(|c| Client::restore(Kind::NonInvite, dest.reliable, c, id, now, out))
            .map(Box::new);
        Self {
            request,
            dest,
            fr_inv_ms,
            role,
            client,
            cancel,
            cancel_reason,
            last_code,
            outcome,
            reply,
        }
    }
}

impl Client {
    fn snapshot(&self, now: Now) -> ClientSnapshot {
        let Self {
            kind: _,     // that of the transaction, or NonInvite for a CANCEL
            reliable: _, // that of the destination
            state,
            interval_ms,
            retransmit,
            deadline,
        } = self;
        ClientSnapshot {
            state: *state,
            interval_ms: *interval_ms,
            retransmit: retransmit.snapshot(now),
            deadline: deadline.snapshot(now),
        }
    }

    fn restore(
        kind: Kind,
        reliable: bool,
        snapshot: ClientSnapshot,
        id: ClientId,
        now: Now,
        out: &mut Effects,
    ) -> Self {
        let ClientSnapshot { state, interval_ms, retransmit, deadline } = snapshot;
        let mut client = Self {
            kind,
            reliable,
            state,
            interval_ms,
            retransmit: Alarm::default(),
            deadline: Alarm::default(),
        };
        client.retransmit = Alarm::restore(retransmit, client.retransmit_name(id), now, out);
        let name = client.deadline_name(id);
        client.deadline = Alarm::restore(deadline, name, now, out);
        if !client.is_terminated() {
            client.deadline.must_come(name, now, out);
        }
        client
    }
}

impl Alarm {
    fn snapshot(&self, now: Now) -> AlarmSnapshot {
        let (due, entry) = (self.due(), self.entry());
        let remaining = |at: Mono| at.wrapping_sub(now.mono_ns).cast_signed();
        AlarmSnapshot { due_in_ns: due.map(remaining), entry_in_ns: entry.map(remaining) }
    }

    /// The alarm, and its entry in the wheel of this node.
    fn restore(snapshot: AlarmSnapshot, timer: Timer, now: Now, out: &mut Effects) -> Self {
        let AlarmSnapshot { due_in_ns, entry_in_ns } = snapshot;
        let instant = |ns: i64| now.mono_ns.saturating_add_signed(ns);
        let due = due_in_ns.map(instant);
        // Without an entry, or with one that comes later, the alarm would not come back when it is
        // due: a machine that cannot end, or that is looked at again and again until then.
        let entry = entry_in_ns.map(instant).into_iter().chain(due).min();
        if let Some(at) = entry {
            out.push(Effect::SetTimer { timer, at });
        }
        Self::new(due, entry)
    }

    /// A state that only this alarm can end has it armed in every real snapshot; another one
    /// must not become a transaction that never ends.
    fn must_come(&mut self, timer: Timer, now: Now, out: &mut Effects) {
        if self.due().is_none() {
            self.set(timer, now.mono_ns, out);
        }
    }
}
