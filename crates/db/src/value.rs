//! One value of a row.

use bytes::Bytes;

/// A value as the database stores it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    Str(String),
    Blob(Bytes),
    /// A DATETIME: Unix seconds. Databases without a type of their own for it hold
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    Time(i64),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The integer, also when it is written as text; None for anything else.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(i) | Self::Time(i) => Some(*i),
            Self::Str(s) => s.trim().parse().ok(),
            _ => None,
        }
    }

    /// The number, also when it is written as text; None for anything else.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Str(s) => s.trim().parse().ok(),
            _ => None,
        }
    }

    /// The text; None for anything that is not text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            Self::Blob(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// The bytes of a text or a blob.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Str(s) => Some(s.as_bytes()),
            Self::Blob(b) => Some(b),
            _ => None,
        }
    }

    /// Unix seconds of a DATETIME, also when it is held as text.
    pub fn as_time(&self) -> Option<i64> {
        match self {
            Self::Time(t) => Some(*t),
            Self::Str(s) => parse_time(s),
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Unix seconds as `YYYY-MM-DD HH:MM:SS` in UTC. Years outside 0..=9999 are held at the ends,
/// so that the text always sorts as the time does.
pub(crate) fn format_time(unix_s: i64) -> String {
    let unix_s = unix_s.clamp(TIME_MIN_S, TIME_MAX_S);
    let (days, seconds) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}")
}

/// The inverse of [`format_time`]; None for anything else, a date that does not exist included.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    let shape = bytes.len() == 19
        && digits.iter().all(|&at| bytes.get(at).is_some_and(u8::is_ascii_digit))
        && marks.iter().all(|&(at, mark)| bytes.get(at) == Some(&mark));
    if !shape {
        return None;
    }
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (h, m, s) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    if !(1..=12).contains(&month) || h > 23 || m > 59 || s > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    (civil(days) == (year, month, day)).then_some(days * 86_400 + h * 3600 + m * 60 + s)
}

/// Year, month and day of a day count since 1970-01-01 in the proleptic Gregorian calendar,
/// with eras of 400 years that start on 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - DAYS_TO_EPOCH
}

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;
/// 0000-01-01 00:00:00.
const TIME_MIN_S: i64 = -62_167_219_200;
/// 9999-12-31 23:59:59.
const TIME_MAX_S: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_written_as_the_calendar_says() {
        assert_eq!(format_time(0), "1970-01-01 00:00:00");
        assert_eq!(format_time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(format_time(-2_208_988_799), "1900-01-01 00:00:01");
        assert_eq!(format_time(i64::MAX), "9999-12-31 23:59:59");
        assert_eq!(format_time(i64::MIN), "0000-01-01 00:00:00");
    }

    #[test]
    fn a_date_that_does_not_exist_is_no_time() {
        for text in ["2023-02-29 00:00:00", "2023-13-01 00:00:00", "2023-01-01 24:00:00", ""] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_time("+023-01-01 00:00:00"), None);
    }

    proptest! {
        #[test]
        fn a_time_survives_its_text(unix_s in TIME_MIN_S..=TIME_MAX_S) {
            prop_assert_eq!(parse_time(&format_time(unix_s)), Some(unix_s));
        }

        #[test]
        fn any_text_is_taken_without_a_panic(text in "\\PC{0,24}") {
            let _ = parse_time(&text);
        }

        #[test]
        fn the_texts_sort_as_the_times(a in TIME_MIN_S..=TIME_MAX_S, b in TIME_MIN_S..=TIME_MAX_S) {
            prop_assert_eq!(a.cmp(&b), format_time(a).cmp(&format_time(b)));
        }
    }
}
