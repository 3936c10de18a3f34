//! Text to tokens, includes resolved on the way.

use crate::diag::Diag;
use crate::preprocessed;
use crate::source::{Loaded, Loader, SourceMap, Span};

/// Files within files.
const INCLUDE_DEPTH_MAX: usize = 50;
/// Inclusions in all; without it two includes per level would make 2^50.
const INCLUDES_MAX: usize = 2000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    Ident,
    /// Starts with a digit; the value is read where a number is wanted.
    Num,
    /// The value with escapes processed; `raw` for single quotes.
    Str {
        value: Vec<u8>,
        raw: bool,
    },
    /// From `$` on.
    Var,
    Punct(&'static str),
    Eof,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) span: Span,
    /// First token of its line.
    pub(crate) first: bool,
}

/// Longest first.
const PUNCTS: &[&str] = &[
    "<<", ">>", "&&", "||", "==", "!=", "=~", "!~", "<=", ">=", ":=", "+=", "-=", "*=", "/=", "%=",
    "&=", "|=", "^=", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "(", ")",
    "[", "]", "{", "}", ";", ",", ":", ".", "@",
];

/// Reads the main file and everything it includes. The last token is always [`Tok::Eof`].
pub(crate) fn tokens(
    files: &mut impl Loader,
    main: &str,
    map: &mut SourceMap,
    diags: &mut Vec<Diag>,
) -> Vec<Token> {
    let mut out = Vec::new();
    match files.load(main, None) {
        Ok(loaded) => match parts(loaded, map) {
            Some(parts) => {
                let mut lexer = Lexer { files, map, diags, out: &mut out, endless: false };
                for file in parts {
                    lexer.file(file, 0);
                }
                if lexer.endless {
                    // What was read so many times over would only repeat its own mistakes.
                    out.clear();
                }
            }
            None => diags.push(too_much(Span::default())),
        },
        Err(why) => {
            let message = format!("cannot read `{main}`: {why}");
            diags.push(Diag::error("E0001", Span::default(), message));
        }
    }
    // A script that a preprocessor wrote ends with its last part.
    let main = |f: &&crate::source::SourceFile| f.included_at.is_none();
    let end = map.files.iter().rev().find(main).map_or(0, |f| f.base + f.text.len() as u32);
    out.push(Token { tok: Tok::Eof, span: Span { lo: end, hi: end }, first: true });
    out
}

/// The main file; several parts if a preprocessor wrote it.
fn parts(loaded: Loaded, map: &mut SourceMap) -> Option<Vec<usize>> {
    if preprocessed::is(&loaded.text) {
        return preprocessed::split(&loaded.name, &loaded.text, map);
    }
    map.add(loaded.name, loaded.text, None).map(|file| vec![file])
}

fn too_much(span: Span) -> Diag {
    Diag::error("E0002", span, "the script is larger than 64 MiB with its includes")
}

struct Lexer<'a, L> {
    files: &'a mut L,
    map: &'a mut SourceMap,
    diags: &'a mut Vec<Diag>,
    out: &'a mut Vec<Token>,
    /// Files include each other without end.
    endless: bool,
}

