//! Labels out of parts of names: `group: /expression/name:labels/flags`.

use regex::{Regex, RegexBuilder};

/// One rule for the statistics of a group.
#[derive(Debug)]
pub(crate) struct Rule {
    group: String,
    regex: Regex,
    /// `name:labels` with `\1` and the like.
    replacement: String,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = "labels are written \"group: /expression/name:label=\\\"\\1\\\"/\"";
        let (group, rest) = text.split_once(':').ok_or(wrong)?;
        let rest = rest.trim();
        let mark = rest.chars().next().filter(|c| !c.is_alphanumeric()).ok_or(wrong)?;
        let mut parts = rest.get(mark.len_utf8()..).unwrap_or_default().split(mark);
        let (Some(expression), Some(replacement), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong.into());
        };
        if !replacement.contains(':') {
            return Err(wrong.into());
        }
        if let Some(flag) = flags.chars().find(|c| !"gis".contains(*c)) {
            return Err(format!("there is no flag `{flag}`"));
        }
        let regex = RegexBuilder::new(expression).case_insensitive(flags.contains('i')).build();
        let regex = regex.map_err(|_| format!("`{expression}` is no expression"))?;
        Ok(Self { group: group.trim().to_owned(), regex, replacement: replacement.to_owned() })
    }

    /// Another name and labels for a statistic of the group.
    pub(crate) fn apply(&self, group: &str, name: &str) -> Option<(String, String)> {
        let found = self.regex.captures(name).filter(|_| self.group == group)?;
        let mut out = String::new();
        let mut chars = self.replacement.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some(digit @ '0'..='9') => {
                        let number = digit.to_digit(10).unwrap_or(0) as usize;
                        out.push_str(found.get(number).map_or("", |m| m.as_str()));
                    }
                    other => out.extend(other),
                },
                c => out.push(c),
            }
        }
        let (name, labels) = out.split_once(':')?;
        Some((name.to_owned(), labels.to_owned()))
    }
}

/// Judges a literal.
pub(crate) fn check(text: &str) -> Result<(), String> {
    Rule::parse(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_of_a_name_become_labels() {
        let rule = Rule::parse("usrloc: /^(.*)-(.*)$/\\2:domain=\"\\1\"/").unwrap();
        let wanted = Some(("users".into(), "domain=\"location\"".into()));
        assert_eq!(rule.apply("usrloc", "location-users"), wanted);
        assert_eq!(rule.apply("tm", "location-users"), None);
        for wrong in ["", "g", "g: /a/", "g: /a/b/", "g: /(/a:b/", "g: /a/b:c/q"] {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:/\\\\1(.*)\" ]{0,24}", name in "[a-c-]{0,8}") {
            if let Ok(rule) = Rule::parse(&text) {
                rule.apply("a", &name);
            }
        }
    }
}
