//! Who can reach whom, and what becomes of a datagram.

use tandem_clock::{Chance, MS, Mono};

use crate::options::{Dice, Options};

/// Directions in which nothing passes between two nodes. Phones reach every node.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// From, to, number of the cut.
    cuts: Vec<(u32, u32, u64)>,
    next: u64,
}

impl Network {
    /// Stops what goes from one node to another; the cut's number.
    pub(crate) fn cut(&mut self, from: u32, to: u32) -> u64 {
        self.next += 1;
        self.cuts.retain(|(a, b, _)| (*a, *b) != (from, to));
        self.cuts.push((from, to, self.next));
        self.next
    }

    pub(crate) fn heal(&mut self, a: u32, b: u32) {
        self.cuts.retain(|(x, y, _)| (*x, *y) != (a, b) && (*x, *y) != (b, a));
    }

    pub(crate) fn heal_all(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn is_cut(&self, from: u32, to: u32) -> bool {
        self.cuts.iter().any(|(a, b, _)| (*a, *b) == (from, to))
    }

    /// Whether a stream between the two makes progress in neither direction: it needs both.
    pub(crate) fn is_stuck(&self, a: u32, b: u32) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a)
    }

    /// Whether this very cut still lasts.
    pub(crate) fn lasts(&self, cut: u64) -> bool {
        self.cuts.iter().any(|(_, _, n)| *n == cut)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }
}

/// How long each copy of a datagram takes; empty when it is lost.
pub(crate) fn fate(options: &Options, dice: &mut Chance) -> Vec<Mono> {
    let lost = dice.happens(options.udp_loss);
    let copies = 1 + usize::from(dice.happens(options.udp_duplicate));
    let mut delays = Vec::with_capacity(copies);
    for _ in 0..copies {
        let usual = dice.between(MS / 2, 5 * MS);
        let late = dice.between(0, u64::from(options.udp_late_ms_max) * MS);
        delays.push(usual + if dice.happens(options.udp_late) { late } else { 0 });
    }
    if lost {
        delays.clear();
    }
    delays
}

/// How long a segment of a BIN stream takes.
pub(crate) fn segment_delay(options: &Options, dice: &mut Chance) -> Mono {
    let usual = dice.between(MS / 10, MS);
    let late = dice.between(0, u64::from(options.bin_late_ms_max) * MS);
    usual + if dice.happens(options.bin_late) { late } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_stops_one_direction_and_every_stream() {
        let mut net = Network::default();
        let cut = net.cut(1, 2);
        assert!(net.is_cut(1, 2) && !net.is_cut(2, 1));
        assert!(net.is_stuck(1, 2) && net.is_stuck(2, 1) && !net.is_stuck(1, 3));
        net.heal(2, 1);
        assert!(!net.lasts(cut) && net.is_whole());
    }

    #[test]
    fn a_calm_network_loses_nothing_and_a_hostile_one_loses_duplicates_and_delays() {
        let mut dice = Chance::from_number(1);
        let calm: Vec<_> = (0..500).map(|_| fate(&Options::calm(), &mut dice)).collect();
        assert!(calm.iter().all(|d| d.len() == 1));
        let hostile: Vec<_> = (0..2000).map(|_| fate(&Options::hostile(), &mut dice)).collect();
        assert!(hostile.iter().any(Vec::is_empty));
        assert!(hostile.iter().any(|d| d.len() == 2));
        assert!(hostile.iter().flatten().any(|d| *d > 100 * MS));
    }
}
