//! Tokens to tree, with many mistakes reported in one pass.

mod expr;
mod item;
mod stmt;

pub(crate) use expr::parse_net;

use crate::ast::{Ident, Item, Text};
use crate::diag::Diag;
use crate::lex::{Tok, Token};
use crate::source::{SourceMap, Span};

/// Blocks within blocks, parentheses within parentheses. Guards the stack.
const DEPTH_MAX: usize = 150;

pub(crate) fn parse(tokens: &[Token], map: &SourceMap, diags: &mut Vec<Diag>) -> Vec<Item> {
    Parser { tokens, map, diags, at: 0, depth: 0, loops: 0 }.items()
}

pub(crate) struct Parser<'a> {
    tokens: &'a [Token],
    map: &'a SourceMap,
    diags: &'a mut Vec<Diag>,
    at: usize,
    depth: usize,
    /// Loops and switches around the current statement.
    loops: usize,
}

impl Parser<'_> {
    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get((self.at + ahead).min(self.tokens.len().saturating_sub(1)))
    }

    fn tok(&self) -> &Tok {
        self.token(0).map_or(&Tok::Eof, |t| &t.tok)
    }

    fn span(&self) -> Span {
        self.token(0).map_or(Span::default(), |t| t.span)
    }

    fn previous(&self) -> Span {
        let before = self.at.checked_sub(1).and_then(|i| self.tokens.get(i));
        before.map_or_else(|| self.span(), |t| t.span)
    }

    fn advance(&mut self) -> Span {
        let span = self.span();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        span
    }

    fn at_end(&self) -> bool {
        *self.tok() == Tok::Eof
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        let token = self.token(ahead).filter(|t| t.tok == Tok::Ident)?;
        std::str::from_utf8(self.map.text(token.span)).ok()
    }

    fn is_word(&self, word: &str) -> bool {
        self.word(0) == Some(word)
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.tok(), Tok::Punct(p) if *p == punct)
    }

    fn is_ahead(&self, ahead: usize, punct: &str) -> bool {
        self.token(ahead).is_some_and(|t| matches!(t.tok, Tok::Punct(p) if p == punct))
    }

    fn take(&mut self, punct: &str) -> bool {
        let found = self.is(punct);
        if found {
            self.advance();
        }
        found
    }

    /// The current token in words.
    fn found(&self) -> String {
        if self.at_end() {
            return "the end of the file".to_owned();
        }
        let text = String::from_utf8_lossy(self.map.text(self.span())).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let short: String = first.chars().take(40).collect();
        format!("`{short}`")
    }

    fn unexpected(&mut self, wanted: &str) {
        let text = format!("expected {wanted}, found {}", self.found());
        let span = self.span();
        self.diags.push(Diag::error("E0101", span, text));
    }

    fn expect(&mut self, punct: &str) -> Option<Span> {
        if self.is(punct) {
            return Some(self.advance());
        }
        if matches!(punct, ";" | ")" | "]") {
            // What is missing belongs behind what came before.
            let hi = self.previous().hi;
            let span = Span { lo: hi.saturating_sub(1), hi };
            let text = format!("`{punct}` is missing before {}", self.found());
            self.diags.push(Diag::error("E0109", span, text).label(format!("add `{punct}` here")));
        } else {
            self.unexpected(&format!("`{punct}`"));
        }
        None
    }

    fn ident(&mut self, wanted: &str) -> Option<Ident> {
        let Some(name) = self.word(0).map(str::to_owned) else {
            self.unexpected(wanted);
            return None;
        };
        Some(Ident { name, span: self.advance() })
    }

    fn text(&mut self, wanted: &str) -> Option<Text> {
        let Tok::Str { value, raw } = self.tok().clone() else {
            self.unexpected(wanted);
            return None;
        };
        Some(Text { value, raw, span: self.advance() })
    }

    /// Adjacent strings are one.
    fn texts(&mut self, wanted: &str) -> Option<Text> {
        let mut text = self.text(wanted)?;
        while matches!(self.tok(), Tok::Str { .. }) {
            let more = self.text(wanted)?;
            text.value.extend(more.value);
            text.span = text.span.to(more.span);
            text.raw = true;
        }
        Some(text)
    }

    fn is_int(&self) -> bool {
        let signed = matches!(self.tok(), Tok::Punct("-" | "+"));
        let number = self.token(usize::from(signed)).is_some_and(|t| t.tok == Tok::Num);
        number || self.word(0).is_some_and(|w| boolean(w).is_some())
    }

    /// A number, with its sign; `yes` and `off` are numbers.
    fn int(&mut self) -> Option<(i32, Span)> {
        if let Some(value) = self.word(0).and_then(boolean) {
            return Some((value, self.advance()));
        }
        let start = self.span();
        let negative = self.is("-");
        if negative || self.is("+") {
            self.advance();
        }
        if *self.tok() != Tok::Num {
            self.unexpected("a number");
            return None;
        }
        let raw = String::from_utf8_lossy(self.map.text(self.span())).into_owned();
        let span = start.to(self.advance());
        let value = number(&raw).map(|n| if negative { -n } else { n });
        // 32 bits wrap for hexadecimal masks: 0xffffffff is -1.
        let hex = raw.starts_with("0x") || raw.starts_with("0X");
        let fits = value.and_then(|n| {
            i32::try_from(n)
                .ok()
                .or_else(|| u32::try_from(n).ok().filter(|_| hex).map(|n| n as i32))
        });
        if fits.is_none() {
            let digits = raw.bytes().all(|b| b.is_ascii_digit());
            let text = match value {
                Some(_) => format!("`{raw}` is not a number of 32 bits"),
                None if digits && raw.starts_with('0') => {
                    format!("`{raw}` starts with 0 and is octal: its digits are 0 to 7")
                }
                None if digits || hex => format!("`{raw}` is not a number of 32 bits"),
                None => format!("`{raw}` is no number"),
            };
            self.diags.push(Diag::error("E0103", span, text));
        }
        fits.map(|n| (n, span))
    }

    /// Words, dots and dashes without blanks between: a host that should have been quoted.
    fn dotted(&mut self) -> Option<Span> {
        let start = self.span();
        let mut ahead = 0;
        let mut end = start;
        while let Some(token) = self.token(ahead) {
            let fits =
                matches!(token.tok, Tok::Ident | Tok::Num | Tok::Punct("." | "-" | "@" | ":"));
            if !fits || (ahead > 0 && token.span.lo != end.hi) || ahead > 60 {
                break;
            }
            end = token.span;
            ahead += 1;
        }
        if ahead == 0 {
            return None;
        }
        self.at = (self.at + ahead).min(self.tokens.len().saturating_sub(1));
        Some(start.to(end))
    }

    /// Says that something must be quoted.
    fn unquoted(&mut self, span: Span) {
        let written = String::from_utf8_lossy(self.map.text(span)).into_owned();
        let diag = Diag::error("E0283", span, format!("`{written}` must be quoted"));
        self.diags.push(diag.help(format!("write \"{written}\"")));
    }

    fn name(&mut self) -> Option<Ident> {
        if let Tok::Str { .. } = self.tok() {
            let text = self.text("a name")?;
            return Some(Ident { name: text.lossy(), span: text.span });
        }
        if *self.tok() == Tok::Num {
            let name = String::from_utf8_lossy(self.map.text(self.span())).into_owned();
            return Some(Ident { name, span: self.advance() });
        }
        self.ident("a name")
    }

    /// Runs `inner` one level deeper, unless that is too deep.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEPTH_MAX {
            let span = self.span();
            let text = format!("nested deeper than {DEPTH_MAX} levels");
            self.diags.push(Diag::error("E0104", span, text));
            // Nothing sensible can follow.
            self.at = self.tokens.len().saturating_sub(1);
            return None;
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }
}

pub(crate) fn boolean(word: &str) -> Option<i32> {
    match word {
        "yes" | "true" | "on" | "enable" => Some(1),
        "no" | "false" | "off" | "disable" => Some(0),
        _ => None,
    }
}

fn number(raw: &str) -> Option<i64> {
    if let Some(hex) = raw.strip_prefix("0x").or_else(|| raw.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok();
    }
    if raw.len() > 1 && raw.starts_with('0') {
        return i64::from_str_radix(raw, 8).ok();
    }
    raw.parse().ok()
}
