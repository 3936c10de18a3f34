//! What kind of statement a text is: as much of SQL as that takes.

/// The word that says what a statement does, in lower case: the first one, behind comments and
/// opening parentheses, or after `WITH` that of the statement behind the named queries.
pub(crate) fn verb(sql: &str) -> String {
    let mut words = Words { rest: sql, depth: 0 };
    let Some(first) = words.next().filter(|word| word.at_start) else { return String::new() };
    let first = first.text.to_ascii_lowercase();
    if first != "with" {
        return first;
    }
    let depth = words.depth;
    let mut outer = std::iter::from_fn(|| words.next()).filter(|word| word.depth == depth);
    let verb = outer.find(|word| VERBS.iter().any(|verb| word.text.eq_ignore_ascii_case(verb)));
    verb.map_or(first, |word| word.text.to_ascii_lowercase())
}

/// What may stand behind the named queries of `WITH`.
const VERBS: &[&str] = &["select", "insert", "update", "delete", "values", "replace", "merge"];

struct Words<'a> {
    rest: &'a str,
    depth: usize,
}

struct Word<'a> {
    text: &'a str,
    depth: usize,
    /// Nothing but blanks, comments and parentheses stands before it.
    at_start: bool,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        let mut at_start = true;
        loop {
            let first = self.rest.chars().next()?;
            if let Some(behind) = comment(self.rest) {
                self.rest = behind;
                continue;
            }
            if first.is_ascii_alphabetic() || first == '_' {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(Word { text, depth: self.depth, at_start });
            }
            self.rest = self.rest.get(first.len_utf8()..)?;
            match first {
                '(' => self.depth += 1,
                ')' => self.depth = self.depth.saturating_sub(1),
                '\'' | '"' | '`' => {
                    let end = self.rest.find(first)?;
                    self.rest = self.rest.get(end + 1..)?;
                }
                _ => {}
            }
            at_start &= first == '(' || first.is_whitespace();
        }
    }
}

/// What stands behind a comment that begins here. `/*!` is none: MySQL executes what is in it.
fn comment(text: &str) -> Option<&str> {
    let (body, end) = match text {
        _ if text.starts_with("--") || text.starts_with('#') => (text, "\n"),
        _ if text.starts_with("/*!") => return None,
        _ => (text.strip_prefix("/*")?, "*/"),
    };
    Some(body.split_once(end).map_or("", |(_, behind)| behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_found_behind_comments_parentheses_and_named_queries() {
        for (sql, wanted) in [
            ("SELECT 1", "select"),
            ("  (select 1) union (select 2)", "select"),
            ("/* a */ -- b\n# c\nSelect 1", "select"),
            ("call p(1)", "call"),
            ("insert into t(v) select 1", "insert"),
            ("with c as (select 5 as x) select x from c", "select"),
            ("WITH c(a, b) AS (SELECT 1, ')'), d AS (INSERT INTO t VALUES (1)) UPDATE t", "update"),
            ("with recursive c as (select 1) delete from t", "delete"),
            ("with", "with"),
            ("/*! select 1 */", ""),
            ("/* open", ""),
            ("'text' select", ""),
            ("", ""),
        ] {
            assert_eq!(verb(sql), wanted, "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(sql in "[-a-c#/*!'\"`() \\nü]{0,60}", with: bool) {
            verb(&format!("{}{sql}", if with { "with " } else { "" }));
        }
    }
}
