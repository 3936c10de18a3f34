//! What the reader leaves to the control thread. Waking that thread up costs more than a line of
//! the log, so lines gather for some milliseconds; with anything else they go at once.

use tandem_clock::MS;
use tandem_engine::effect::Effect;

/// How long a line waits for others.
const GATHER_NS: u64 = 4 * MS;
/// Lines that go without waiting any longer.
const LINES_MAX: usize = 256;

/// Effects on their way to the control thread, in order.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    effects: Vec<Effect>,
    /// When the first of them has to go; meaningless while there are none.
    due_ns: u64,
}

impl Parcel {
    pub(super) fn add(&mut self, now_ns: u64, effect: Effect) {
        if self.effects.is_empty() {
            self.due_ns = now_ns + GATHER_NS;
        }
        if !matches!(effect, Effect::Log { .. }) || self.effects.len() >= LINES_MAX {
            self.due_ns = now_ns;
        }
        self.effects.push(effect);
    }

    /// When it has to go; `None`: it is empty.
    pub(super) fn due_ns(&self) -> Option<u64> {
        (!self.effects.is_empty()).then_some(self.due_ns)
    }

    /// All of it, if it has to go now.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<Effect> {
        match self.due_ns() {
            Some(due_ns) if due_ns <= now_ns => self.take(),
            _ => Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_engine::log::Level;

    fn line() -> Effect {
        Effect::Log { level: Level::Error, text: String::new() }
    }

    #[test]
    fn lines_gather_and_go_together() {
        let mut parcel = Parcel::default();
        assert_eq!(parcel.due_ns(), None);
        parcel.add(5, line());
        parcel.add(6, line());
        assert!(parcel.take_due(GATHER_NS).is_empty());
        assert_eq!(parcel.due_ns(), Some(5 + GATHER_NS));
        assert_eq!(parcel.take_due(5 + GATHER_NS).len(), 2);
        assert_eq!(parcel.due_ns(), None);
    }

    #[test]
    fn what_is_no_line_goes_at_once_behind_the_lines_before_it() {
        let mut parcel = Parcel::default();
        parcel.add(5, line());
        parcel.add(6, Effect::Ready);
        assert!(matches!(parcel.take_due(6)[..], [Effect::Log { .. }, Effect::Ready]));
    }

    #[test]
    fn many_lines_do_not_wait() {
        let mut parcel = Parcel::default();
        (0..=LINES_MAX).for_each(|_| parcel.add(0, line()));
        assert_eq!(parcel.take_due(0).len(), LINES_MAX + 1);
    }
}
