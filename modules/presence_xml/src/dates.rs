//! Times as documents write them (xs:dateTime).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Unix seconds of a time; one without a zone is UTC. `None`: it is none.
pub(crate) fn unix_s(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let local = text.parse::<DateTime>().ok()?;
    TimeZone::UTC.to_timestamp(local).ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_a_zone() {
        let noon = Some(1_072_281_600);
        assert_eq!(unix_s("2003-12-24T17:00:00+01:00"), noon);
        assert_eq!(unix_s("2003-12-24T16:00:00Z"), noon);
        assert_eq!(unix_s("2003-12-24T16:00:00"), noon);
        assert_eq!(unix_s("2003-12-24T16:00:00.250Z"), noon);
        assert!(unix_s("tomorrow").is_none() && unix_s("").is_none());
    }
}