impl<L: Loader> Lexer<'_, L> {
    fn file(&mut self, file: usize, depth: usize) {
        let Some(source) = self.map.files.get(file) else { return };
        let (text, base) = (source.text.clone(), source.base);
        let mut cursor = Cursor { text: &text, at: 0, base, long_string: None };
        let mut first = true;
        loop {
            first |= cursor.blanks(self.diags);
            let start = cursor.at;
            let Some(byte) = cursor.peek(0) else { return };
            let tok = match byte {
                b'"' => cursor.double_quoted(self.diags),
                b'\'' => cursor.single_quoted(self.diags),
                b'$' => cursor.variable(self.diags),
                b'0'..=b'9' => cursor.word(Tok::Num),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => cursor.word(Tok::Ident),
                _ => cursor.punct(self.diags),
            };
            let Some(tok) = tok else { continue };
            let span = cursor.span(start);
            let word = text.get(start..cursor.at).unwrap_or(&[]);
            if first && tok == Tok::Ident && matches!(word, b"include_file" | b"import_file") {
                self.include(&mut cursor, span, file, depth);
                continue;
            }
            self.out.push(Token { tok, span, first });
            first = false;
        }
    }

    fn include(&mut self, cursor: &mut Cursor<'_>, word: Span, file: usize, depth: usize) {
        cursor.blanks(self.diags);
        let start = cursor.at;
        let path = match cursor.peek(0) {
            Some(b'"') => cursor.double_quoted(self.diags),
            Some(b'\'') => cursor.single_quoted(self.diags),
            _ => None,
        };
        let span = word.to(cursor.span(start));
        let Some(Tok::Str { value, .. }) = path else {
            self.diags.push(Diag::error("E0003", word, "a quoted file name is expected here"));
            return;
        };
        if self.endless {
            return;
        }
        if depth + 1 > INCLUDE_DEPTH_MAX || self.map.files.len() >= INCLUDES_MAX {
            self.endless = true;
            let text = format!("files are included deeper than {INCLUDE_DEPTH_MAX} levels");
            let help = "does a file include itself?";
            self.diags.push(Diag::error("E0004", span, text).help(help));
            return;
        }
        let path = String::from_utf8_lossy(&value).into_owned();
        let from = self.map.files.get(file).map(|f| f.name.clone());
        match self.files.load(&path, from.as_deref()) {
            Ok(loaded) => match self.map.add(loaded.name, loaded.text, Some(span)) {
                Some(file) => self.file(file, depth + 1),
                None => self.diags.push(too_much(span)),
            },
            Err(why) => {
                let text = format!("cannot include `{path}`: {why}");
                self.diags.push(Diag::error("E0005", span, text));
            }
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    base: u32,
    /// The first string of the file that spans lines: if one is never closed, it is likely this.
    long_string: Option<Span>,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn span(&self, start: usize) -> Span {
        Span { lo: self.base + start as u32, hi: self.base + self.at as u32 }
    }

    /// Skips white space and comments; whether a line end was among them.
    fn blanks(&mut self, diags: &mut Vec<Diag>) -> bool {
        let mut line_end = false;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'\n'), _) => {
                    line_end = true;
                    self.at += 1;
                }
                (Some(b' ' | b'\t' | b'\r' | 0x0b | 0x0c), _) => self.at += 1,
                (Some(b'\\'), Some(b'\n')) => self.at += 2,
                (Some(b'\\'), Some(b'\r')) if self.peek(2) == Some(b'\n') => self.at += 3,
                (Some(b'#'), _) => {
                    while self.peek(0).is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                }
                (Some(b'/'), Some(b'*')) => self.comment(diags),
                _ => return line_end,
            }
        }
    }

    fn comment(&mut self, diags: &mut Vec<Diag>) {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    let open =
                        Span { lo: self.base + start as u32, hi: self.base + start as u32 + 2 };
                    let text = "this comment is never closed";
                    diags.push(Diag::error("E0006", open, text).help("comments nest"));
                    return;
                }
            }
        }
    }

    fn word(&mut self, tok: Tok) -> Option<Tok> {
        while self.peek(0).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.at += 1;
        }
        Some(tok)
    }

    fn punct(&mut self, diags: &mut Vec<Diag>) -> Option<Tok> {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        if let Some(p) = PUNCTS.iter().find(|p| rest.starts_with(p.as_bytes())) {
            self.at += p.len();
            return Some(Tok::Punct(p));
        }
        let start = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(|b| b & 0xc0 == 0x80) {
            self.at += 1;
        }
        let shown = String::from_utf8_lossy(self.text.get(start..self.at).unwrap_or(&[]));
        let message = format!("`{}` means nothing here", shown.escape_debug());
        diags.push(Diag::error("E0007", self.span(start), message));
        None
    }

    fn single_quoted(&mut self, diags: &mut Vec<Diag>) -> Option<Tok> {
        let start = self.at;
        self.at += 1;
        while let Some(b) = self.peek(0) {
            self.at += 1;
            if b == b'\'' {
                self.note_long(start);
                let value = self.text.get(start + 1..self.at - 1).unwrap_or(&[]).to_vec();
                return Some(Tok::Str { value, raw: true });
            }
        }
        self.unclosed(start, diags)
    }

    fn unclosed(&self, start: usize, diags: &mut Vec<Diag>) -> Option<Tok> {
        let lo = self.base + start as u32;
        let diag = match self.long_string {
            // Its end is the start of another one, and so on down to the end of the file.
            Some(long) => {
                Diag::error("E0008", long, "this string goes on over the end of its line")
                    .related(Span { lo, hi: lo + 1 }, "and so this one is never closed")
                    .help("is its closing quote missing?")
            }
            None => Diag::error("E0008", Span { lo, hi: lo + 1 }, "this string is never closed"),
        };
        diags.push(diag);
        None
    }

    /// Remembers a string that spans lines, by its opening quote.
    fn note_long(&mut self, start: usize) {
        let inside = self.text.get(start..self.at).unwrap_or_default();
        if self.long_string.is_none() && inside.contains(&b'\n') {
            let lo = self.base + start as u32;
            self.long_string = Some(Span { lo, hi: lo + 1 });
        }
    }

    fn double_quoted(&mut self, diags: &mut Vec<Diag>) -> Option<Tok> {
        let start = self.at;
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.peek(0) {
                None => return self.unclosed(start, diags),
                Some(b'"') => {
                    self.at += 1;
                    self.note_long(start);
                    return Some(Tok::Str { value, raw: false });
                }
                _ => {
                    let rest = self.text.get(self.at..).unwrap_or(&[]);
                    let (bytes, len) = escape(rest);
                    value.extend(bytes);
                    self.at += len;
                }
            }
        }
    }

    /// Outside parentheses a variable ends at white space, a separator or an operator.
    fn variable(&mut self, diags: &mut Vec<Diag>) -> Option<Tok> {
        let start = self.at;
        self.at += 1;
        let mut depth = 0usize;
        while let Some(b) = self.peek(0) {
            match b {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\n' if depth > 0 => {
                    let text = "a parenthesis of this variable is not closed";
                    diags.push(Diag::error("E0009", self.span(start), text));
                    return None;
                }
                _ if depth > 0 => {}
                b'"' | b'\'' | b'{' | b'}' | b'[' | b']' | b'#' | b'\\' => break,
                b';' | b',' | b')' | b'=' | b':' | b'+' | b'-' | b'*' | b'/' | b'%' | b'&'
                | b'|' | b'^' | b'~' | b'<' | b'>' | b'!' => break,
                b if b.is_ascii_whitespace() => break,
                _ => {}
            }
            self.at += 1;
        }
        if depth > 0 {
            let text = "a parenthesis of this variable is not closed";
            diags.push(Diag::error("E0009", self.span(start), text));
            return None;
        }
        Some(Tok::Var)
    }
}

