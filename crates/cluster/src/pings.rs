//! Which PING a PONG answers, as far as it matters: has the peer read what was said before one?
//!
//! A PONG bears no number, and after a separation those that answer old PINGs come in one burst
//! with those that answer new ones. So they are counted. Where `n` PINGs are unanswered, `n + 1`
//! PINGs follow what has to be read; `n + 1` PONGs come even if no old PING arrived, and they
//! cannot all be answers to old ones.

use crate::effects::ConnId;
use tandem_clock::Mono;

/// PINGs whose answers are waited for: more are sent at once to nobody. With one each second that
/// is a silence of four minutes; older ones will hardly be answered any more.
const UNANSWERED_MAX: u32 = 255;

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
        self.unanswered = self.unanswered.saturating_add(count).min(UNANSWERED_MAX);
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
        // Fewer would leave it open if the old ones were lost, and with it whose a tag is.
        let left = self.unanswered.saturating_add(waiting).min(UNANSWERED_MAX) + 1;
        self.question = Some(Question { asked_at: now, left, on: None, is_mixed: false });
        left
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
    fn many_that_got_lost_are_made_up_for_as_well() {
        for lost in [16, 40, 255, 10_000] {
            let mut pings = Pings::default();
            (0..lost).for_each(|_| pings.written(1));
            let behind = pings.ask(1, 3);
            assert!(behind > lost.min(UNANSWERED_MAX) && behind <= UNANSWERED_MAX + 1);
            pings.written(behind);
            let read = (0..behind).position(|_| pings.answered(FIRST).is_some());
            assert_eq!(read, Some(behind as usize - 1), "{lost} were lost");
        }
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
