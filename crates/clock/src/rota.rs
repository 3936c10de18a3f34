//! Things that each want a turn once in a round, spread evenly over it.

use crate::{MS, Mono};

/// Members of type `T` in the slots of a round. Who joins gets the slot that is filled least, so
/// that all slots have about the same to do, whatever came before.
///
/// Of several such slots it is one far from those given out before: few members do not gather at
/// the start of the round. Joining costs the logarithm of the number of slots, leaving a look
/// through one slot; nothing costs a walk over all members.
#[derive(Debug)]
pub struct Rota<T> {
    slots: Vec<Slot<T>>,
    /// A tournament: the root is the least load of all, the leaves those of single slots in the
    /// order in which they are preferred.
    tree: Vec<Load>,
    leaves: usize,
    /// By slot: its leaf.
    leaf_of: Vec<u32>,
    /// By leaf: its slot.
    slot_of: Vec<u32>,
    len: usize,
    served: u64,
}

#[derive(Debug)]
struct Slot<T> {
    members: Vec<T>,
    load: Load,
}

/// What a slot has to do: turns that are really taken first, then members of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    served: u32,
    members: u32,
}

impl Load {
    const NONE: Self = Self { served: 0, members: 0 };
    const MOST: Self = Self { served: u32::MAX, members: u32::MAX };
}

/// Slots of a round, at most.
pub const SLOTS_MAX: usize = 1 << 15;

impl<T: PartialEq + Copy> Rota<T> {
    /// A round of so many slots (1 to [`SLOTS_MAX`]).
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        let leaves = slots.next_power_of_two();
        let step = stride(slots);
        let slot_of: Vec<u32> = (0..slots).map(|leaf| (leaf * step % slots) as u32).collect();
        let mut leaf_of = vec![0; slots];
        for (leaf, slot) in (0..).zip(&slot_of) {
            leaf_of[*slot as usize] = leaf;
        }
        let empty = |_| Slot { members: Vec::new(), load: Load::NONE };
        let mut tree = vec![Load::MOST; 2 * leaves];
        for leaf in tree.iter_mut().skip(leaves).take(slots) {
            *leaf = Load::NONE;
        }
        for at in (1..leaves).rev() {
            tree[at] = tree[2 * at].min(tree[2 * at + 1]);
        }
        let slots = (0..slots).map(empty).collect();
        Self { slots, tree, leaves, leaf_of, slot_of, len: 0, served: 0 }
    }

    /// Members in all slots.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots of a round.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The members of a slot.
    pub fn members(&self, slot: usize) -> &[T] {
        self.slots.get(slot).map_or(&[], |s| &s.members)
    }

    /// Adds a member, and gives the slot it got.
    pub fn join(&mut self, member: T) -> usize {
        let slot = self.least();
        if let Some(found) = self.slots.get_mut(slot) {
            found.members.push(member);
            let Load { served, members } = found.load;
            self.len += 1;
            self.set(slot, Load { served: served + 1, members: members + 1 });
        }
        slot
    }

    /// Takes a member out of its slot; false: it was not there.
    pub fn leave(&mut self, slot: usize, member: &T) -> bool {
        let Some(found) = self.slots.get_mut(slot) else { return false };
        let Some(at) = found.members.iter().position(|m| m == member) else { return false };
        found.members.swap_remove(at);
        // What a slot held at its fullest is not kept for ever.
        if found.members.capacity() > 16 && found.members.len() < found.members.capacity() / 4 {
            found.members.shrink_to(found.members.len() * 2);
        }
        let Load { served, members } = found.load;
        self.len -= 1;
        self.set(slot, Load { served: served.saturating_sub(1), members: members - 1 });
        true
    }

    /// A slot has had its turn, and so many of its members took it: the others count little from
    /// now on. Gives how many had better be in another slot.
    pub fn took_turn(&mut self, slot: usize, served: u32) -> u32 {
        let Some(found) = self.slots.get(slot) else { return 0 };
        let load = Load { served, members: found.load.members };
        self.set(slot, load);
        let fair = self.served.div_ceil(self.slots.len() as u64);
        u64::from(served).saturating_sub(fair) as u32
    }

    /// Moves a member that has just had its turn to the slot that is filled least, if that makes
    /// the two more equal: its next turn comes sooner than in a round, never later.
    pub fn shift(&mut self, slot: usize, member: &T) -> Option<usize> {
        let to = self.least();
        let (from, least) = (self.slots.get(slot)?.load, self.slots.get(to)?.load);
        if to == slot || least.served + 1 >= from.served || !self.leave(slot, member) {
            return None;
        }
        Some(self.join(*member))
    }

    /// The slot with the least to do.
    fn least(&self) -> usize {
        let mut at = 1;
        while at < self.leaves {
            at = if self.tree[2 * at] <= self.tree[2 * at + 1] { 2 * at } else { 2 * at + 1 };
        }
        self.slot_of.get(at - self.leaves).map_or(0, |slot| *slot as usize)
    }

    fn set(&mut self, slot: usize, load: Load) {
        let Some(found) = self.slots.get_mut(slot) else { return };
        self.served = self.served + u64::from(load.served) - u64::from(found.load.served);
        found.load = load;
        let mut at = self.leaves + self.leaf_of[slot] as usize;
        self.tree[at] = load;
        while at > 1 {
            at /= 2;
            let least = self.tree[2 * at].min(self.tree[2 * at + 1]);
            if self.tree[at] == least {
                return;
            }
            self.tree[at] = least;
        }
    }
}

