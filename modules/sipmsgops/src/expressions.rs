//! Expressions of arguments: prepared at load, or computed by the script.

use std::sync::Arc;

use regex::bytes::Regex;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::program::Ready;
use tandem_script::vm::compile_posix;

/// The expression of an argument; what is wrong with a computed one is logged.
pub(crate) fn expression(call: &mut Call<'_, '_, '_>, index: usize) -> Option<Arc<Regex>> {
    if let Some(Ready::Regex(ready)) = call.ready(index) {
        return Some(Arc::clone(ready));
    }
    match compile_posix(&call.text(index), true, false) {
        Ok(made) => Some(Arc::new(made)),
        Err(why) => {
            call.complain(Level::Error, format!("no expression: {why}"));
            None
        }
    }
}

/// A shell pattern (`*`, `?`, `[a-z]`) as an expression for whole names, in any case.
pub(crate) fn glob(pattern: &[u8]) -> Option<Regex> {
    let text = std::str::from_utf8(pattern).ok()?;
    let mut out = String::from("^");
    let mut in_set = false;
    for c in text.chars() {
        match c {
            ']' if in_set => {
                in_set = false;
                out.push(']');
            }
            '!' if out.ends_with('[') && in_set => out.push('^'),
            '-' if in_set => out.push('-'),
            _ if in_set => out.push_str(&regex::escape(&c.to_string())),
            '[' => {
                in_set = true;
                out.push('[');
            }
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            _ => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    regex::bytes::RegexBuilder::new(&out).case_insensitive(true).unicode(false).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_for_whole_names() {
        let is = |pattern: &str, name: &str| {
            glob(pattern.as_bytes()).is_some_and(|re| re.is_match(name.as_bytes()))
        };
        assert!(is("X-*", "x-one") && is("*", "Via") && is("P-?sserted*", "P-Asserted-Identity"));
        assert!(is("X-[a-c]", "X-B") && !is("X-[!a-c]", "X-B") && is("X-[!a-c]", "X-D"));
        assert!(!is("X-*", "AX-one") && !is("X.One", "X-One") && !is("X-[", "X-a"));
    }
}
