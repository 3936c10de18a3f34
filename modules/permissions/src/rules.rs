//! A file of rules: `WHO [EXCEPT WHO] : WHAT [EXCEPT WHAT]`, a line each; every part is `ALL` or
//! expressions in quotes with commas between them.

use regex::bytes::Regex;
use tandem_script::vm::compile_posix;

/// Lines of one file.
const RULES_MAX: usize = 10_000;

/// The rules of one file.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    who: Part,
    what: Part,
}

/// What matches, but for the exceptions.
#[derive(Debug, Default)]
struct Part {
    any: List,
    except: Option<List>,
}

/// `None`: everything.
type List = Option<Vec<Regex>>;

impl Rules {
    /// Reads a file; a faulty line is told and left out.
    pub(crate) fn parse(text: &str) -> (Self, Vec<String>) {
        let mut rules = Self::default();
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if rules.0.len() >= RULES_MAX {
                faults.push(format!("line {number}: at most {RULES_MAX} rules are read"));
                break;
            }
            match rule(line) {
                Ok(Some(rule)) => rules.0.push(rule),
                Ok(None) => {}
                Err(why) => faults.push(format!("line {number}: {why}")),
            }
        }
        (rules, faults)
    }

    /// Whether a rule is about both.
    pub(crate) fn has(&self, who: &[u8], what: &[u8]) -> bool {
        self.0.iter().any(|rule| rule.who.has(who) && rule.what.has(what))
    }
}

impl Part {
    fn has(&self, text: &[u8]) -> bool {
        let in_list = |list: &List| match list {
            None => true,
            Some(list) => list.iter().any(|regex| regex.is_match(text)),
        };
        in_list(&self.any) && !self.except.as_ref().is_some_and(in_list)
    }
}

fn rule(line: &str) -> Result<Option<Rule>, String> {
    let mut rest = line.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(None);
    }
    let who = part(&mut rest)?;
    rest = rest.strip_prefix(':').ok_or("a `:` is wanted between who and what")?.trim_start();
    let what = part(&mut rest)?;
    match rest.is_empty() || rest.starts_with('#') {
        true => Ok(Some(Rule { who, what })),
        false => Err(format!("`{rest}` is too much")),
    }
}

fn part(rest: &mut &str) -> Result<Part, String> {
    let any = list(rest)?;
    let except = match rest.strip_prefix("EXCEPT") {
        None => None,
        Some(after) => {
            *rest = after.trim_start();
            Some(list(rest)?)
        }
    };
    Ok(Part { any, except })
}

fn list(rest: &mut &str) -> Result<List, String> {
    if let Some(after) = rest.strip_prefix("ALL") {
        *rest = after.trim_start();
        return Ok(None);
    }
    let mut all = Vec::new();
    loop {
        all.push(expression(rest)?);
        match rest.strip_prefix(',') {
            Some(after) => *rest = after.trim_start(),
            None => return Ok(Some(all)),
        }
    }
}

fn expression(rest: &mut &str) -> Result<Regex, String> {
    let wrong = || "ALL or an expression in quotes is wanted".to_owned();
    let inside = rest.strip_prefix('"').ok_or_else(wrong)?;
    let (text, after) = inside.split_once('"').ok_or("a quote is missing")?;
    *rest = after.trim_start();
    compile_posix(text.as_bytes(), true, false).map_err(|e| format!("\"{text}\": {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_have_exceptions_on_both_sides() {
        let text = "# who : what\n\nALL : \"^sip:1\" EXCEPT \"^sip:19\", \"^sip:18\"\n\
            \"@a\\.org$\" EXCEPT \"^sip:bad@\" : ALL # all of them\n";
        let (rules, faults) = Rules::parse(text);
        assert!(faults.is_empty(), "{faults:?}");
        for (who, what, has) in [
            ("sip:x@x", "sip:11@y", true),
            ("sip:x@x", "SIP:181@y", false),
            ("sip:x@x", "sip:2@y", false),
            ("sip:x@A.org", "sip:2@y", true),
            ("sip:bad@a.org", "sip:2@y", false),
        ] {
            assert_eq!(rules.has(who.as_bytes(), what.as_bytes()), has, "{who} {what}");
        }
    }

    #[test]
    fn a_faulty_line_is_told_and_the_others_count() {
        let (rules, faults) = Rules::parse("x\nALL\nALL : \"(\"\n\"a : ALL\nALL : ALL x\nALL:ALL");
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults[0].starts_with("line 1: ALL or"), "{faults:?}");
        assert!(rules.has(b"", b""));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ALL|EXCEPT|:|,|\"|#|[a-z(\\[ \n]){0,30}") {
            let (rules, _) = Rules::parse(&text);
            rules.has(b"sip:a@b", b"sip:c@d");
        }
    }
}
