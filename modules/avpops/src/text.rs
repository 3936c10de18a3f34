//! The little languages in the arguments.

/// An AVP with what stands behind it, separated by slashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    /// The second AVP, as in `$avp(a)/$avp(b)`.
    pub(crate) second: Option<&'a str>,
    pub(crate) flags: &'a str,
}

/// `op/value/flags`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) op: &'a str,
    pub(crate) value: &'a str,
    pub(crate) flags: &'a str,
}

/// Splits at slashes that do not stand in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let is_end = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '/' && depth == 0
    };
    text.trim().split(is_end).map(str::trim).collect()
}

/// The name in `$avp(name)`.
pub(crate) fn avp(text: &str) -> Option<&str> {
    let name = text.strip_prefix("$avp(").and_then(|rest| rest.strip_suffix(')'))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:+".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// `$avp(a)[/$avp(b)][/flags]`
pub(crate) fn named(text: &str) -> Option<Named<'_>> {
    let parts = parts(text);
    let (first, rest) = parts.split_first()?;
    let name = avp(first)?;
    match rest {
        [] => Some(Named { name, second: None, flags: "" }),
        [one] => match avp(one) {
            Some(second) => Some(Named { name, second: Some(second), flags: "" }),
            None => Some(Named { name, second: None, flags: one }),
        },
        [second, flags] => Some(Named { name, second: Some(avp(second)?), flags }),
        _ => None,
    }
}

pub(crate) fn operation(text: &str) -> Operation<'_> {
    let text = text.trim();
    let (op, rest) = text.split_once('/').unwrap_or((text, ""));
    // An expression may have slashes of its own: flags are letters behind the last one.
    let (value, flags) = match rest.rsplit_once('/') {
        Some((value, flags)) if flags.chars().all(|c| "gid".contains(c)) => (value, flags),
        _ => (rest, ""),
    };
    Operation { op: op.trim(), value, flags }
}

fn only(flags: &str, known: &str) -> Result<(), String> {
    match flags.chars().find(|c| !known.contains(*c)) {
        None => Ok(()),
        Some(c) => Err(format!("there is no flag `{c}` here: {known} are known")),
    }
}

fn one(text: &str, flags: &str) -> Result<(), String> {
    let read = named(text).filter(|n| n.second.is_none());
    only(read.ok_or("an AVP is written $avp(name)")?.flags, flags)
}

pub(crate) fn check_avp(text: &str) -> Result<(), String> {
    one(text, "g")
}

pub(crate) fn check_avp_or_all(text: &str) -> Result<(), String> {
    match text.trim() {
        "a" | "a/g" | "s" | "s/g" => Ok(()),
        _ => one(text, "g"),
    }
}

pub(crate) fn check_copy(text: &str) -> Result<(), String> {
    one(text, "gdns")
}

pub(crate) fn check_kind(text: &str) -> Result<(), String> {
    one(text, "esn")
}

pub(crate) fn check_pair(text: &str) -> Result<(), String> {
    only(named(text).ok_or("AVPs are written $avp(from)/$avp(to)/flags")?.flags, "gd")
}

pub(crate) fn check_source(text: &str) -> Result<(), String> {
    match text.trim().starts_with('$') {
        true => Ok(()),
        false => Err("a variable is wanted, such as $avp(name)".into()),
    }
}

pub(crate) fn check_destination(text: &str) -> Result<(), String> {
    match text.trim() {
        "$ru" | "$ru/username" | "$ru/domain" | "$du" | "$br" => Ok(()),
        _ => Err("it is $ru, $ru/username, $ru/domain, $du or $br".into()),
    }
}

/// Names of tests.
const TESTS: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge", "re", "fm", "and", "or", "xor"];
/// Names of calculations.
const CALCULATIONS: &[&str] = &["add", "sub", "mul", "div", "mod", "and", "or", "xor", "not"];

pub(crate) fn check_test(text: &str) -> Result<(), String> {
    known(operation(text), TESTS, "gi")
}

pub(crate) fn check_operation(text: &str) -> Result<(), String> {
    known(operation(text), CALCULATIONS, "gd")
}

fn known(read: Operation<'_>, names: &[&str], flags: &str) -> Result<(), String> {
    match names.contains(&read.op) {
        true => only(read.flags, flags),
        false => Err(format!("`{}` is none of {}", read.op, names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn avps_flags_and_operations_are_told_apart() {
        let read = |text| named(text).map(|n| (n.name, n.second, n.flags));
        assert_eq!(read("$avp(a)"), Some(("a", None, "")));
        assert_eq!(read("$avp(a)/g"), Some(("a", None, "g")));
        assert_eq!(read("$avp(a)/$avp(b)/gd"), Some(("a", Some("b"), "gd")));
        assert_eq!(read("avp(a)"), None);
        let wanted = Operation { op: "re", value: "a/b", flags: "g" };
        assert_eq!(operation("re/a/b/g"), wanted);
        assert_eq!(operation("eq/x"), Operation { op: "eq", value: "x", flags: "" });
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[$avp()/a-z]{0,24}") {
            let _ = (named(&text), operation(&text), check_pair(&text), check_test(&text));
        }
    }
}
