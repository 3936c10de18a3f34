//! Time recurrences: whether a time lies within repeated periods (after RFC 2445 4.8.5.4).
//!
//! `dtstart|dtend|duration|freq|until|interval|byday|bymonthday|byyearday|byweekno|bymonth`,
//! empty parts at will; a time zone by its name (`Europe/Berlin`) may stand in front, in which the
//! times are then meant; else they are those of the host's clock.

use tandem_engine::date::{self, Fields};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_engine::zone::{Moment, shown};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::{FAILED, OK};

const DAY_S: u64 = 86_400;
/// Values of one list.
const LIST_MAX: usize = 400;

const RECURRENCE: &[ArgSig] = &[arg("rec", ArgKind::Str), optional("timestamp", ArgKind::Int)];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[function(
    "check_time_rec",
    RECURRENCE,
    Routes::ANY,
    "Whether the present time, or another, lies within a time recurrence.",
    |call| {
        let at_s = match call.int(1) {
            None => call.cx.now.unix_s(),
            Some(at) => match u64::try_from(at) {
                Ok(at) => at,
                Err(_) => return Called::Returned(-3),
            },
        };
        check(call, at_s)
    },
)];

fn check(call: &mut Call<'_, '_, '_>, at_s: u64) -> Called {
    let text = call.text(0);
    let text = String::from_utf8_lossy(&text).into_owned();
    match Recurrence::parse(&text) {
        Ok(recurrence) if recurrence.matches(call.cx.node.zone.moment(at_s)) => OK,
        Ok(_) => FAILED,
        Err(why) => {
            call.complain(Level::Error, format!("time recurrence {text:?}: {why}"));
            Called::Returned(-2)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freq {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A recurrence as it is written.
#[derive(Debug, Default)]
pub struct Recurrence {
    /// Where the times are those of the clock on the wall; `None`: where this node is.
    zone: Option<jiff::tz::TimeZone>,
    start_s: Option<u64>,
    duration_s: Option<u64>,
    freq: Option<Freq>,
    until_s: Option<u64>,
    interval: u64,
    /// Which one within the month or year (0: each), and the day: 1 is Sunday.
    by_day: Vec<(i64, u64)>,
    by_month_day: Vec<i64>,
    by_year_day: Vec<i64>,
    by_week: Vec<i64>,
    by_month: Vec<i64>,
}

impl Recurrence {
    /// Reads a recurrence.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<&str> = text.split('|').map(str::trim).collect();
        let is_time = |p: &str| p.is_empty() || p.starts_with(|c: char| c.is_ascii_digit());
        let mut zone = None;
        if let Some(name) = parts.first().filter(|p| !is_time(p)) {
            zone = Some(self::zone(name)?);
            parts.remove(0);
        }
        if parts.len() > 11 {
            return Err("it has at most 11 parts".to_owned());
        }
        let part = |at: usize| parts.get(at).copied().filter(|p| !p.is_empty());
        let start_s = part(0).map(time).transpose()?;
        let end_s = part(1).map(time).transpose()?;
        let duration_s = match (part(2), start_s, end_s) {
            (Some(text), ..) => Some(duration(text)?),
            (None, Some(start), Some(end)) => {
                Some(end.checked_sub(start).ok_or("it ends before it starts")?)
            }
            _ => None,
        };
        let freq = part(3).map(freq).transpose()?;
        let until_s = part(4).map(time).transpose()?;
        let interval = part(5).map_or(Ok(1), |p| p.parse::<u64>().map_err(|_| number(p)))?;
        Ok(Self {
            zone,
            start_s,
            duration_s,
            freq,
            until_s,
            interval: interval.max(1),
            by_day: part(6).map_or(Ok(Vec::new()), days)?,
            by_month_day: numbers(part(7), 31)?,
            by_year_day: numbers(part(8), 366)?,
            by_week: numbers(part(9), 53)?,
            by_month: numbers(part(10), 12)?,
        })
    }

    /// Whether a moment lies in one of the periods.
    pub fn matches(&self, at: impl Into<Moment>) -> bool {
        let at = at.into();
        let at_s = self.zone.as_ref().map_or(at.wall_s, |zone| shown(zone, at.unix_s));
        let Some(start) = self.start_s else { return self.by_rules(&date::fields(at_s), at_s) };
        if at_s < start || self.until_s.is_some_and(|until| at_s > until) {
            return false;
        }
        let Some(freq) = self.freq else {
            return self.duration_s.is_none_or(|d| at_s < start + d);
        };
        // The period that the time would lie in may have begun on an earlier day.
        let reach = self.duration_s.unwrap_or(DAY_S);
        let days = (reach / DAY_S + 1).min(366);
        (0..=days).any(|back| {
            let day = (at_s / DAY_S).saturating_sub(back);
            let begins = day * DAY_S + start % DAY_S;
            begins >= start
                && begins <= at_s
                && at_s - begins < reach
                && self.repeats(freq, start, begins)
        })
    }

    /// Whether a period begins at this time, which is the start's time of some day.
    fn repeats(&self, freq: Freq, start_s: u64, begins_s: u64) -> bool {
        let (first, this) = (date::fields(start_s), date::fields(begins_s));
        let (first_day, this_day) = (start_s / DAY_S, begins_s / DAY_S);
        // Weeks begin on Monday.
        let week = |day: u64| (day + 3) / 7;
        let months = |f: &Fields| f.year * 12 + f.mon;
        let (steps, same) = match freq {
            Freq::Daily => (this_day - first_day, true),
            Freq::Weekly => (
                week(this_day) - week(first_day),
                !self.by_day.is_empty() || this.wday == first.wday,
            ),
            Freq::Monthly => {
                let chosen = !self.by_day.is_empty() || !self.by_month_day.is_empty();
                (months(&this) - months(&first), chosen || this.mday == first.mday)
            }
            Freq::Yearly => {
                let chosen = [&self.by_month_day, &self.by_year_day, &self.by_week, &self.by_month]
                    .iter()
                    .any(|l| !l.is_empty())
                    || !self.by_day.is_empty();
                let same = (this.mon, this.mday) == (first.mon, first.mday);
                (this.year - first.year, chosen || same)
            }
        };
        steps % self.interval == 0 && same && self.by_rules(&this, begins_s)
    }

    fn by_rules(&self, f: &Fields, at_s: u64) -> bool {
        let in_month = days_of_month(f) as i64;
        let in_year = if is_leap(f.year) { 366 } else { 365 };
        let any = |list: &[i64], value: u64, last: i64| {
            let value = value as i64;
            list.is_empty() || list.iter().any(|n| *n == value || *n == value - last - 1)
        };
        let weekday = |(nth, day): &(i64, u64)| {
            let from_start = (f.mday as i64 - 1) / 7 + 1;
            let from_end = -((in_month - f.mday as i64) / 7 + 1);
            *day == f.wday && (*nth == 0 || *nth == from_start || *nth == from_end)
        };
        let (week, weeks) = iso_week(f, at_s);
        (self.by_day.is_empty() || self.by_day.iter().any(weekday))
            && any(&self.by_month_day, f.mday, in_month)
            && any(&self.by_year_day, f.yday, in_year)
            && any(&self.by_week, week, weeks)
            && any(&self.by_month, f.mon, 12)
    }
}

/// A time zone by its name.
fn zone(name: &str) -> Result<jiff::tz::TimeZone, String> {
    if ["UTC", "GMT", "Z"].contains(&name) {
        return Ok(jiff::tz::TimeZone::UTC);
    }
    let unknown = |_| format!("the time zone `{name}` is not known, such as Europe/Berlin");
    jiff::tz::TimeZone::get(name).map_err(unknown)
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_of_month(f: &Fields) -> u64 {
    match f.mon {
        2 if is_leap(f.year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The number of the week, by the Thursday in it (ISO 8601), and how many its year has.
fn iso_week(f: &Fields, at_s: u64) -> (u64, i64) {
    // Monday is 0.
    let weekday = (f.wday + 5) % 7;
    let thursday = date::fields((at_s + 3 * DAY_S).saturating_sub(weekday * DAY_S));
    let week = (thursday.yday - 1) / 7 + 1;
    // The last Thursday of the year.
    let in_year = if is_leap(thursday.year) { 366 } else { 365 };
    let last = thursday.yday + (in_year - thursday.yday) / 7 * 7;
    (week, ((last - 1) / 7 + 1) as i64)
}

fn number(text: &str) -> String {
    format!("`{text}` is no number")
}

/// `YYYYMMDD` or `YYYYMMDDTHHMMSS`, perhaps with a `Z`.
fn time(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not written YYYYMMDDTHHMMSS");
    let (day, clock) = text.trim_end_matches('Z').split_once('T').unwrap_or((text, "000000"));
    let digits = |t: &str, len: usize| t.len() == len && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(day, 8) || !digits(clock, 6) {
        return Err(wrong());
    }
    let get = |t: &str, from: usize, to: usize| t.get(from..to)?.parse::<u64>().ok();
    let read = || {
        let (year, month, mday) = (get(day, 0, 4)?, get(day, 4, 6)?, get(day, 6, 8)?);
        let (h, m, s) = (get(clock, 0, 2)?, get(clock, 2, 4)?, get(clock, 4, 6)?);
        let sane = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&mday)
            && h < 24
            && m < 60
            && s < 61;
        if !sane {
            return None;
        }
        let day_s = (days_before(year, month) + mday - 1) * DAY_S;
        // Not every month has 31 days.
        (date::fields(day_s).mday == mday).then(|| day_s + h * 3600 + m * 60 + s)
    };
    read().ok_or_else(wrong)
}

/// Days from 1970-01-01 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let before = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let of_months = (1..month).map(|mon| {
        days_of_month(&Fields { mon, year, sec: 0, min: 0, hour: 0, mday: 1, wday: 1, yday: 1 })
    });
    before + of_months.sum::<u64>()
}

/// `P1DT2H30M`, `PT8H`, `P2W`.
fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no duration such as PT8H or P1DT30M");
    let rest = text.trim_start_matches('+').strip_prefix('P').ok_or_else(wrong)?;
    let (mut total, mut n, mut clock, mut any) = (0u64, None::<u64>, false, false);
    for c in rest.chars() {
        let unit = match (c, clock) {
            ('0'..='9', _) => {
                let digit = u64::from(c as u32 - '0' as u32);
                n = n.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                n.ok_or_else(wrong)?;
                continue;
            }
            ('T', false) if n.is_none() => {
                clock = true;
                continue;
            }
            ('W', false) => 7 * DAY_S,
            ('D', false) => DAY_S,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return Err(wrong()),
        };
        let part = n.take().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        any = true;
    }
    if any && n.is_none() { Ok(total) } else { Err(wrong()) }
}

fn freq(text: &str) -> Result<Freq, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "daily" => Freq::Daily,
        "weekly" => Freq::Weekly,
        "monthly" => Freq::Monthly,
        "yearly" => Freq::Yearly,
        _ => return Err("the frequencies are daily, weekly, monthly, yearly".to_owned()),
    })
}

