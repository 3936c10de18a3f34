//! Lists of flags in one text: `method-filtering,max-contacts=3`, and their old spellings.

use smallvec::SmallVec;

use crate::nearest::nearest;
use crate::sig::FlagSig;

/// Flags as bits: bit `i` is entry `i` of the function's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagSet {
    pub bits: u64,
    /// Index in the list and value, for `name=value`.
    pub values: SmallVec<[(u8, String); 2]>,
}

impl FlagSet {
    pub fn has(&self, index: usize) -> bool {
        index < 64 && self.bits & (1 << index) != 0
    }

    pub fn value(&self, index: usize) -> Option<&str> {
        self.values.iter().find(|(i, _)| usize::from(*i) == index).map(|(_, v)| v.as_str())
    }

    fn add(&mut self, index: usize) {
        // A table has at most 64 rows; a longer one has no bits beyond.
        self.bits |= 1u64.checked_shl(index as u32).unwrap_or(0);
    }
}

/// What [`parse`] took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub flags: FlagSet,
    /// The present spelling, when the text used an old one.
    pub modern: Option<String>,
}

/// Parses a flag list; the old letters and numbers are taken too. The error names the flag and
/// the nearest known one.
pub fn parse(list: &[FlagSig], text: &str) -> Result<Parsed, String> {
    let mut flags = FlagSet::default();
    let mut failed = None;
    for item in text.split(',').map(str::trim).filter(|i| !i.is_empty()) {
        if let Err(e) = add_named(list, item, &mut flags) {
            failed = Some(e);
            break;
        }
    }
    match failed {
        None => Ok(Parsed { flags, modern: None }),
        Some(error) => old(list, text).ok_or(error),
    }
}

/// Flags given as a number, as up to 3.3.
pub fn parse_mask(list: &[FlagSig], mask: i32) -> Option<Parsed> {
    let mut flags = FlagSet::default();
    let mut left = u32::try_from(mask).ok()?;
    for (index, sig) in list.iter().enumerate() {
        let Ok(bit) = sig.old.parse::<u32>() else { continue };
        if bit != 0 && left & bit == bit {
            flags.add(index);
            left &= !bit;
        }
    }
    let modern = Some(spelled(list, &flags));
    (left == 0).then_some(Parsed { flags, modern })
}

fn add_named(list: &[FlagSig], item: &str, flags: &mut FlagSet) -> Result<(), String> {
    let (name, value) = item.split_once('=').map_or((item, None), |(n, v)| (n.trim(), Some(v)));
    let Some(index) = list.iter().position(|f| f.name.eq_ignore_ascii_case(name)) else {
        let mut text = format!("unknown flag `{name}`");
        if let Some(near) = nearest(name, list.iter().map(|f| f.name)) {
            text += &format!(", did you mean `{near}`?");
        }
        return Err(text);
    };
    match (list.get(index).is_some_and(|f| f.takes_value), value) {
        (true, None) => return Err(format!("flag `{name}` needs a value: `{name}=...`")),
        (false, Some(_)) => return Err(format!("flag `{name}` takes no value")),
        (true, Some(v)) => flags.values.push((index as u8, v.trim().to_owned())),
        (false, None) => {}
    }
    flags.add(index);
    Ok(())
}

/// Letters with digits behind those that take a value (`c3rf`), or a number.
fn old(list: &[FlagSig], text: &str) -> Option<Parsed> {
    if let Ok(mask) = text.trim().parse::<i32>() {
        return parse_mask(list, mask);
    }
    let mut flags = FlagSet::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // `p` and `p0` may both be there: the longer one is meant.
        let fitting = list.iter().enumerate().filter(|(_, f)| {
            f.old.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with(f.old)
        });
        let (index, found) = fitting.max_by_key(|(_, f)| f.old.len())?;
        let tail = rest.get(found.old.len()..)?;
        rest = tail;
        if list.get(index)?.takes_value {
            let (value, tail) = old_value(rest);
            if value.is_empty() {
                return None;
            }
            flags.values.push((index as u8, value.to_owned()));
            rest = tail;
        }
        flags.add(index);
    }
    let modern = Some(spelled(list, &flags));
    Some(Parsed { flags, modern })
}

/// The value behind a letter: digits, `/expression/` or `<parameter>`.
fn old_value(rest: &str) -> (&str, &str) {
    let closing = match rest.chars().next() {
        Some('/') => '/',
        Some('<') => '>',
        _ => {
            return rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        }
    };
    let end = rest.get(1..).and_then(|inner| inner.find(closing));
    rest.split_at(end.map_or(0, |at| at + 2))
}

fn spelled(list: &[FlagSig], flags: &FlagSet) -> String {
    let set = list.iter().enumerate().filter(|(i, _)| flags.has(*i));
    let names = set.map(|(i, f)| match flags.value(i) {
        Some(v) => format!("{}={v}", f.name),
        None => f.name.to_owned(),
    });
    names.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[FlagSig] = &[
        FlagSig { name: "no-reply", takes_value: false, old: "r", help: "" },
        FlagSig { name: "max-contacts", takes_value: true, old: "c", help: "" },
        FlagSig { name: "private-contact", takes_value: false, old: "1", help: "" },
        FlagSig { name: "diff-ip", takes_value: false, old: "2", help: "" },
    ];

    #[test]
    fn names_with_values_set_bits_by_position() {
        let flags = parse(LIST, "max-contacts=3, no-reply").expect("valid").flags;
        assert_eq!((flags.bits, flags.value(1)), (0b11, Some("3")));
    }

    #[test]
    fn old_letters_and_masks_name_the_new_spelling() {
        let old = parse(LIST, "rc3").expect("letters");
        assert_eq!(old.modern.as_deref(), Some("no-reply,max-contacts=3"));
        let texts = parse(LIST, "c<x>rc/a b/").expect("delimited values");
        assert_eq!(texts.flags.values[..], [(1, "<x>".to_owned()), (1, "/a b/".to_owned())]);
        assert!(parse(LIST, "c<x").is_err() && parse(LIST, "c/").is_err());
        let mask = parse_mask(LIST, 3).expect("mask");
        assert_eq!(mask.modern.as_deref(), Some("private-contact,diff-ip"));
        assert!(parse_mask(LIST, 8).is_none());
        assert!(parse_mask(LIST, -1).is_none());
    }

    #[test]
    fn unknown_flag_gets_the_nearest_name() {
        let error = parse(LIST, "no-replay").expect_err("unknown");
        assert_eq!(error, "unknown flag `no-replay`, did you mean `no-reply`?");
        assert!(parse(LIST, "max-contacts").is_err());
    }
}
