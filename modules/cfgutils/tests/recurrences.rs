//! Time recurrences against a calendar of another make, day by day.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use tandem_cfgutils::{Recurrence, Times};

const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const FREQUENCIES: [&str; 4] = ["daily", "weekly", "monthly", "yearly"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];

/// A recurrence in parts.
#[derive(Clone, Debug)]
struct Parts {
    zone: &'static str,
    start: DateTime,
    minutes: i64,
    freq: usize,
    until: Option<Date>,
    interval: i64,
    by_day: Vec<(i64, usize)>,
    by_month_day: Vec<i64>,
    by_year_day: Vec<i64>,
    by_week: Vec<i64>,
    by_month: Vec<i64>,
}

fn stamp(at: DateTime) -> String {
    at.strftime("%Y%m%dT%H%M%S").to_string()
}

fn list<T>(all: &[T], text: impl Fn(&T) -> String) -> String {
    all.iter().map(text).collect::<Vec<_>>().join(",")
}

impl Parts {
    fn text(&self) -> String {
        let numbers = |all: &[i64]| list(all, i64::to_string);
        let day = |(nth, day): &(i64, usize)| match nth {
            0 => DAYS[*day].to_owned(),
            nth => format!("{nth}{}", DAYS[*day]),
        };
        let until = self.until.map(|day| stamp(day.at(12, 0, 0, 0))).unwrap_or_default();
        [
            self.zone.to_owned(),
            stamp(self.start),
            String::new(),
            format!("PT{}M", self.minutes),
            FREQUENCIES[self.freq].to_owned(),
            until,
            self.interval.to_string(),
            list(&self.by_day, day),
            numbers(&self.by_month_day),
            numbers(&self.by_year_day),
            numbers(&self.by_week),
            numbers(&self.by_month),
        ]
        .join("|")
    }

    /// Whether a period begins on a day.
    fn begins(&self, day: Date) -> bool {
        let first = self.start.date();
        let monday = |day: Date| {
            day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).unwrap()
        };
        let days = |from: Date, to: Date| i64::from((to - from).get_days());
        let months = |day: Date| i64::from(day.year()) * 12 + i64::from(day.month());
        let steps = match self.freq {
            0 => days(first, day),
            1 => days(monday(first), monday(day)) / 7,
            2 => months(day) - months(first),
            _ => i64::from(day.year() - first.year()),
        };
        let (no_day, no_mday) = (self.by_day.is_empty(), self.by_month_day.is_empty());
        let nothing = no_day
            && no_mday
            && [&self.by_year_day, &self.by_week, &self.by_month].iter().all(|l| l.is_empty());
        let same = match self.freq {
            0 => true,
            1 => !no_day || day.weekday() == first.weekday(),
            2 => !no_day || !no_mday || day.day() == first.day(),
            _ => !nothing || (day.month(), day.day()) == (first.month(), first.day()),
        };
        steps % self.interval == 0 && same && self.fits(day)
    }

    fn fits(&self, day: Date) -> bool {
        let of = |all: &[i64], value: i64, last: i64| {
            all.is_empty() || all.iter().any(|n| *n == value || last + 1 + n == value)
        };
        let week = day.iso_week_date();
        let weeks = week.weeks_in_year().into();
        let by_day = self.by_day.iter().any(|(nth, name)| {
            let weekday = Weekday::from_monday_zero_offset(*name as i8).unwrap();
            let is_nth = |nth: i64| {
                day.first_of_month().nth_weekday_of_month(nth as i8, weekday).ok() == Some(day)
            };
            day.weekday() == weekday && (*nth == 0 || is_nth(*nth))
        });
        (self.by_day.is_empty() || by_day)
            && of(&self.by_month_day, day.day().into(), day.days_in_month().into())
            && of(&self.by_year_day, day.day_of_year().into(), day.days_in_year().into())
            && of(&self.by_week, week.week().into(), weeks)
            && of(&self.by_month, day.month().into(), 12)
    }

    fn holds(&self, at: Timestamp) -> bool {
        let at = TimeZone::get(self.zone).unwrap().to_datetime(at);
        if self.until.is_some_and(|until| at > until.at(12, 0, 0, 0)) {
            return false;
        }
        let ends = |from: DateTime| from.checked_add(self.minutes.minutes()).unwrap();
        [at.date(), at.date().yesterday().unwrap()].into_iter().any(|day| {
            let from = day.to_datetime(self.start.time());
            from >= self.start && from <= at && at < ends(from) && self.begins(day)
        })
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = |last: i64| {
        let some = proptest::collection::vec((-last..=last).prop_filter("no 0", |n| *n != 0), 1..4);
        prop_oneof![3 => Just(Vec::new()), 1 => some]
    };
    let day = proptest::collection::vec((-5i64..=5, 0usize..7), 1..4);
    let by_day = prop_oneof![2 => Just(Vec::new()), 1 => day];
    let start = (0i64..1_500, 0i8..24, 0i8..60).prop_map(|(days, hour, minute)| {
        date(2020, 1, 1).checked_add(days.days()).unwrap().at(hour, minute, 0, 0)
    });
    let until = proptest::option::of(0i64..2_500);
    let first = (0usize..4, start, 1i64..1_440, 0usize..4, until, 1i64..4);
    let lists = (by_day, numbers(31), numbers(366), numbers(53), numbers(12));
    (first, lists).prop_map(|((zone, start, minutes, freq, until, interval), lists)| Parts {
        zone: ZONES[zone],
        start,
        minutes,
        freq,
        until: until.map(|days| date(2020, 1, 1).checked_add(days.days()).unwrap()),
        interval,
        by_day: lists.0,
        by_month_day: lists.1,
        by_year_day: lists.2,
        by_week: lists.3,
        by_month: lists.4,
    })
}

proptest! {
    #[test]
    fn a_recurrence_holds_when_the_calendar_says_so(
        parts in parts(),
        at in proptest::collection::vec(1_577_836_800i64..1_767_225_600, 1..40),
        near in proptest::collection::vec((0i64..2_000, -90i64..1_500), 1..40),
    ) {
        let text = parts.text();
        let recurrence = Recurrence::parse(&text).unwrap();
        // Times anywhere, and times near the beginnings of periods.
        let zone = TimeZone::get(parts.zone).unwrap();
        let near = near.iter().map(|(days, minutes)| {
            let from = parts.start.checked_add(days.days()).unwrap();
            zone.to_timestamp(from.checked_add(minutes.minutes()).unwrap()).unwrap().as_second()
        });
        for second in at.into_iter().chain(near).filter(|second| *second > 0) {
            let at = Timestamp::from_second(second).unwrap();
            prop_assert_eq!(
                recurrence.matches(second as u64), parts.holds(at), "{} at {}", text, at
            );
        }
    }

    #[test]
    fn operators_combine_what_their_parts_say(
        a in parts(), b in parts(), c in parts(), at in 1_577_836_800u64..1_767_225_600
    ) {
        let (a, b, c) = (a.text(), b.text(), c.text());
        let holds = |text: &str| Times::parse(text).unwrap().hold(at);
        let (x, y, z) = (holds(&a), holds(&b), holds(&c));
        prop_assert_eq!(holds(&format!("{a} & {b} / {c}")), (x && y) || z);
        prop_assert_eq!(holds(&format!("{a}&({b}/{c})")), x && (y || z));
        prop_assert_eq!(holds(&format!("!{a} / !({b} & {c})")), !(x && y && z));
        prop_assert_eq!(holds(&format!("!!{a}")), x);
    }
}
