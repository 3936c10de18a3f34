//! Gates: what was acknowledged to a phone was acknowledged by the peer first.
//!
//! What waits, a send or a word to a module, carries the replication mark of the batch it came from. It leaves when one
//! Tandem peer has applied everything up to that mark; after [`GATE_NS`], or when no peer is up
//! and in step, it goes on anyway and is counted as ungated (decisions: "Gates").

use std::collections::VecDeque;

use tandem_clock::{MS, Mono, Now};

use crate::effect::Send;

/// How long a send waits for the peer.
pub const GATE_NS: u64 = 20 * MS;

/// When the effects of a registration or call leave, relative to replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GateMode {
    /// Never wait.
    Off,
    /// After the change was handed to the connection.
    Sent,
    /// After one Tandem peer has applied the change.
    #[default]
    Acked,
}

impl GateMode {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "sent" => Some(Self::Sent),
            "acked" => Some(Self::Acked),
            _ => None,
        }
    }
}

/// What waits.
#[derive(Debug)]
pub enum Gated {
    Send(Send),
    /// A module wants to know, by its slot and a number of its own.
    Word(u64),
}

#[derive(Debug)]
struct Waiting {
    mark: u64,
    deadline: Mono,
    gated: Vec<Gated>,
}

/// Sends that wait, in the order of their marks.
#[derive(Debug, Default)]
pub struct GateTable {
    waiting: VecDeque<Waiting>,
    /// The highest mark any peer has applied.
    acked: u64,
    opened: u64,
    ungated: u64,
}

impl GateTable {
    /// Lets `gated` wait for `mark`, or gives them back when it is acknowledged already.
    pub fn wait(&mut self, now: Now, mark: u64, gated: Vec<Gated>) -> Vec<Gated> {
        if mark <= self.acked {
            self.opened += gated.len() as u64;
            return gated;
        }
        // Two workers may come here in the other order than they got their marks.
        let at = self.waiting.partition_point(|w| w.mark <= mark);
        self.waiting.insert(at, Waiting { mark, deadline: now.mono_ns + GATE_NS, gated });
        Vec::new()
    }

    /// A peer has applied everything up to `mark`.
    pub fn acknowledge(&mut self, mark: u64, mut open: impl FnMut(Gated)) {
        self.acked = self.acked.max(mark);
        while self.waiting.front().is_some_and(|w| w.mark <= mark) {
            let Some(waiting) = self.waiting.pop_front() else { return };
            self.opened += waiting.gated.len() as u64;
            waiting.gated.into_iter().for_each(&mut open);
        }
    }

    /// Opens what has waited long enough.
    pub fn expire(&mut self, now: Now, open: impl FnMut(Gated)) {
        self.give_up(open, |w| w.deadline <= now.mono_ns);
    }

    /// No peer is left that could acknowledge: nothing waits any longer.
    pub fn abandon(&mut self, open: impl FnMut(Gated)) {
        self.give_up(open, |_| true);
    }

    fn give_up(&mut self, mut open: impl FnMut(Gated), over: impl Fn(&Waiting) -> bool) {
        while self.waiting.front().is_some_and(&over) {
            let Some(waiting) = self.waiting.pop_front() else { return };
            self.ungated += waiting.gated.len() as u64;
            waiting.gated.into_iter().for_each(&mut open);
        }
    }

    /// Counts sends that left at once because there was nobody to wait for.
    pub fn count_ungated(&mut self, sends: usize) {
        self.ungated += sends as u64;
    }

    /// When the oldest of what waits has waited long enough.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|w| w.deadline)
    }

    /// Sends that left after an acknowledgement, and without one, since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.opened, self.ungated)
    }

    pub fn len(&self) -> usize {
        self.waiting.iter().map(|w| w.gated.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::SocketId;
    use bytes::Bytes;

    fn text(gated: Gated) -> Bytes {
        match gated {
            Gated::Send(send) => send.payload,
            Gated::Word(_) => panic!("a word"),
        }
    }

    fn send(text: &'static str) -> Gated {
        let to = "127.0.0.1:5060".parse().unwrap();
        let payload = Bytes::from_static(text.as_bytes());
        Gated::Send(Send { socket: SocketId(0), to, payload, ticket: 0 })
    }

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * MS, unix_ms: ms }
    }

    #[test]
    fn a_send_leaves_when_its_mark_is_acknowledged_and_not_before() {
        let mut gates = GateTable::default();
        assert!(gates.wait(at(0), 2, vec![send("b")]).is_empty());
        assert!(gates.wait(at(0), 1, vec![send("a")]).is_empty());
        let mut left = Vec::new();
        gates.acknowledge(1, |s| left.push(text(s)));
        assert_eq!(left, ["a"]);
        gates.acknowledge(2, |s| left.push(text(s)));
        assert_eq!(left, ["a", "b"]);
        assert_eq!(gates.totals(), (2, 0));
    }

    #[test]
    fn a_gate_gives_up_after_20_ms_and_counts_it() {
        let mut gates = GateTable::default();
        gates.wait(at(0), 1, vec![send("a")]);
        let mut left = 0;
        gates.expire(at(19), |_| left += 1);
        assert_eq!(left, 0);
        gates.expire(at(20), |_| left += 1);
        assert_eq!((left, gates.totals()), (1, (0, 1)));
    }

    #[test]
    fn nobody_waits_for_a_mark_that_was_acknowledged_before() {
        let mut gates = GateTable::default();
        gates.acknowledge(7, |_| {});
        assert_eq!(gates.wait(at(0), 7, vec![send("a")]).len(), 1);
    }
}
