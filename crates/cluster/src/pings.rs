//! Which PING a PONG answers, as far as it matters: has the peer read what was said before one?
//!
//! A PONG bears no number, and after a separation those that answer old PINGs come in one burst
//! with those that answer new ones. So they are counted. Where `n` PINGs are unanswered, `n + 1`
//! PINGs follow what has to be read; `n + 1` PONGs come even if no old PING arrived, and they
//! cannot all be answers to old ones.

use crate::effects::ConnId;
use tandem_clock::Mono;

/// PINGs that are sent at once. A node that was silent for longer answers too late anyway.
const AT_ONCE_MAX: u32 = 16;

#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// Written to some connection; the answer may still come.
    unanswered: u32,
    question: Option<Question>,
}

/// Whether what was said has been read.
#[derive(Clone, Copy, Debug)]
struct Question {
    asked_at: Mono,
    /// PONGs until it certainly has.
    left: u32,
    /// The connection of all of them so far.
    on: Option<ConnId>,
    is_mixed: bool,
}

impl Pings {
    /// PINGs have been written to a connection.
    pub(crate) fn written(&mut self, count: u32) {
        self.unanswered = self.unanswered.saturating_add(count);
    }

    /// The last one was answered in time, and there was none since: nothing else will come.
    pub(crate) fn are_over(&mut self) {
        self.unanswered = 0;
    }

    /// Asks whether what has been said up to now was read: how many PINGs have to follow it.
    /// `waiting` are those of a connection that is being opened.
    pub(crate) fn ask(&mut self, now: Mono, waiting: u32) -> u32 {
        if self.question.is_some_and(|question| question.asked_at == now) {
            return 0;
        }
        let left = self.unanswered.saturating_add(waiting).saturating_add(1);
        self.question = Some(Question { asked_at: now, left, on: None, is_mixed: false });
        left.min(AT_ONCE_MAX)
    }

    /// A PONG came. If it shows that what the last question was about has been read: the
    /// connection on which nothing older can come, if there is one.
    pub(crate) fn answered(&mut self, on: ConnId) -> Option<Option<ConnId>> {
        self.unanswered = self.unanswered.saturating_sub(1);
        let question = self.question.as_mut()?;
        question.left = question.left.saturating_sub(1);
        question.is_mixed |= question.on.is_some_and(|first| first != on);
        question.on = Some(on);
        if question.left > 0 {
            return None;
        }
        let read_on = question.on.filter(|_| !question.is_mixed);
        self.question = None;
        Some(read_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ConnId = ConnId::Accepted(1);
    const OTHER: ConnId = ConnId::Accepted(2);

    #[test]
    fn an_answer_to_an_older_ping_is_none() {
        let mut pings = Pings::default();
        pings.written(2);
        assert_eq!(pings.answered(FIRST), None);
        let behind = pings.ask(1, 0);
        assert_eq!(behind, 2);
        pings.written(behind);
        assert_eq!(pings.answered(FIRST), None, "of the old one");
        assert_eq!(pings.answered(FIRST), Some(Some(FIRST)));
        assert_eq!(pings.answered(FIRST), None);
    }

    #[test]
    fn a_ping_that_got_lost_is_made_up_for() {
        let mut pings = Pings::default();
        pings.written(3);
        let behind = pings.ask(1, 0);
        pings.written(behind);
        let read: Vec<_> = (0..behind).map(|_| pings.answered(FIRST).is_some()).collect();
        assert_eq!(read, [false, false, false, true]);
        pings.are_over();
        assert_eq!(pings.ask(2, 0), 1);
    }

    #[test]
    fn one_step_asks_once_and_several_connections_show_no_order() {
        let mut pings = Pings::default();
        assert_eq!((pings.ask(1, 1), pings.ask(1, 1)), (2, 0));
        pings.written(3);
        assert_eq!(pings.answered(FIRST), None);
        assert_eq!(pings.answered(OTHER), Some(None));
    }
}
