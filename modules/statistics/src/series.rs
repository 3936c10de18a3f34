//! Values over a sliding window of time.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_clock::{Now, SEC};

/// Series in total.
const SERIES_MAX: usize = 10_000;
/// The longest window, in seconds.
const WINDOW_S_MAX: u64 = 86_400;
/// Parts of a window at most.
const SLOTS_MAX: u64 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    /// The sum of the values in the window.
    Accumulate,
    /// Their average.
    Average,
    /// The share of what was added as a positive value in all that was added.
    Percentage,
}

/// How the series of one kind are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    name: String,
    algorithm: Algorithm,
    group: String,
    window_s: u64,
    /// Parts of the window; a part is forgotten as a whole.
    slots: u64,
    factor: i64,
}

impl Profile {
    /// Reads `name: algorithm=average window=60 slots=6 group=g percentage_factor=100`.
    pub(crate) fn parse(text: &str, groups: &[String]) -> Result<Self, String> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim();
        if name.is_empty() {
            return Err("a profile needs a name: `name: option=value ...`".to_owned());
        }
        let mut profile = Self {
            name: name.to_owned(),
            algorithm: Algorithm::Accumulate,
            group: crate::DYNAMIC.to_owned(),
            window_s: 60,
            slots: 0,
            factor: 100,
        };
        for option in options.split([' ', '\t', '\n', ';']).filter(|o| !o.is_empty()) {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| format!("`{option}` is not written option=value"))?;
            profile.option(key, value, groups)?;
        }
        if profile.slots == 0 {
            profile.slots = profile.window_s.min(SLOTS_MAX);
        }
        Ok(profile)
    }

    fn option(&mut self, key: &str, value: &str, groups: &[String]) -> Result<(), String> {
        let number = |max: u64| {
            let n = value.parse().ok().filter(|n| (1..=max).contains(n));
            n.ok_or_else(|| format!("{key} goes from 1 to {max}"))
        };
        match key {
            "algorithm" => {
                self.algorithm = match value {
                    "accumulate" => Algorithm::Accumulate,
                    "average" => Algorithm::Average,
                    "percentage" => Algorithm::Percentage,
                    _ => return Err("the algorithms are accumulate, average, percentage".into()),
                }
            }
            "window" => self.window_s = number(WINDOW_S_MAX)?,
            "slots" => self.slots = number(SLOTS_MAX)?,
            "percentage_factor" => self.factor = number(1_000_000_000)? as i64,
            // The size of a table has no meaning here.
            "hash_size" => drop(number(u64::from(u32::MAX))?),
            "group" if value == crate::DYNAMIC || groups.iter().any(|g| g == value) => {
                self.group = value.to_owned();
            }
            "group" => return Err(format!("declare the group `{value}` in stat_groups")),
            _ => return Err(format!("a profile has no option `{key}`")),
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which part of time this is.
    number: u64,
    sum: i64,
    count: i64,
    /// Sum of the absolute values.
    total: i64,
}

#[derive(Debug, Default)]
struct Series {
    slots: Vec<Slot>,
}

/// The series of a node.
pub(crate) struct AllSeries {
    profiles: Vec<Profile>,
    /// By profile and name.
    all: Mutex<BTreeMap<(usize, String), Series>>,
}

impl AllSeries {
    pub(crate) fn new(profiles: Vec<Profile>) -> Self {
        Self { profiles, all: Mutex::default() }
    }

    /// Feeds a value to a series, which is made if need be.
    pub(crate) fn add(&self, now: Now, profile: &str, name: &str, n: i64) -> Result<(), String> {
        let at = self.profiles.iter().position(|p| p.name == profile);
        let at = at.ok_or_else(|| format!("there is no stat_series_profile `{profile}`"))?;
        let Some(kind) = self.profiles.get(at) else { return Ok(()) };
        let mut all = self.all.lock();
        let full = all.len() >= SERIES_MAX;
        let key = (at, name.to_owned());
        if full && !all.contains_key(&key) {
            return Err(format!("there are {SERIES_MAX} series already"));
        }
        let series = all.entry(key).or_default();
        let number = slot_number(kind, now);
        series.forget(kind, number);
        match series.slots.last_mut().filter(|s| s.number == number) {
            Some(slot) => slot.take(n),
            None => {
                let mut slot = Slot { number, ..Slot::default() };
                slot.take(n);
                series.slots.push(slot);
            }
        }
        Ok(())
    }

    /// Every series as `group:name`, with its value now.
    pub(crate) fn all(&self, now: Now) -> Vec<(String, u64)> {
        let mut all = self.all.lock();
        let mut values = Vec::with_capacity(all.len());
        for ((at, name), series) in all.iter_mut() {
            let Some(profile) = self.profiles.get(*at) else { continue };
            series.forget(profile, slot_number(profile, now));
            let full = match name.contains(':') {
                true => name.clone(),
                false => format!("{}:{name}", profile.group),
            };
            values.push((full, series.value(profile) as u64));
        }
        values
    }

    /// The value of one series, by `name` or `group:name`.
    pub(crate) fn get(&self, now: Now, name: &str) -> Option<i64> {
        if self.profiles.is_empty() {
            return None;
        }
        let all = self.all(now);
        let is = |full: &str| full == name || full.split_once(':').is_some_and(|(_, n)| n == name);
        all.into_iter().find(|(full, _)| is(full)).map(|(_, value)| value as i64)
    }
}

fn slot_number(profile: &Profile, now: Now) -> u64 {
    let slot_ns = (profile.window_s * SEC / profile.slots).max(1);
    now.mono_ns / slot_ns
}

impl Slot {
    fn take(&mut self, n: i64) {
        self.sum = self.sum.saturating_add(n);
        self.count += 1;
        self.total = self.total.saturating_add(n.saturating_abs());
    }
}

impl Series {
    /// Drops what lies before the window.
    fn forget(&mut self, profile: &Profile, number: u64) {
        self.slots.retain(|s| s.number + profile.slots > number);
    }

    fn value(&self, profile: &Profile) -> i64 {
        let sum = |of: fn(&Slot) -> i64| self.slots.iter().map(of).fold(0i64, i64::saturating_add);
        let (total, count) = (sum(|s| s.total), sum(|s| s.count));
        match profile.algorithm {
            Algorithm::Accumulate => sum(|s| s.sum),
            Algorithm::Average if count != 0 => sum(|s| s.sum) / count,
            Algorithm::Percentage if total != 0 => {
                // What was positive is half of the sum of values and absolute values.
                let part = (i128::from(sum(|s| s.sum)) + i128::from(total)) / 2;
                (part * i128::from(profile.factor) / i128::from(total)) as i64
            }
            Algorithm::Average | Algorithm::Percentage => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Now {
        Now { mono_ns: s * SEC, unix_ms: 0 }
    }

    #[test]
    fn a_window_slides() {
        let profile = Profile::parse("sum: window=10 slots=5", &[]).unwrap();
        let series = AllSeries::new(vec![profile]);
        series.add(at(100), "sum", "x", 4).unwrap();
        series.add(at(105), "sum", "x", 3).unwrap();
        assert_eq!(series.get(at(108), "x"), Some(7));
        assert_eq!(series.get(at(110), "dynamic:x"), Some(3));
        assert_eq!(series.get(at(120), "x"), Some(0));
        assert!(series.add(at(1), "other", "x", 1).is_err());
    }

    #[test]
    fn averages_and_percentages() {
        let groups = ["g".to_owned()];
        let average = Profile::parse("avg: algorithm=average group=g", &groups).unwrap();
        let share = "asr: algorithm=percentage percentage_factor=1000 hash_size=8";
        let series = AllSeries::new(vec![average, Profile::parse(share, &groups).unwrap()]);
        for n in [1, 2, 6] {
            series.add(at(1), "avg", "a", n).unwrap();
        }
        for n in [1, 1, 1, -1] {
            series.add(at(1), "asr", "p", n).unwrap();
        }
        assert_eq!((series.get(at(2), "g:a"), series.get(at(2), "p")), (Some(3), Some(750)));
    }

    #[test]
    fn mistakes_in_a_profile_are_named() {
        for (text, why) in [
            (":", "name"),
            ("p: window", "option=value"),
            ("p: window=0", "1 to 86400"),
            ("p: algorithm=median", "accumulate"),
            ("p: group=x", "stat_groups"),
            ("p: colour=red", "colour"),
        ] {
            let error = Profile::parse(text, &[]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