/// A step through the slots that meets each once and lands far from where it was: the golden
/// section of the round, made coprime to it.
fn stride(slots: usize) -> usize {
    let golden = (slots as f64 * 0.618_034) as usize;
    let coprime = |step: &usize| gcd(*step, slots) == 1;
    (golden.max(1)..=slots).find(coprime).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Which slots have their turn. The beat is that of the monotonic clock itself: a late step makes
/// the next ones hardly later, and what a pause of the process left over is caught up with little
/// by little, never at once.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    slots: u64,
    slot_ns: u64,
    /// The next slot, counted from the beginning of time.
    next: u64,
    /// No slot is taken before: they keep a distance, also when they are late.
    not_before: Mono,
}

/// How long a slot is. Waking up costs more than several turns, so slots are long; but any 100 ms
/// have three of them at the most, which is 1.08 times the mean.
const SLOT_NS: u64 = 36 * MS;
/// Between two slots of that length at least: so much shorter that what is overdue is caught up,
/// so long that the fourth is 100 ms after the first.
const DISTANCE_NS: u64 = 33_400_000;
/// How late a step may be without being a pause: three slots less this are 100 ms.
const LATE_NS: u64 = 8 * MS;
/// Who is so far behind catches up at twice the speed: to ping in time matters more then.
const FAR_BEHIND_NS: u64 = 500 * MS;

impl Beat {
    /// A round of `round_ns`.
    pub fn new(round_ns: u64) -> Self {
        let slots = (round_ns / SLOT_NS).clamp(1, SLOTS_MAX as u64);
        Self { slots, slot_ns: (round_ns / slots).max(1), next: 0, not_before: 0 }
    }

    /// Slots of a round.
    pub fn slots(&self) -> usize {
        self.slots as usize
    }

    /// The slot whose turn it is. One for which `is_empty` costs nothing and does not count as
    /// taken.
    pub fn due(&mut self, now: Mono, is_empty: impl Fn(usize) -> bool) -> Option<usize> {
        let end = now / self.slot_ns + 1;
        // A turn that was missed by a whole round is the next one.
        self.next = self.next.max(end.saturating_sub(self.slots)).min(end);
        if now < self.not_before {
            return None;
        }
        while self.next < end {
            let (slot, begins) = ((self.next % self.slots) as usize, self.next * self.slot_ns);
            self.next += 1;
            if !is_empty(slot) {
                self.keep_distance(now, begins);
                return Some(slot);
            }
        }
        None
    }