/// One character of a double-quoted string: its value (nothing for a line continuation) and how
/// many bytes of source it takes.
fn escape(rest: &[u8]) -> (Option<u8>, usize) {
    let at = |i: usize| rest.get(i).copied();
    let octal = |i: usize| at(i).filter(|b| (b'0'..=b'7').contains(b)).map(|b| b - b'0');
    let hex = |i: usize| at(i).and_then(|b| (b as char).to_digit(16)).map(|d| d as u8);
    match (at(0), at(1)) {
        (Some(b'\\'), Some(next)) => match next {
            b'n' => (Some(b'\n'), 2),
            b'r' => (Some(b'\r'), 2),
            b'a' => (Some(7), 2),
            b't' => (Some(b'\t'), 2),
            b'"' | b'\\' => (Some(next), 2),
            b'\n' => (None, 2),
            b'x' => match (hex(2), hex(3)) {
                (Some(h), Some(l)) => (Some(h << 4 | l), 4),
                _ => (Some(b'\\'), 1),
            },
            _ => match (octal(1), octal(2), octal(3)) {
                (Some(a), Some(b), Some(c)) if a < 4 => (Some(a << 6 | b << 3 | c), 4),
                (Some(a), Some(b), _) => (Some(a << 3 | b), 3),
                _ => (Some(b'\\'), 1),
            },
        },
        (Some(b), _) => (Some(b), 1),
        (None, _) => (None, 1),
    }
}

