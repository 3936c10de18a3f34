//! What is remembered of a gateway in a rule: for each statistic a sum and a number of samples, in
//! windows of time that are forgotten one by one.

use std::collections::VecDeque;

/// The statistics that are always kept; extra ones follow behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stat {
    /// Answered calls of all.
    Asr,
    /// Calls that the gateway has dealt with (no 5xx, 6xx or silence) of all.
    Ccr,
    /// Milliseconds until it rings.
    Pdd,
    /// Milliseconds until the answer.
    Ast,
    /// Seconds from the answer to the end.
    Acd,
}

impl Stat {
    pub(crate) const ALL: [Self; 5] = [Self::Asr, Self::Ccr, Self::Pdd, Self::Ast, Self::Acd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asr => "asr",
            Self::Ccr => "ccr",
            Self::Pdd => "pdd",
            Self::Ast => "ast",
            Self::Acd => "acd",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn is_good(self) -> bool {
        !matches!(self, Self::Pdd | Self::Ast)
    }
}

/// A sum of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) sum: f64,
    pub(crate) samples: f64,
}

impl Tally {
    /// The mean; `None`: there are no samples.
    pub(crate) fn mean(self) -> Option<f64> {
        (self.samples > 0.0).then(|| self.sum / self.samples)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.samples += other.samples;
    }

    fn take(&mut self, other: Self) {
        self.sum -= other.sum;
        self.samples -= other.samples;
    }
}

/// How long samples are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) window_s: u64,
    pub(crate) windows: u64,
}

/// The windows of one gateway; those without samples take no place.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    windows: VecDeque<(u64, Box<[Tally]>)>,
    totals: Vec<Tally>,
}

impl History {
    /// Adds samples to a statistic, by its place among `stats` of them.
    pub(crate) fn add(&mut self, span: Span, now_s: u64, stats: usize, at: usize, tally: Tally) {
        self.forget(span, now_s);
        if at >= stats {
            return;
        }
        let window = now_s / span.window_s.max(1);
        if self.windows.back().is_none_or(|(last, _)| *last != window) {
            self.windows.push_back((window, vec![Tally::default(); stats].into()));
        }
        self.totals.resize(stats, Tally::default());
        let last = self.windows.back_mut().and_then(|(_, tallies)| tallies.get_mut(at));
        for place in last.into_iter().chain(self.totals.get_mut(at)) {
            place.add(tally);
        }
    }

    /// The samples of a statistic over the span.
    pub(crate) fn total(&mut self, span: Span, now_s: u64, at: usize) -> Tally {
        self.forget(span, now_s);
        self.totals.get(at).copied().unwrap_or_default()
    }

    fn forget(&mut self, span: Span, now_s: u64) {
        let first = (now_s / span.window_s.max(1)).saturating_sub(span.windows.saturating_sub(1));
        while let Some((_, old)) = self.windows.pop_front_if(|(window, _)| *window < first) {
            for (total, old) in self.totals.iter_mut().zip(&old) {
                total.take(*old);
            }
        }
        if self.windows.is_empty() {
            // Nothing is left of what rounding has left.
            self.totals.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Span = Span { window_s: 5, windows: 4 };

    fn one(sum: f64) -> Tally {
        Tally { sum, samples: 1.0 }
    }

    #[test]
    fn samples_are_forgotten_window_by_window() {
        let mut history = History::default();
        history.add(SPAN, 100, 5, Stat::Pdd as usize, one(200.0));
        history.add(SPAN, 104, 5, Stat::Pdd as usize, one(400.0));
        history.add(SPAN, 111, 5, Stat::Pdd as usize, one(900.0));
        assert_eq!(history.total(SPAN, 111, Stat::Pdd as usize).mean(), Some(500.0));
        assert_eq!(history.total(SPAN, 119, Stat::Pdd as usize).samples, 3.0);
        assert_eq!(history.total(SPAN, 120, Stat::Pdd as usize).mean(), Some(900.0));
        assert_eq!(history.total(SPAN, 131, Stat::Pdd as usize).mean(), None);
        assert_eq!(history.windows.len(), 0);
        assert_eq!(history.total(SPAN, 111, Stat::Asr as usize).mean(), None);
    }

    proptest! {
        #[test]
        fn totals_are_the_sums_of_what_is_left(
            samples in proptest::collection::vec((0u64..9, 0u32..100), 1..80)
        ) {
            let (mut history, mut now, mut all) = (History::default(), 0, Vec::new());
            for (later, sum) in samples {
                now += later;
                history.add(SPAN, now, 6, 5, one(f64::from(sum)));
                all.push((now / 5, f64::from(sum)));
            }
            let left = all.iter().filter(|(window, _)| window + 4 > now / 5);
            let (sum, samples) = left.fold((0.0, 0.0), |(s, n), (_, one)| (s + one, n + 1.0));
            prop_assert_eq!(history.total(SPAN, now, 5), Tally { sum, samples });
        }
    }
}