    /// A slot that began at `begins` is taken.
    fn keep_distance(&mut self, now: Mono, begins: Mono) {
        // A step that comes a little late, as it does on a busy host, delays no other: else nothing
        // could ever be caught up there.
        let planned = begins.max(self.not_before);
        let from = if now <= planned.saturating_add(LATE_NS) { planned } else { now };
        let is_far_behind = begins.saturating_add(FAR_BEHIND_NS) < now;
        let distance = if is_far_behind { self.slot_ns / 2 } else { self.distance_ns() };
        self.not_before = from.saturating_add(distance);
    }

    /// [`DISTANCE_NS`], or as much shorter as the slots of this round are.
    fn distance_ns(&self) -> u64 {
        self.slot_ns.saturating_mul(DISTANCE_NS).div_ceil(SLOT_NS).min(DISTANCE_NS)
    }

    /// When the next slot with members has its turn; looks no further than `ahead_ns`, since
    /// members may join meanwhile.
    pub fn next_at(&self, now: Mono, ahead_ns: u64, is_empty: impl Fn(usize) -> bool) -> Mono {
        let last = (now.saturating_add(ahead_ns) / self.slot_ns).max(self.next);
        let slots = self.next..last;
        let found = slots.clone().find(|n| !is_empty((n % self.slots) as usize));
        found.unwrap_or(last).saturating_mul(self.slot_ns).max(self.not_before)
    }

    /// What was due before now counts as done: a node that starts owes nothing.
    pub fn begin(&mut self, now: Mono) {
        self.next = now / self.slot_ns + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chance, MS, SEC};
    use proptest::prelude::*;

    /// The most in any window of `width` slots in a row, around the end as well.
    fn most(rota: &Rota<u32>, width: usize) -> usize {
        let fills: Vec<usize> = (0..rota.slots()).map(|s| rota.members(s).len()).collect();
        let window = |from: usize| (0..width).map(|n| fills[(from + n) % fills.len()]).sum();
        (0..fills.len()).map(window).max().unwrap_or(0)
    }

    #[test]
    fn a_hundred_thousand_are_even_in_every_window_whatever_came_and_went() {
        let mut rota = Rota::new(6_000);
        let mut chance = Chance::from_number(1);
        let mut all: Vec<(usize, u32)> = (0..100_000).map(|n| (rota.join(n), n)).collect();
        assert!(most(&rota, 20) <= 340, "{}", most(&rota, 20));
        // Half of them go, at random; turns put the rest where there is room.
        for _ in 0..50_000 {
            let (slot, member) = all.swap_remove(chance.below(all.len() as u32) as usize);
            assert!(rota.leave(slot, &member));
        }
        for slot in 0..rota.slots() {
            let members = rota.members(slot).to_vec();
            let surplus = rota.took_turn(slot, members.len() as u32);
            for member in members.iter().take(surplus as usize) {
                rota.shift(slot, member);
            }
        }
        assert_eq!(rota.len(), 50_000);
        let mean = 50_000.0 * 20.0 / 6_000.0;
        assert!(most(&rota, 20) as f64 <= mean * 1.1, "{} of {mean}", most(&rota, 20));
    }

    #[test]
    fn few_are_far_apart() {
        let mut rota = Rota::new(6_000);
        for n in 0..30 {
            rota.join(n);
        }
        assert!(most(&rota, 100) <= 2, "{}", most(&rota, 100));
    }

    #[test]
    fn members_that_take_no_turn_leave_room_for_those_who_do() {
        let mut rota = Rota::new(10);
        for n in 0..100u32 {
            rota.join(n);
        }
        // Only even members take their turns.
        for _ in 0..3 {
            for slot in 0..10 {
                let takes: Vec<u32> =
                    rota.members(slot).iter().copied().filter(|n| n % 2 == 0).collect();
                let surplus = rota.took_turn(slot, takes.len() as u32);
                for member in takes.iter().take(surplus as usize) {
                    rota.shift(slot, member);
                }
            }
        }
        for slot in 0..10 {
            let taking = rota.members(slot).iter().filter(|n| *n % 2 == 0).count();
            assert_eq!(taking, 5, "slot {slot}");
        }
    }

