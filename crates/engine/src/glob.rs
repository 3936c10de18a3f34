//! Shell patterns: `*`, `?` and `[a-z]`.

use regex::bytes::{Regex, RegexBuilder};

/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 4_096;

/// Compiles a shell pattern to an expression that matches whole texts.
///
/// # Errors
/// What is wrong with the pattern, in plain words.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes"));
    }
    let mut out = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' if chars.as_str().get(1..).is_some_and(|rest| rest.contains(']')) => {
                out.push('[');
                let mut first = true;
                for c in chars.by_ref() {
                    match c {
                        ']' if !first => break,
                        '!' | '^' if first => out.push('^'),
                        '\\' | '[' | ']' | '&' | '~' => out.extend(['\\', c]),
                        c => out.push(c),
                    }
                    first = first && matches!(c, '!' | '^');
                }
                out.push(']');
            }
            '\\' => out.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    let built = RegexBuilder::new(&out).unicode(false).dot_matches_new_line(true).build();
    built.map_err(|_| format!("`{pattern}` is not a pattern of *, ? and [a-z]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, text, fits) in [
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("a.c", "abc", false),
            ("\\*", "*", true),
            ("[", "[", true),
            ("", "", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text.as_bytes()), fits, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a-c*?!^\\[\\]\\\\~&-]{0,12}", text in "[a-c*]{0,8}") {
            if let Ok(compiled) = compile(&pattern) {
                compiled.is_match(text.as_bytes());
            }
        }
    }
}
