//! Dates as text, always UTC: an answer does not depend on the host's time zone.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month (1 to 12) and day of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01, in eras of 400 years (Howard Hinnant's civil_from_days).
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

/// `Mon Nov 23 08:20:46 2026`.
pub fn ctime(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    let weekday = DAYS[(unix_s / 86_400 % 7) as usize];
    let name = MONTHS[(month - 1) as usize % 12];
    let s = unix_s % 86_400;
    format!("{weekday} {name} {day:2} {:02}:{:02}:{:02} {year}", s / 3600, s / 60 % 60, s % 60)
}

/// `2026-11-23 08:20:46`.
pub fn iso(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    let s = unix_s % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(ctime(1_795_422_046), "Mon Nov 23 08:20:46 2026");
        assert_eq!(iso(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
    }
}