    #[test]
    fn every_slot_has_its_turn_once_in_a_round_and_overdue_ones_are_caught_up() {
        let mut beat = Beat::new(SEC);
        assert_eq!(beat.slots(), 27);
        beat.begin(10 * SEC);
        let mut turns = vec![0; 27];
        for ms in 1..=1_000 {
            beat.due(10 * SEC + ms * MS, |_| false).into_iter().for_each(|slot| turns[slot] += 1);
        }
        assert!(turns.iter().all(|n| *n == 1), "{turns:?}");
        // After a pause of 200 ms no 100 ms have more than three turns, and before a second is over
        // nothing is owed any more.
        let (late, mut taken) = (11_200, Vec::new());
        for ms in late..late + 3_000 {
            taken.extend(beat.due(ms * MS, |_| false).map(|_| ms));
        }
        assert!(taken.windows(4).all(|w| w[3] - w[0] >= 100), "{taken:?}");
        assert!((85..=86).contains(&taken.len()), "{}", taken.len());
        // On a host where each step comes late none is lost.
        let (mut beat, mut now, mut taken) = (Beat::new(SEC), 20 * SEC, 0);
        beat.begin(now);
        for n in 0..1_000 {
            now = beat.next_at(now, 250 * MS, |_| false) + (1 + n % 8) * MS;
            taken += u64::from(beat.due(now, |_| false).is_some());
        }
        let due = (now - 20 * SEC) / beat.slot_ns;
        assert!(taken.abs_diff(due) <= 2, "{taken} of {due}");
        // Whoever was not there for an hour owes one round.
        let later = 2 * 3600 * SEC;
        assert_eq!(beat.due(later, |_| true), None);
        assert!(beat.due(later + 38 * MS, |_| false).is_some());
    }

    #[test]
    fn nothing_is_woken_for_empty_slots() {
        let mut beat = Beat::new(27 * SEC);
        beat.begin(0);
        assert_eq!(beat.next_at(0, 250 * MS, |slot| slot != 5), 180 * MS);
        assert_eq!(beat.next_at(0, 250 * MS, |_| true), 216 * MS);
        assert_eq!(beat.due(180 * MS, |slot| slot != 5), Some(5));
    }

    proptest! {
        #[test]
        fn loads_and_lengths_are_those_of_the_members(
            slots in 1..40usize,
            ops in prop::collection::vec((0..4u8, 0..50u32), 0..200),
        ) {
            let mut rota = Rota::new(slots);
            let mut model: Vec<(usize, u32)> = Vec::new();
            for (n, (op, pick)) in (0u32..).zip(ops) {
                let at = (!model.is_empty()).then(|| pick as usize % model.len());
                match (op, at) {
                    (0 | 1, _) | (_, None) => model.push((rota.join(n), n)),
                    (2, Some(at)) => {
                        let (slot, member) = model.swap_remove(at);
                        prop_assert!(rota.leave(slot, &member));
                        prop_assert!(!rota.leave(slot, &member));
                    }
                    (_, Some(at)) => {
                        let (slot, member) = model[at];
                        rota.took_turn(slot, rota.members(slot).len() as u32);
                        if let Some(to) = rota.shift(slot, &member) {
                            model[at].0 = to;
                        }
                    }
                }
                prop_assert_eq!(rota.len(), model.len());
                let all: usize = (0..slots).map(|s| rota.members(s).len()).sum();
                prop_assert_eq!(all, model.len());
                prop_assert!(model.iter().all(|(s, m)| rota.members(*s).contains(m)));
                let least = (0..slots).map(|s| rota.slots[s].load).min();
                prop_assert_eq!(rota.tree[1], least.unwrap());
            }
        }
    }
}
