//! What one node keeps of a dialog for itself: deadlines, pings, the transaction in progress.

use smallvec::SmallVec;
use tandem_clock::{MS, Now, SEC};
use tandem_tm::TxRef;

use crate::record::{Dialog, Side};

/// An ended dialog is known for so long, so that what is repeated of it is recognised: 64 T1.
pub(crate) const KNOWN_S: u64 = 32;
/// An ended dialog is listed for so long at least, as long as its last transaction is kept.
pub(crate) const LISTED_S: u64 = 5;

/// Pings of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// Second of the monotonic clock; 0: none is planned.
    pub next_s: u64,
    /// One has left and is not answered.
    pub is_open: bool,
    /// The last one could not be sent.
    pub unsent: bool,
    /// Its silence means nothing: it left when its way was moving still.
    pub is_early: bool,
}

/// How the number of a request that passed was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renumbered {
    pub towards: Side,
    pub invite: bool,
    pub from: u32,
    pub to: u32,
}

/// What is kept. Times are seconds of the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// When the lifetime is over, and the absolute end that this stands for.
    pub expires_at: u64,
    pub(crate) expires_s: u32,
    /// When this node saw the answer, in milliseconds; 0: it did not.
    pub(crate) answered_at_ms: u64,
    /// When it is ended because of a race; 0: not.
    pub race_at: u64,
    /// When it has ended; 0: it lives.
    pub ended_at: u64,
    /// The transaction of the INVITE, while it is there.
    pub invite: Option<TxRef>,
    /// It rang on another node: that node, and about when it was answered if it was answered there
    /// (Unix milliseconds).
    pub(crate) rang_at: Option<(u32, u64)>,
    /// Its draft is drawn up at the end of this step, and peers have one; see `drafts.rs`.
    pub(crate) draws_up: bool,
    pub(crate) drafted: bool,
    pub pings: [Ping; 2],
    /// What is due is not dealt with before this.
    pub put_off_s: u64,
    /// The route for the end of the lifetime runs or has run for this end.
    pub asked_at_end: u32,
    pub renumbered: SmallVec<[Renumbered; 2]>,
    /// Callees and the last RSeq that was acknowledged for the caller.
    pub pracked: SmallVec<[(u8, u32); 1]>,
    /// Seconds from the end that it stays readable.
    pub keep_s: u64,
}

impl Local {
    /// Follows a change of the record: the deadline on this node's clock.
    pub(crate) fn take_over(&mut self, d: &Dialog, now: Now) {
        if self.expires_s != d.expires_s || self.expires_at == 0 {
            self.expires_s = d.expires_s;
            let left = u64::from(d.expires_s).saturating_sub(now.unix_s());
            self.expires_at = (now.mono_ns.div_ceil(SEC)).saturating_add(left).max(1);
        }
        if let Some(seconds) = d.delete_delay_s {
            self.keep_s = u64::from(seconds);
        }
        if d.state.is_alive() {
            self.ended_at = 0;
        } else if self.ended_at == 0 {
            self.ended_at = (now.mono_ns / SEC).max(1);
            self.pings = [Ping::default(); 2];
            (self.race_at, self.renumbered) = (0, SmallVec::new());
        }
    }

    /// How long the call has been answered, whatever the wall clock did meanwhile; `None`: the
    /// answer was not seen here when it came.
    pub(crate) fn talked_ms(&self, now: Now) -> Option<u64> {
        (self.answered_at_ms != 0).then(|| (now.mono_ns / MS).saturating_sub(self.answered_at_ms))
    }

    /// When something has to be done next; 0: never.
    pub(crate) fn next_due_s(&self, d: &Dialog) -> u64 {
        if !d.state.is_alive() {
            return (self.ended_at + self.keep_s.max(KNOWN_S)).max(self.put_off_s);
        }
        let pings = self.pings.iter().map(|ping| ping.next_s);
        let all = pings.chain([self.expires_at, self.race_at]);
        let first = all.filter(|at| *at != 0).min().unwrap_or(0);
        if first == 0 { 0 } else { first.max(self.put_off_s) }
    }

    /// Whether an ended dialog is still shown.
    pub(crate) fn is_listed(&self, now: Now) -> bool {
        self.ended_at == 0 || now.mono_ns / SEC < self.ended_at + self.keep_s.max(LISTED_S)
    }
}
