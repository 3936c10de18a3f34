//! Files of a script, and positions in them across includes.

/// A range of bytes in the concatenation of all loaded files; see [`SourceMap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub lo: u32,
    pub hi: u32,
}

impl Span {
    #[must_use]
    pub fn to(self, end: Self) -> Self {
        Self { lo: self.lo.min(end.lo), hi: self.hi.max(end.hi) }
    }
}

/// What [`Loader::load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The name to show, and to hand back as `from` for the includes of this file.
    pub name: String,
    pub text: Vec<u8>,
}

/// Reads files for the compiler, which does no I/O itself.
pub trait Loader {
    /// Loads `path` as written in the script. `from` is the name of the including file, `None`
    /// for the main file. A relative path is tried against the start directory, then against
    /// the directory of `from`. The error is plain words ("no such file").
    fn load(&mut self, path: &str, from: Option<&str>) -> Result<Loaded, String>;
}

/// One inclusion of a file. A file included twice is there twice.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub name: String,
    pub text: Vec<u8>,
    /// Offset of its first byte in the space of [`Span`].
    pub base: u32,
    /// The `include_file` directive, `None` for the main file.
    pub included_at: Option<Span>,
    /// Lines of the file that come before this text: it is a later part of it.
    pub lines_before: u32,
    line_starts: Vec<u32>,
}

/// A place for people: 1-based line and column (column in characters).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index in [`SourceMap::files`].
    pub file: usize,
    pub line: u32,
    pub column: u32,
}

/// All text of a script.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    pub files: Vec<SourceFile>,
}

/// All text of one script together; protects the `u32` offsets and the memory.
pub const SOURCE_BYTES_MAX: usize = 64 << 20;

impl SourceMap {
    /// Adds a file and gives its index, or `None` when the script would pass
    /// [`SOURCE_BYTES_MAX`].
    pub fn add(&mut self, name: String, text: Vec<u8>, included_at: Option<Span>) -> Option<usize> {
        // One byte between files keeps the end of one apart from the start of the next.
        let base = self.files.last().map_or(0, |f| f.base as usize + f.text.len() + 1);
        if base + text.len() > SOURCE_BYTES_MAX {
            return None;
        }
        let mut line_starts = vec![0];
        line_starts.extend(
            text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i as u32 + 1),
        );
        let (base, lines_before) = (base as u32, 0);
        self.files.push(SourceFile { name, text, base, included_at, lines_before, line_starts });
        Some(self.files.len() - 1)
    }

    /// The file that holds `offset`.
    pub fn file_of(&self, offset: u32) -> Option<usize> {
        self.files.partition_point(|f| f.base <= offset).checked_sub(1)
    }

    /// The bytes of a span; empty when the span is not inside one file.
    pub fn text(&self, span: Span) -> &[u8] {
        let Some(file) = self.file_of(span.lo).and_then(|i| self.files.get(i)) else { return &[] };
        let (lo, hi) = (span.lo - file.base, span.hi.saturating_sub(file.base));
        file.text.get(lo as usize..hi as usize).unwrap_or(&[])
    }

    pub fn position(&self, offset: u32) -> Position {
        let index = self.file_of(offset).unwrap_or(0);
        let Some(file) = self.files.get(index) else {
            return Position { file: 0, line: 1, column: 1 };
        };
        let local = (offset - file.base).min(file.text.len() as u32);
        let line = file.line_starts.partition_point(|s| *s <= local);
        let start = line.checked_sub(1).and_then(|l| file.line_starts.get(l)).copied().unwrap_or(0);
        let before = file.text.get(start as usize..local as usize).unwrap_or(&[]);
        let column = String::from_utf8_lossy(before).chars().count() as u32 + 1;
        Position { file: index, line: line as u32 + file.lines_before, column }
    }

    /// The text of a line (1-based) without its line end, and the offset of its first byte.
    pub fn line(&self, file: usize, line: u32) -> (&[u8], u32) {
        let Some(f) = self.files.get(file) else { return (&[], 0) };
        let line = line.saturating_sub(f.lines_before);
        let start = f.line_starts.get(line.saturating_sub(1) as usize).copied().unwrap_or(0);
        let end = f.line_starts.get(line as usize).map_or(f.text.len(), |e| *e as usize - 1);
        let text = f.text.get(start as usize..end).unwrap_or(&[]);
        (text.strip_suffix(b"\r").unwrap_or(text), f.base + start)
    }
}
