//! Perl-compatible expressions with a bound on their work.

use std::borrow::Cow;

use fancy_regex::{Regex, RegexBuilder};

/// Steps back of one search. A match that needs more is none, and is told.
const BACKTRACKS_MAX: usize = 100_000;
/// Compiled size.
const SIZE_BYTES_MAX: usize = 4 << 20;

/// How an expression is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub caseless: bool,
    pub multiline: bool,
    pub dotall: bool,
    pub extended: bool,
}

impl Flags {
    fn prefix(self) -> String {
        let all =
            [(self.caseless, 'i'), (self.multiline, 'm'), (self.dotall, 's'), (self.extended, 'x')];
        let letters: String = all.iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        if letters.is_empty() { letters } else { format!("(?{letters})") }
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Pcre(Regex);

impl Pcre {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub fn compile(text: &str, flags: Flags) -> Result<Self, String> {
        let built = RegexBuilder::new(&format!("{}{text}", flags.prefix()))
            .backtrack_limit(BACKTRACKS_MAX)
            .delegate_size_limit(SIZE_BYTES_MAX)
            .build();
        let short = |e: fancy_regex::Error| {
            let text = e.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        built.map(Self).map_err(short)
    }

    /// Whether a text has a match.
    ///
    /// # Errors
    /// When the search takes too many steps.
    pub fn is_match(&self, text: &[u8]) -> Result<bool, String> {
        self.0.is_match(&lossy(text)).map_err(|e| e.to_string())
    }

    /// `replacement` with its `\1` and the like filled from the first match; `None` without one.
    ///
    /// # Errors
    /// When the search takes too many steps.
    pub fn expand(&self, text: &[u8], replacement: &str) -> Result<Option<String>, String> {
        let text = lossy(text);
        let found = self.0.captures(&text).map_err(|e| e.to_string())?;
        let Some(found) = found else { return Ok(None) };
        let mut out = String::new();
        let mut chars = replacement.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some(digit @ '0'..='9') => {
                    let group = digit.to_digit(10).unwrap_or(0) as usize;
                    out.push_str(found.get(group).map_or("", |m| m.as_str()));
                }
                Some(other) => out.push(other),
                None => out.push('\\'),
            }
        }
        Ok(Some(out))
    }
}

fn lossy(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compile(text: &str) -> Pcre {
        Pcre::compile(text, Flags::default()).unwrap()
    }

    #[test]
    fn groups_fill_a_replacement_and_what_is_around_the_match_is_left_out() {
        let expand = |re: &str, text: &str, to: &str| compile(re).expand(text.as_bytes(), to);
        assert_eq!(expand("(000)(.+)", "55000123", "8\\2"), Ok(Some("8123".into())));
        assert_eq!(expand("^00(\\d+)$", "0049", "+\\1"), Ok(Some("+49".into())));
        assert_eq!(expand("x", "y", "z"), Ok(None));
        assert_eq!(expand("(a)", "a", "\\9\\\\"), Ok(Some("\\".into())));
    }

    #[test]
    fn a_search_that_never_ends_is_an_error() {
        let nested = compile("^(a+)+(?=b)c");
        assert!(nested.is_match(&[b'a'; 200]).is_err());
        assert_eq!(compile("(a)\\1").is_match(b"aa"), Ok(true));
        assert!(Pcre::compile("(", Flags::default()).is_err());
    }

    proptest! {
        #[test]
        fn no_expression_panics(re in "[a-c().*+?|\\[\\]\\\\d0-9^$]{0,12}", text in "[a-c0-9]{0,12}") {
            if let Ok(compiled) = Pcre::compile(&re, Flags::default()) {
                let _ = (compiled.is_match(text.as_bytes()), compiled.expand(text.as_bytes(), "\\1"));
            }
        }
    }
}
