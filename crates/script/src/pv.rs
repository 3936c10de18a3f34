//! The inside of a variable: `$(<reply>avp(x)[0]{s.len})`, as text ranges.

use crate::host::Context;
use crate::transform::{self, Run, TransformSig};

/// A mistake in a variable, at bytes of the text it was read from.
#[derive(Debug)]
pub(crate) struct PvError {
    pub(crate) message: String,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// A piece of text and where it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// End of the variable in the text.
    pub(crate) end: usize,
    pub(crate) context: Context,
    pub(crate) name: Piece<'a>,
    pub(crate) inner: Option<Piece<'a>>,
    pub(crate) index: Option<Piece<'a>>,
    pub(crate) transforms: Vec<Piece<'a>>,
}

/// Transformations of one variable.
const TRANSFORMS_MAX: usize = 32;

/// Reads the variable that starts with the `$` at `at`. `takes_name` says whether `(` after a
/// plain `$name` belongs to it.
pub(crate) fn spec<'a>(
    text: &'a [u8],
    at: usize,
    takes_name: impl Fn(&str) -> bool,
) -> Result<Spec<'a>, PvError> {
    let mut reader = Reader { text, at: at + 1 };
    if reader.peek() != Some(b'(') {
        let name = reader.name(at)?;
        let mut inner = None;
        let known = std::str::from_utf8(name.text).is_ok_and(takes_name);
        if reader.peek() == Some(b'(') && known {
            inner = Some(reader.enclosed(b'(', b')')?);
        }
        let (context, index) = (Context::Current, None);
        return Ok(Spec { end: reader.at, context, name, inner, index, transforms: Vec::new() });
    }
    reader.at += 1;
    reader.blanks();
    let context = reader.context()?;
    reader.blanks();
    let name = reader.name(at)?;
    let mut spec = Spec { end: 0, context, name, inner: None, index: None, transforms: Vec::new() };
    loop {
        reader.blanks();
        let start = reader.at;
        match reader.peek() {
            Some(b'(') if spec.inner.is_none() && spec.index.is_none() => {
                spec.inner = Some(reader.enclosed(b'(', b')')?);
            }
            Some(b'[') if spec.index.is_none() && spec.transforms.is_empty() => {
                spec.index = Some(reader.enclosed(b'[', b']')?);
            }
            Some(b'{') if spec.transforms.len() < TRANSFORMS_MAX => {
                spec.transforms.push(reader.enclosed(b'{', b'}')?);
            }
            Some(b')') => {
                spec.end = reader.at + 1;
                return Ok(spec);
            }
            _ => {
                let message = "expected `)`, `[` or `{` in this variable".to_owned();
                return Err(PvError { message, at: start.min(text.len()), len: 1 });
            }
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b == b' ' || b == b'\t') {
            self.at += 1;
        }
    }

    fn piece(&self, from: usize, to: usize) -> Piece<'a> {
        Piece { text: self.text.get(from..to).unwrap_or(&[]), at: from }
    }

    fn context(&mut self) -> Result<Context, PvError> {
        if self.peek() != Some(b'<') {
            return Ok(Context::Current);
        }
        let start = self.at;
        let word = self.enclosed(b'<', b'>')?;
        match word.text {
            b"request" => Ok(Context::Request),
            b"reply" => Ok(Context::Reply),
            _ => {
                let message = "the context is <request> or <reply>".to_owned();
                Err(PvError { message, at: start, len: self.at - start })
            }
        }
    }

    fn name(&mut self, dollar: usize) -> Result<Piece<'a>, PvError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
            self.at += 1;
        }
        // A dot at the end is the end of a sentence.
        while self.at > start && self.text.get(self.at - 1) == Some(&b'.') {
            self.at -= 1;
        }
        if self.at == start {
            let message = "a variable needs a name after `$`; a plain `$` is written `$$`";
            return Err(PvError { message: message.to_owned(), at: dollar, len: 1 });
        }
        Ok(self.piece(start, self.at))
    }

    /// What stands between a pair of brackets, which may nest.
    fn enclosed(&mut self, open: u8, close: u8) -> Result<Piece<'a>, PvError> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            self.at += 1;
            if b == open {
                depth += 1;
            } else if b == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(self.piece(start + 1, self.at - 1));
                }
            }
        }
        let message = format!("this `{}` is not closed", open as char);
        Err(PvError { message, at: start, len: 1 })
    }
}

/// The name of a transformation in lower case, and its selector: `nameaddr.2.uri` is
/// `nameaddr.uri` of entry 2. An older name is replaced by the present one.
pub(crate) fn transform_name(piece: Piece<'_>) -> (String, i32) {
    let head = piece.text.split(|b| *b == b',').next().unwrap_or_default();
    let written = String::from_utf8_lossy(head).trim().to_ascii_lowercase();
    let mut parts = written.splitn(3, '.');
    if let (Some(class), Some(at), Some(rest)) = (parts.next(), parts.next(), parts.next())
        && let Ok(at) = at.parse()
    {
        return (format!("{class}.{rest}"), at);
    }
    let old = transform::OLD_NAMES.iter().find(|(old, _)| *old == written);
    (old.map_or(written, |(_, new)| (*new).to_owned()), 0)
}

/// The arguments of a transformation: what stands between commas outside of parentheses. The
/// last one of some goes to the end.
pub(crate) fn transform_args<'a>(piece: Piece<'a>, sig: &TransformSig) -> Vec<Piece<'a>> {
    let greedy = matches!(sig.run, Run::Greedy(_) | Run::Subst);
    let most = if greedy { usize::from(sig.args_max) } else { usize::MAX };
    let mut commas = Vec::new();
    let mut depth = 0usize;
    for (i, b) in piece.text.iter().enumerate() {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 && commas.len() < most => commas.push(i),
            _ => {}
        }
    }
    let ends = commas.iter().skip(1).copied().chain([piece.text.len()]);
    let cut = |(comma, end): (&usize, usize)| Piece {
        text: piece.text.get(comma + 1..end).unwrap_or(&[]),
        at: piece.at + comma + 1,
    };
    commas.iter().zip(ends).map(cut).collect()
}