/// Where byte `offset` of a string's value stands in its source `text` (quotes included).
pub(crate) fn source_offset(text: &[u8], raw: bool, offset: usize) -> usize {
    if raw {
        return offset + 1;
    }
    let (mut at, mut seen) = (1, 0);
    while seen < offset && at < text.len() {
        let (byte, len) = escape(text.get(at..).unwrap_or(&[]));
        seen += usize::from(byte.is_some());
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::Loaded;

    struct One(&'static str);

    impl Loader for One {
        fn load(&mut self, path: &str, _: Option<&str>) -> Result<Loaded, String> {
            Ok(Loaded { name: path.to_owned(), text: self.0.as_bytes().to_vec() })
        }
    }

    fn lexed(text: &'static str) -> Vec<String> {
        let (mut map, mut diags) = (SourceMap::default(), Vec::new());
        let tokens = tokens(&mut One(text), "t", &mut map, &mut diags);
        assert!(diags.is_empty(), "{diags:?}");
        tokens.iter().map(|t| String::from_utf8_lossy(map.text(t.span)).into_owned()).collect()
    }

    #[test]
    fn variables_end_at_operators_outside_parentheses() {
        assert_eq!(lexed("$var(x)=~2"), ["$var(x)", "=~", "2", ""]);
        assert_eq!(lexed("$rU!=$(ru{s.len})-1"), ["$rU", "!=", "$(ru{s.len})", "-", "1", ""]);
        assert_eq!(lexed("f($avp(a b),$ru);"), ["f", "(", "$avp(a b)", ",", "$ru", ")", ";", ""]);
    }

    #[test]
    fn comments_nest_and_lines_continue() {
        assert_eq!(lexed("a /* x /* y */ z */ b # c\nd \\\n e"), ["a", "b", "d", "e", ""]);
    }

    #[test]
    fn escapes_give_bytes_and_keep_back_references() {
        let (mut map, mut diags) = (SourceMap::default(), Vec::new());
        let text = r#""\n\x41\101\1\\\"\a\/" '\n'"#;
        let tokens = tokens(&mut One(text), "t", &mut map, &mut diags);
        let values: Vec<_> = tokens
            .iter()
            .filter_map(|t| if let Tok::Str { value, .. } = &t.tok { Some(value) } else { None })
            .collect();
        assert_eq!(values[0], b"\nAA\\1\\\"\x07\\/");
        assert_eq!(values[1], b"\\n");
    }

    proptest! {
        #[test]
        fn spans_of_tokens_lie_in_order_inside_the_text(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            struct Any(Vec<u8>);
            impl Loader for Any {
                fn load(&mut self, path: &str, from: Option<&str>) -> Result<Loaded, String> {
                    if from.is_some() {
                        return Err("one file only".to_owned());
                    }
                    Ok(Loaded { name: path.to_owned(), text: self.0.clone() })
                }
            }
            let len = bytes.len() as u32;
            let (mut map, mut diags) = (SourceMap::default(), Vec::new());
            let tokens = tokens(&mut Any(bytes), "t", &mut map, &mut diags);
            let mut at = 0;
            for token in &tokens {
                prop_assert!(token.span.lo >= at && token.span.hi >= token.span.lo);
                prop_assert!(token.span.hi <= len);
                at = token.span.hi;
            }
        }
    }
}
