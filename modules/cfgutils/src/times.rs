//! When a rule holds: time recurrences, joined by `&` and `|`, with `!` and brackets.

use tandem_engine::zone::Moment;

use crate::Recurrence;

/// Brackets inside each other.
const DEPTH_MAX: usize = 20;

/// An expression of recurrences.
#[derive(Debug)]
pub enum Times {
    One(Box<Recurrence>),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Times {
    /// Reads `R`, `R & R`, `R / R`, `!R` and `(R)`. The parts of a recurrence are separated by
    /// `|`, so that alternatives are joined by `/`.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let times = any(&mut rest, 0)?;
        if rest.is_empty() { Ok(times) } else { Err(format!("`{rest}` is too much")) }
    }

    /// Whether it holds at a moment.
    pub fn hold(&self, at: impl Into<Moment>) -> bool {
        let at = at.into();
        match self {
            Self::One(recurrence) => recurrence.matches(at),
            Self::Not(times) => !times.hold(at),
            Self::All(list) => list.iter().all(|times| times.hold(at)),
            Self::Any(list) => list.iter().any(|times| times.hold(at)),
        }
    }
}

fn any(rest: &mut &str, depth: usize) -> Result<Times, String> {
    let mut list = vec![all(rest, depth)?];
    while let Some(after) = rest.strip_prefix('/') {
        *rest = after.trim_start();
        list.push(all(rest, depth)?);
    }
    Ok(Times::Any(list))
}

fn all(rest: &mut &str, depth: usize) -> Result<Times, String> {
    let mut list = vec![one(rest, depth)?];
    while let Some(after) = rest.strip_prefix('&') {
        *rest = after.trim_start();
        list.push(one(rest, depth)?);
    }
    Ok(Times::All(list))
}

fn one(rest: &mut &str, depth: usize) -> Result<Times, String> {
    if depth >= DEPTH_MAX {
        return Err("it is nested too deep".into());
    }
    if let Some(after) = rest.strip_prefix('!') {
        *rest = after.trim_start();
        return Ok(Times::Not(Box::new(one(rest, depth + 1)?)));
    }
    if let Some(after) = rest.strip_prefix('(') {
        *rest = after.trim_start();
        let times = any(rest, depth + 1)?;
        *rest = rest.strip_prefix(')').ok_or("a `)` is missing")?.trim_start();
        return Ok(times);
    }
    // A zone has a slash of its own: Etc/UTC.
    let from = rest.find(|c: char| c.is_ascii_digit() || c == '|').unwrap_or(0);
    let (zone, after) = rest.split_at(from);
    let end = after.find(['&', '/', ')']).unwrap_or(after.len());
    let (text, behind) = rest.split_at(zone.len() + end);
    *rest = behind.trim_start();
    if text.trim().is_empty() {
        return Err("a recurrence is missing".into());
    }
    Recurrence::parse(text.trim()).map(|recurrence| Times::One(Box::new(recurrence)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-05 12:00:00, a Monday.
    const NOON: u64 = 1_767_614_400;

    #[test]
    fn recurrences_are_joined() {
        let morning = "20260105T080000||PT2H|daily";
        let monday = "20260105T000000|||weekly|||MO";
        for (text, holds) in [
            (monday.to_owned(), true),
            (morning.to_owned(), false),
            (format!("!{morning} & {monday}"), true),
            (format!("{morning} / {monday}"), true),
            (format!("({morning} / {monday}) & !{monday}"), false),
            ("UTC|20260105T000000|||weekly|||MO".to_owned(), true),
        ] {
            assert_eq!(Times::parse(&text).map(|t| t.hold(NOON)), Ok(holds), "{text}");
        }
        for wrong in ["(", "2026", "!", "()", &format!("{monday} & "), &format!("{monday} /")] {
            assert!(Times::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TPH|&/!()A-Z]{0,40}") {
            if let Ok(times) = Times::parse(&text) {
                times.hold(NOON);
            }
        }
    }
}
