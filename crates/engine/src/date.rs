//! Dates as text, always UTC: an answer does not depend on the host's time zone.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const LONG_DAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const LONG_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
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

/// `Mon, 23 Nov 2026 08:20:46 GMT`: the Date header (RFC 3261 20.17).
pub fn rfc1123(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    let weekday = DAYS[(unix_s / 86_400 % 7) as usize];
    let name = MONTHS[(month - 1) as usize % 12];
    let s = unix_s % 86_400;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{weekday}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT")
}

/// `2026-11-23 08:20:46`.
pub fn iso(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / 86_400);
    let s = unix_s % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Formats a time as strftime(3) does in the C locale, in UTC. An unknown conversion stays.
pub fn format(unix_s: u64, format: &str) -> String {
    let mut out = String::with_capacity(format.len() * 2);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(letter) => match conversion(unix_s, letter) {
                Some(text) => out.push_str(&text),
                None => out.extend(['%', letter]),
            },
            None => out.push('%'),
        }
    }
    out
}

fn conversion(unix_s: u64, letter: char) -> Option<String> {
    let (year, month, day) = civil(unix_s / 86_400);
    let weekday = (unix_s / 86_400 + 4) % 7;
    let year_day = unix_s / 86_400 - days_before_year(year) + 1;
    let (hour, minute, second) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
    let of = |names: &[&str; 7]| names[(unix_s / 86_400 % 7) as usize].to_owned();
    let month_name = |names: &[&str; 12]| names[(month as usize + 11) % 12].to_owned();
    let again = |f: &str| format(unix_s, f);
    let hour12 = (hour + 11) % 12 + 1;
    Some(match letter {
        'a' => of(&DAYS),
        'A' => of(&LONG_DAYS),
        'b' | 'h' => month_name(&MONTHS),
        'B' => month_name(&LONG_MONTHS),
        'c' => again("%a %b %e %H:%M:%S %Y"),
        'C' => format!("{:02}", year / 100),
        'd' => format!("{day:02}"),
        'D' | 'x' => again("%m/%d/%y"),
        'e' => format!("{day:2}"),
        'F' => again("%Y-%m-%d"),
        'H' => format!("{hour:02}"),
        'I' => format!("{hour12:02}"),
        'j' => format!("{year_day:03}"),
        'k' => format!("{hour:2}"),
        'l' => format!("{hour12:2}"),
        'm' => format!("{month:02}"),
        'M' => format!("{minute:02}"),
        'n' => "\n".to_owned(),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'P' => if hour < 12 { "am" } else { "pm" }.to_owned(),
        'r' => again("%I:%M:%S %p"),
        'R' => again("%H:%M"),
        's' => unix_s.to_string(),
        'S' => format!("{second:02}"),
        't' => "\t".to_owned(),
        'T' | 'X' => again("%H:%M:%S"),
        'u' => if weekday == 0 { 7 } else { weekday }.to_string(),
        'w' => weekday.to_string(),
        'U' => format!("{:02}", (year_day + 6 - weekday) / 7),
        'W' => format!("{:02}", (year_day + 6 - (weekday + 6) % 7) / 7),
        'y' => format!("{:02}", year % 100),
        'Y' => year.to_string(),
        'z' => "+0000".to_owned(),
        'Z' => "UTC".to_owned(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

/// Days from 1970-01-01 to the first of January of a year.
fn days_before_year(year: u64) -> u64 {
    let before = year.saturating_sub(1);
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    (year.saturating_sub(1970)) * 365 + leaps(before) - leaps(1969)
}

/// The fields of `struct tm` (time.h) of a time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub sec: u64,
    pub min: u64,
    pub hour: u64,
    pub mday: u64,
    /// 1 to 12.
    pub mon: u64,
    pub year: u64,
    /// 1 is Sunday.
    pub wday: u64,
    /// 1 is the first of January.
    pub yday: u64,
}

/// A time in its parts.
pub fn fields(unix_s: u64) -> Fields {
    let (year, mon, mday) = civil(unix_s / 86_400);
    Fields {
        sec: unix_s % 60,
        min: unix_s / 60 % 60,
        hour: unix_s / 3600 % 24,
        mday,
        mon,
        year,
        wday: (unix_s / 86_400 + 4) % 7 + 1,
        yday: unix_s / 86_400 - days_before_year(year) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_strftime() {
        let at = |f: &str| format(1_795_422_046, f);
        assert_eq!(at("%Y-%m-%d %H:%M:%S"), "2026-11-23 08:20:46");
        assert_eq!(
            at("%c|%D|%T|%R|%r"),
            format!("{}|11/23/26|08:20:46|08:20|08:20:46 AM", ctime(1_795_422_046))
        );
        assert_eq!(at("%A %B %j %u %w %U %W %y %%"), "Monday November 327 1 1 47 47 26 %");
        assert_eq!(at("%s %e %k %l %p %Z %z"), "1795422046 23  8  8 AM UTC +0000");
        assert_eq!(at("%q %"), "%q %");
        assert_eq!(format(951_782_400, "%j"), "060", "the 29th of February");
        let f = fields(1_795_422_046);
        assert_eq!((f.mon, f.mday, f.wday, f.yday), (11, 23, 2, 327));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(ctime(1_795_422_046), "Mon Nov 23 08:20:46 2026");
        assert_eq!(iso(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
    }
}