/// `MO,WE`, `1SU,-1FR`.
fn days(text: &str) -> Result<Vec<(i64, u64)>, String> {
    let read = |item: &str| {
        let item = item.trim();
        let at = item.len().checked_sub(2)?;
        let (nth, name) = (item.get(..at)?, item.get(at..)?);
        let names = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
        let day = names.iter().position(|n| n.eq_ignore_ascii_case(name))? as u64 + 1;
        let nth = if nth.is_empty() { 0 } else { nth.trim_start_matches('+').parse().ok()? };
        Some((nth, day))
    };
    let items = text.split(',').take(LIST_MAX);
    items.map(|i| read(i).ok_or_else(|| format!("`{i}` is no day such as MO or -1FR"))).collect()
}

/// Numbers from 1 to `last`, or from the end: -1 is the last one.
fn numbers(text: Option<&str>, last: i64) -> Result<Vec<i64>, String> {
    let items = text.into_iter().flat_map(|t| t.split(',')).take(LIST_MAX);
    let read = |item: &str| match item.trim().parse::<i64>() {
        Ok(n) if n != 0 && (-last..=last).contains(&n) => Ok(n),
        Ok(n) => Err(format!("`{n}` is not from 1 to {last}, or from -1 to -{last}")),
        Err(_) => Err(number(item)),
    };
    items.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(recurrence: &str, at: &str) -> bool {
        Recurrence::parse(recurrence).unwrap().matches(time(at).unwrap())
    }

    #[test]
    fn what_can_never_be_is_told() {
        for (text, word) in [
            ("20260230T080000||PT9H", "20260230T080000"),
            ("20260105T080000||PT9H|monthly||||40", "`40` is not from 1 to 31"),
            ("20260105T080000||PT9H|monthly||||0", "`0`"),
            ("20260105T080000||PT9H|yearly|||||-367", "`-367`"),
            ("20260105T080000||PT9H|yearly||||||54", "`54`"),
            ("20260105T080000||PT9H|yearly|||||||13", "`13`"),
        ] {
            let why = Recurrence::parse(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        assert!(Recurrence::parse("20240229T080000||PT9H|yearly||||-31|366|-53|12").is_ok());
    }

    #[test]
    fn working_hours_are_a_weekly_recurrence() {
        let hours = "20260105T080000||PT9H|weekly|||MO,TU,WE,TH,FR";
        for (at, expected) in [
            ("20260105T080000", true),
            ("20261123T075959", false),
            ("20261123T080000", true),
            ("20261123T165959", true),
            ("20261123T170000", false),
            ("20261122T120000", false),
            ("20251224T120000", false),
        ] {
            assert_eq!(matches(hours, at), expected, "{at}");
        }
    }

    #[test]
    fn a_period_may_pass_midnight_and_end_for_good() {
        let night = "20260101T200000|20260102T070000||daily|20260201T000000";
        assert!(matches(night, "20260110T235959"));
        assert!(matches(night, "20260111T065959"));
        assert!(!matches(night, "20260111T070000"));
        assert!(!matches(night, "20260301T210000"));
    }

    #[test]
    fn days_of_months_and_years() {
        let last_friday = "20260101T000000|||monthly|||-1FR";
        assert!(matches(last_friday, "20261127T120000"));
        assert!(!matches(last_friday, "20261120T120000"));
        let christmas = "20250101T000000|||yearly||||25,26|||12";
        assert!(matches(christmas, "20261225T120000"));
        assert!(!matches(christmas, "20261125T120000"));
        let odd = "20260101T000000|||daily||2";
        assert!(matches(odd, "20260103T120000") && !matches(odd, "20260104T120000"));
        assert!(matches("20260101T000000||PT1H", "20260101T003000"), "once");
        assert!(!matches("20260101T000000||PT1H", "20260102T003000"));
        assert!(matches("", "20260102T003000"), "always");
        let week = "20260101T000000|||yearly||||||48";
        assert!(matches(week, "20261123T000000") && !matches(week, "20261122T000000"));
        assert!(matches("UTC|20260101T000000||PT1H", "20260101T003000"));
    }

    #[test]
    fn zones_have_their_own_clocks() {
        let berlin = "Europe/Berlin|20260105T080000||PT1H|daily";
        assert!(matches(berlin, "20260120T070000"), "winter");
        assert!(!matches(berlin, "20260120T083000"));
        assert!(matches(berlin, "20260720T060000"), "summer");
        assert!(!matches(berlin, "20260720T073000"));
        let monday = "Asia/Tokyo|20260105T000000||P1D|weekly|||MO";
        assert!(matches(monday, "20260104T160000") && !matches(monday, "20260105T160000"));
    }

    #[test]
    fn without_a_zone_the_clock_of_the_host_counts() {
        let host = tandem_engine::zone::Zone::default();
        host.set("America/New_York").unwrap();
        let holds = |text: &str, at: &str| {
            Recurrence::parse(text).unwrap().matches(host.moment(time(at).unwrap()))
        };
        let hour = "20260105T080000||PT1H|daily";
        assert!(holds(hour, "20260120T133000") && !holds(hour, "20260120T083000"));
        assert!(holds(hour, "20260720T123000"), "summer");
        let utc = format!("UTC|{hour}");
        assert!(holds(&utc, "20260120T083000") && !holds(&utc, "20260120T133000"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("2026", "YYYYMMDD"),
            ("20261301T000000", "YYYYMMDD"),
            ("20260101T000000||1H", "duration"),
            ("20260101T000000|||hourly", "frequencies"),
            ("20260101T000000|||weekly|||XX", "no day"),
            ("20260101T000000|||monthly||||x", "no number"),
            ("20260102T000000|20260101T000000", "ends before"),
            ("Mars/Base|20260101T000000", "time zone"),
        ] {
            let error = Recurrence::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TPHDMWSZ|,A-Za-z-]{0,60}", at in 0u64..5_000_000_000) {
            if let Ok(recurrence) = Recurrence::parse(&text) {
                recurrence.matches(at);
            }
        }
    }
}
