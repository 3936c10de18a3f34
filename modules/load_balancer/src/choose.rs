//! Which destination has the most room.

/// How it is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// `n`: also where there is no room left.
    pub(crate) negative: bool,
    /// `r`: by the share that is free, not by the number.
    pub(crate) relative: bool,
    /// `s`: by chance among equals, not the first one.
    pub(crate) random: bool,
}

impl Flags {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != ',') {
            let flag = match letter {
                'n' => &mut flags.negative,
                'r' => &mut flags.relative,
                's' => &mut flags.random,
                _ => return Err(format!("`{letter}` is none of the flags n, r and s")),
            };
            *flag = true;
        }
        Ok(flags)
    }

    /// Judges literal flags.
    pub(crate) fn check(text: &str) -> Result<(), String> {
        Self::parse(text).map(|_| ())
    }

    pub(crate) fn bits(self) -> u8 {
        u8::from(self.negative) | u8::from(self.relative) << 1 | u8::from(self.random) << 2
    }

    pub(crate) fn of_bits(bits: u8) -> Self {
        Self { negative: bits & 1 != 0, relative: bits & 2 != 0, random: bits & 4 != 0 }
    }
}

/// What is free of a resource: calls, or with `r` percents of its size.
pub(crate) fn free(max: u32, load: usize, flags: Flags) -> i64 {
    let (max, load) = (i64::from(max), i64::try_from(load).unwrap_or(i64::MAX));
    match flags.relative {
        false => max.saturating_sub(load),
        true if max == 0 => {
            if load == 0 {
                0
            } else {
                -100
            }
        }
        true => 100i64.saturating_sub(load.saturating_mul(100) / max),
    }
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum None {
    /// All have as much as they can bear.
    Full,
    /// There is no candidate.
    NoDestination,
}

/// Chooses among destinations, of each of which its scarcest resource has so much free; `chance`
/// is a number by chance.
pub(crate) fn choose(free: &[i64], flags: Flags, chance: u64) -> Result<usize, None> {
    if free.is_empty() {
        return Err(None::NoDestination);
    }
    let usable = free.iter().filter(|free| flags.negative || **free > 0);
    let best = usable.max().copied().ok_or(None::Full)?;
    let equals: Vec<usize> =
        free.iter().enumerate().filter(|(_, free)| **free == best).map(|(at, _)| at).collect();
    let which = if flags.random { (chance % equals.len().max(1) as u64) as usize } else { 0 };
    equals.get(which).copied().ok_or(None::NoDestination)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Flags = Flags { negative: false, relative: false, random: false };

    #[test]
    fn flags_are_letters_and_survive_as_bits() {
        let all = Flags::parse("n,r s").unwrap();
        assert!(all.negative && all.relative && all.random);
        for bits in 0..8 {
            assert_eq!(Flags::of_bits(bits).bits(), bits);
        }
        assert!(Flags::parse("x").is_err());
    }

    #[test]
    fn the_one_with_the_most_room_is_chosen() {
        assert_eq!(choose(&[3, 7, 7, -1], PLAIN, 0), Ok(1), "the first among equals");
        let random = Flags { random: true, ..PLAIN };
        assert_eq!(choose(&[3, 7, 7], random, 1), Ok(2));
        assert_eq!(choose(&[0, -4], PLAIN, 0), Err(None::Full));
        assert_eq!(choose(&[-4, 0], Flags { negative: true, ..PLAIN }, 0), Ok(1));
        assert_eq!(choose(&[], PLAIN, 0), Err(None::NoDestination));
    }

    #[test]
    fn room_is_counted_or_is_a_share() {
        let relative = Flags { relative: true, ..PLAIN };
        assert_eq!((free(10, 4, PLAIN), free(10, 12, PLAIN)), (6, -2));
        assert_eq!((free(10, 4, relative), free(200, 50, relative)), (60, 75));
        assert_eq!((free(0, 0, relative), free(0, 1, relative)), (0, -100));
    }
}
