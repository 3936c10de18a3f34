//! The time zone of the host. Scripts, tables and listings mean its clock where they name no other;
//! a node that was told none goes by UTC.

use jiff::tz::TimeZone;
use parking_lot::RwLock;

use crate::module::Cx;

/// The zone of a node.
#[derive(Debug, Default)]
pub struct Zone {
    zone: RwLock<Option<TimeZone>>,
}

/// A moment, and what the clock of the node shows then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub unix_s: u64,
    /// Seconds since 1970-01-01 00:00 of that clock.
    pub wall_s: u64,
}

impl From<u64> for Moment {
    /// Where the clock shows UTC.
    fn from(unix_s: u64) -> Self {
        Self { unix_s, wall_s: unix_s }
    }
}

impl Zone {
    /// Takes a zone by its name (`Europe/Berlin`) or by its rule (`CET-1CEST,M3.5.0,M10.5.0/3`).
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub fn set(&self, name: &str) -> Result<(), String> {
        let name = name.trim_start_matches(':');
        let found = TimeZone::get(name).or_else(|_| TimeZone::posix(name));
        let zone = found.map_err(|_| format!("the time zone `{name}` is not known"))?;
        *self.zone.write() = Some(zone);
        Ok(())
    }

    /// What the clock shows at a time in Unix seconds.
    pub fn wall_s(&self, unix_s: u64) -> u64 {
        self.zone.read().as_ref().map_or(unix_s, |zone| shown(zone, unix_s))
    }

    /// The time in Unix seconds at which the clock shows this. Of an hour that comes twice it is the
    /// first one.
    pub fn unix_s(&self, wall_s: u64) -> u64 {
        self.zone.read().as_ref().map_or(wall_s, |zone| when_shown(zone, wall_s))
    }

    pub fn moment(&self, unix_s: u64) -> Moment {
        Moment { unix_s, wall_s: self.wall_s(unix_s) }
    }
}

impl Cx<'_> {
    /// What the clock of the host shows, in seconds since its 1970-01-01 00:00.
    pub fn wall_s(&self) -> u64 {
        self.node.zone.wall_s(self.now.unix_s())
    }

    /// The present time, as the clock of the host shows it too.
    pub fn moment(&self) -> Moment {
        self.node.zone.moment(self.now.unix_s())
    }
}

/// What a clock in a zone shows.
pub fn shown(zone: &TimeZone, unix_s: u64) -> u64 {
    let at = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let offset_s = at.map_or(0, |at| i64::from(zone.to_offset(at).seconds()));
    unix_s.saturating_add_signed(offset_s)
}

fn when_shown(zone: &TimeZone, wall_s: u64) -> u64 {
    let shown = i64::try_from(wall_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let Some(shown) = shown else { return wall_s };
    let shown = jiff::tz::Offset::UTC.to_datetime(shown);
    let at = zone.to_ambiguous_timestamp(shown).compatible().ok();
    at.map_or(wall_s, |at| u64::try_from(at.as_second()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clock_shows_is_a_time_again() {
        let zone = Zone::default();
        assert_eq!(zone.unix_s(1_767_614_400), 1_767_614_400);
        zone.set("Europe/Berlin").unwrap();
        for unix_s in [1_767_614_400, 1_784_548_800] {
            assert_eq!(zone.unix_s(zone.wall_s(unix_s)), unix_s);
        }
        // 2026-10-25: 02:30 comes twice. 2026-03-29: 02:30 does not come.
        assert_eq!(zone.unix_s(1_792_895_400), 1_792_888_200);
        assert_eq!(zone.unix_s(1_774_751_400), 1_774_747_800);
        assert_eq!(zone.unix_s(5), 0, "before 1970 there is no time");
    }

    #[test]
    fn a_zone_has_a_name_or_a_rule() {
        let zone = Zone::default();
        assert_eq!(zone.moment(1_767_614_400), Moment::from(1_767_614_400));
        for name in ["Europe/Berlin", ":Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"] {
            zone.set(name).unwrap();
            assert_eq!(zone.wall_s(1_767_614_400), 1_767_618_000, "{name} in winter");
            assert_eq!(zone.wall_s(1_784_548_800), 1_784_556_000, "{name} in summer");
        }
        assert!(zone.set("Mars/Base").unwrap_err().contains("Mars/Base"));
        zone.set("UTC").unwrap();
        assert_eq!(zone.wall_s(5), 5);
    }
}
