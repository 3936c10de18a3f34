//! A table of rules in memory.

use std::collections::BTreeMap;

use tandem_cfgutils::Times;
use tandem_db::{Row, Rows, Value};
use tandem_engine::zone::Moment;
use tandem_regex::{Flags, Pcre};

/// Columns of the table, in the order in which they are selected.
pub(crate) const COLUMNS: [&str; 10] = [
    "dpid_col",
    "pr_col",
    "match_op_col",
    "match_exp_col",
    "match_flags_col",
    "subst_exp_col",
    "repl_exp_col",
    "attrs_col",
    "timerec_col",
    "disabled_col",
];

#[derive(Debug)]
struct Rule {
    priority: i64,
    matches: Matches,
    /// What the groups of the replacement come from.
    subst: Option<Pcre>,
    replacement: Option<String>,
    attrs: Option<String>,
    times: Option<Times>,
}

#[derive(Debug)]
enum Matches {
    Equal { text: String, any_case: bool },
    Pcre(Pcre),
}

/// What a translation came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Rule {
        output: Vec<u8>,
        attrs: Option<String>,
    },
    /// No rule has this id.
    NoRules,
    Nothing,
    Failed(String),
}

/// Rules by id, each list by priority.
#[derive(Debug, Default)]
pub(crate) struct Rules(BTreeMap<i64, Vec<Rule>>);

impl Rules {
    /// From rows of [`COLUMNS`]; and what is wrong with those that were left out.
    pub(crate) fn of(rows: &Rows) -> (Self, Vec<String>) {
        let mut rules: BTreeMap<i64, Vec<Rule>> = BTreeMap::new();
        let mut faults = Vec::new();
        for row in &rows.rows {
            match read(row) {
                Ok(Some((id, rule))) => rules.entry(id).or_default().push(rule),
                Ok(None) => {}
                Err(why) => faults.push(why),
            }
        }
        for list in rules.values_mut() {
            list.sort_by_key(|rule| rule.priority);
        }
        (Self(rules), faults)
    }

    pub(crate) fn translate(&self, id: i64, input: &[u8], at: Moment) -> Found {
        let Some(list) = self.0.get(&id) else { return Found::NoRules };
        for rule in list {
            if rule.times.as_ref().is_some_and(|times| !times.hold(at)) {
                continue;
            }
            match rule.matches.fits(input) {
                Ok(true) => return rule.apply(input),
                Ok(false) => {}
                Err(why) => return Found::Failed(why),
            }
        }
        Found::Nothing
    }
}

impl Matches {
    fn fits(&self, input: &[u8]) -> Result<bool, String> {
        match self {
            Self::Equal { text, any_case: true } => Ok(text.as_bytes().eq_ignore_ascii_case(input)),
            Self::Equal { text, any_case: false } => Ok(text.as_bytes() == input),
            Self::Pcre(pcre) => pcre.is_match(input),
        }
    }
}

impl Rule {
    fn apply(&self, input: &[u8]) -> Found {
        let output = match (&self.subst, &self.replacement) {
            (_, None) => input.to_vec(),
            (None, Some(replacement)) => replacement.clone().into_bytes(),
            (Some(subst), Some(replacement)) => match subst.expand(input, replacement) {
                Ok(Some(text)) => text.into_bytes(),
                Ok(None) => {
                    return Found::Failed("the rule matches, but its subst_exp does not".into());
                }
                Err(why) => return Found::Failed(why),
            },
        };
        Found::Rule { output, attrs: self.attrs.clone() }
    }
}

fn read(row: &Row) -> Result<Option<(i64, Rule)>, String> {
    let [id, pr, op, exp, flags, subst, repl, attrs, times, disabled] = row.as_slice() else {
        return Err("a row has not the ten columns".into());
    };
    if disabled.as_int().unwrap_or(0) != 0 {
        return Ok(None);
    }
    let text = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let id = id.as_int().ok_or("a rule has no dpid")?;
    let expression = text(exp).unwrap_or_default();
    let place = |why: String| format!("dpid {id}, \"{expression}\": {why}");
    let any_case = flags.as_int().unwrap_or(0) & 1 != 0;
    let pcre = |text: &str| {
        Pcre::compile(text, Flags { caseless: any_case, ..Flags::default() }).map_err(place)
    };
    let matches = match op.as_int() {
        Some(0) => Matches::Equal { text: expression.clone(), any_case },
        Some(1) => Matches::Pcre(pcre(&expression)?),
        _ => return Err(place("match_op is 0 (equal) or 1 (expression)".into())),
    };
    let subst = text(subst).map(|text| pcre(&text)).transpose()?;
    let replacement = text(repl);
    // Without an expression of its own the groups are those of the match.
    let subst = match (&matches, subst, &replacement) {
        (Matches::Pcre(pcre), None, Some(text)) if text.contains('\\') => Some(pcre.clone()),
        (_, subst, _) => subst,
    };
    let rule = Rule {
        priority: pr.as_int().unwrap_or(0),
        matches,
        subst,
        replacement,
        attrs: text(attrs),
        times: text(times).map(|text| Times::parse(&text).map_err(place)).transpose()?,
    };
    Ok(Some((id, rule)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(pr: i64, op: i64, exp: &str, flags: i64, subst: &str, repl: &str) -> Row {
        let attrs = format!("a{pr}");
        let [id, disabled] = [Value::Int(1), Value::Int(0)];
        let (exp, subst, repl) = (exp.into(), subst.into(), repl.into());
        let (pr, op, flags) = (pr.into(), op.into(), flags.into());
        vec![id, pr, op, exp, flags, subst, repl, attrs.into(), Value::Null, disabled]
    }

    fn output(rules: &Rules, input: &str) -> Option<String> {
        match rules.translate(1, input.as_bytes(), 0.into()) {
            Found::Rule { output, .. } => String::from_utf8(output).ok(),
            _ => None,
        }
    }

    #[test]
    fn the_first_rule_by_priority_translates() {
        let rows = vec![
            row(5, 1, "^0", 0, "^0(.*)$", "+49\\1"),
            row(2, 1, "^00", 0, "^00(.*)$", "+\\1"),
            row(1, 0, "Hot", 1, "", "112"),
            row(6, 1, "^x", 0, "", ""),
            row(7, 1, "^(y)(.)", 0, "", "\\2\\1"),
        ];
        let (rules, faults) = Rules::of(&Rows { rows, ..Rows::default() });
        assert!(faults.is_empty(), "{faults:?}");
        for (input, wanted) in [
            ("0043", Some("+43")),
            ("030", Some("+4930")),
            ("hot", Some("112")),
            ("xyz", Some("xyz")),
            ("yz", Some("zy")),
            ("1", None),
        ] {
            assert_eq!(output(&rules, input).as_deref(), wanted, "{input}");
        }
        assert_eq!(rules.translate(9, b"1", 0.into()), Found::NoRules);
    }

    #[test]
    fn faulty_rules_are_told() {
        let rows = vec![row(1, 1, "(", 0, "", ""), row(1, 9, "a", 0, "", "")];
        let (rules, faults) = Rules::of(&Rows { rows, ..Rows::default() });
        assert_eq!((rules.0.contains_key(&1), faults.len()), (false, 2));
    }

    proptest! {
        #[test]
        fn no_rule_panics(exp in "[a-c().*+]{0,8}", repl in "[a\\\\0-9]{0,6}", input in "[a-c]{0,6}") {
            let rows = vec![row(1, 1, &exp, 0, &exp, &repl)];
            let (rules, _) = Rules::of(&Rows { rows, ..Rows::default() });
            let _ = output(&rules, &input);
        }
    }
}
