//! `{re.subst,/expression/replacement/flags}`

use bytes::Bytes;
use regex::bytes::{Captures, Regex};

use super::{Run, TransformSig, special};
use crate::program::VarId;
use crate::vm::compile_posix;

pub(super) const TABLE: &[TransformSig] =
    &[special("re.subst", (1, 1, 0), Run::Subst, "/expression/replacement/flags; flags g, i, s")];

/// Longest text that a substitution builds.
const RESULT_BYTES_MAX: usize = 256 << 10;

/// An expression, what replaces it, and how often.
#[derive(Clone, Debug)]
pub struct Subst {
    regex: Regex,
    all: bool,
    pub(crate) replacement: Vec<Piece>,
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(Bytes),
    /// `\1`; 0 is the whole match.
    Group(usize),
    Var(VarId),
}

/// The parts of `/expression/replacement/flags`, by the bytes where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) pattern: (usize, usize),
    pub(crate) replacement: (usize, usize),
    pub(crate) flags: (usize, usize),
}

/// Splits at the first character, which may be any; with a backslash it is a plain one.
pub(crate) fn split(text: &[u8]) -> Result<Parts, &'static str> {
    let start = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let Some(&delimiter) = text.get(start) else { return Err("the expression is empty") };
    if delimiter.is_ascii_alphanumeric() || delimiter == b'\\' {
        return Err("it is written /expression/replacement/flags");
    }
    let next = |from: usize| {
        let mut at = from;
        while let Some(b) = text.get(at) {
            match b {
                b'\\' => at += 2,
                b if *b == delimiter => return Ok(at),
                _ => at += 1,
            }
        }
        Err("it is written /expression/replacement/flags: a delimiter is missing")
    };
    let first = next(start + 1)?;
    let second = next(first + 1)?;
    let pattern = (start + 1, first);
    Ok(Parts { pattern, replacement: (first + 1, second), flags: (second + 1, text.len()) })
}

impl Parts {
    pub(crate) fn of(range: (usize, usize), text: &[u8]) -> &[u8] {
        text.get(range.0..range.1).unwrap_or_default()
    }
}

impl Subst {
    /// Compiles the expression of `text`; the replacement is left to the caller, since it may
    /// hold variables.
    pub(crate) fn compile(text: &[u8], parts: &Parts) -> Result<Self, String> {
        let (mut all, mut ignore_case, mut by_line) = (false, false, true);
        for flag in Parts::of(parts.flags, text).trim_ascii() {
            match flag {
                b'g' => all = true,
                b'i' => ignore_case = true,
                b's' => by_line = false,
                other => return Err(format!("unknown flag `{}`: g, i and s", *other as char)),
            }
        }
        let pattern = Parts::of(parts.pattern, text);
        let regex = compile_posix(pattern, ignore_case, by_line)
            .map_err(|e| format!("not a valid expression: {e}"))?;
        Ok(Self { regex, all, replacement: Vec::new() })
    }

    /// Compiles an expression that is known at run time only: nothing in it is a variable.
    pub(crate) fn plain(text: &[u8]) -> Result<Self, String> {
        let parts = split(text)?;
        let mut subst = Self::compile(text, &parts)?;
        subst.add_text(Parts::of(parts.replacement, text));
        Ok(subst)
    }

    /// Adds text of the replacement, with `\1` and escapes in it.
    pub(crate) fn add_text(&mut self, text: &[u8]) {
        let mut plain = Vec::new();
        let mut bytes = text.iter().copied();
        while let Some(b) = bytes.next() {
            let escaped = if b == b'\\' { bytes.next() } else { None };
            match escaped {
                Some(digit @ b'0'..=b'9') => {
                    if !plain.is_empty() {
                        self.replacement.push(Piece::Text(std::mem::take(&mut plain).into()));
                    }
                    self.replacement.push(Piece::Group(usize::from(digit - b'0')));
                }
                Some(b'n') => plain.push(b'\n'),
                Some(b'r') => plain.push(b'\r'),
                Some(b't') => plain.push(b'\t'),
                Some(other) => plain.push(other),
                None => plain.push(b),
            }
        }
        if !plain.is_empty() {
            self.replacement.push(Piece::Text(plain.into()));
        }
    }

    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// How many matches are replaced, at most.
    pub fn times(&self) -> usize {
        if self.all { usize::MAX } else { 1 }
    }

    /// The values of the variables in the replacement, for [`Subst::replaced`].
    pub fn values(&self, mut value: impl FnMut(VarId) -> Bytes) -> Vec<Bytes> {
        let value = |p: &Piece| if let Piece::Var(var) = p { value(*var) } else { Bytes::new() };
        self.replacement.iter().map(value).collect()
    }

    /// What a match becomes.
    pub fn replaced(&self, found: &Captures<'_>, values: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        self.replace(found, values, &mut out);
        out.truncate(RESULT_BYTES_MAX);
        out
    }

    /// The text with its matches replaced; `value` gives the values of variables.
    pub(crate) fn apply(&self, text: &[u8], value: impl FnMut(VarId) -> Bytes) -> Vec<u8> {
        let values = self.values(value);
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        for found in self.regex.captures_iter(text).take(self.times()) {
            let Some(whole) = found.get(0) else { break };
            out.extend_from_slice(text.get(at..whole.start()).unwrap_or_default());
            self.replace(&found, &values, &mut out);
            at = whole.end();
            if out.len() > RESULT_BYTES_MAX {
                break;
            }
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out.truncate(RESULT_BYTES_MAX);
        out
    }

    fn replace(&self, found: &Captures<'_>, values: &[Bytes], out: &mut Vec<u8>) {
        for (piece, value) in self.replacement.iter().zip(values) {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Group(n) => {
                    out.extend_from_slice(found.get(*n).map_or(&[][..], |m| m.as_bytes()));
                }
                Piece::Var(_) => out.extend_from_slice(value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subst(expression: &str, text: &str) -> String {
        let subst = Subst::plain(expression.as_bytes()).expect(expression);
        let out = subst.apply(text.as_bytes(), |_| Bytes::new());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn expressions_replace_once_or_all_with_groups() {
        assert_eq!(subst("/a/A/", "aba"), "Aba");
        assert_eq!(subst("/a/A/g", "aba"), "AbA");
        assert_eq!(subst("/A/x/ig", "aba"), "xbx");
        assert_eq!(subst("/^([0-9]{2})(.*)$/\\2-\\1-\\0/", "49301"), "301-49-49301");
        assert_eq!(subst("|/|:|g", "a/b/c"), "a:b:c");
        assert_eq!(subst("/\\//:/g", "a/b"), "a:b");
        assert_eq!(subst("/\\,/;/g", "a,b,c"), "a;b;c");
        assert_eq!(subst("/x*/-/g", "ab"), "-a-b-");
        assert_eq!(subst("/nothing/y/g", "ab"), "ab");
    }

    #[test]
    fn lines_bound_a_match_unless_flag_s_is_given() {
        assert_eq!(subst("/^.*Call:([a-z]+).*$/\\1/", "x\r\nCall:ab c\r\ny"), "x\r\nab\ny");
        assert_eq!(subst("/^.*Call:([a-z]+).*$/\\1/s", "x\r\nCall:ab c\r\ny"), "ab");
    }

    #[test]
    fn what_is_no_expression_says_so() {
        for wrong in ["", "abc", "/a/b", "/a", "/(/b/", "/a/b/q"] {
            assert!(Subst::plain(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
