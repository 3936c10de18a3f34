//! What the compiler has to say, as data, and how it looks as text.

use crate::source::{SourceMap, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Start is refused.
    Error,
    /// Starts; `--strict` makes it an error.
    Warning,
    /// An older spelling, a remark.
    Note,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diag {
    pub severity: Severity,
    /// `E0102`: stable, for search and for suppressing.
    pub code: &'static str,
    pub message: String,
    pub span: Span,
    /// Text beside the underline; may be empty.
    pub label: String,
    pub help: Option<String>,
    /// Further places, each with its text.
    pub related: Vec<(Span, String)>,
}

impl Diag {
    pub fn new(
        severity: Severity,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> Self {
        let (message, label, help, related) = (message.into(), String::new(), None, Vec::new());
        Self { severity, code, message, span, label, help, related }
    }

    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message)
    }

    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message)
    }

    pub fn note(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, span, message)
    }

    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    #[must_use]
    pub fn maybe_help(mut self, text: Option<String>) -> Self {
        self.help = text.or(self.help);
        self
    }

    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push((span, text.into()));
        self
    }
}

/// Steps of an include chain that are printed.
const INCLUDES_SHOWN: usize = 5;

/// All findings as plain text, a blank line between two.
pub fn render_all(diags: &[Diag], map: &SourceMap) -> String {
    diags.iter().map(|d| render(d, map)).collect::<Vec<_>>().join("\n")
}

/// One finding as plain text, the way rustc prints it.
pub fn render(diag: &Diag, map: &SourceMap) -> String {
    let word = match diag.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let mut out = format!("{word}[{}]: {}\n", diag.code, diag.message);
    if map.files.is_empty() {
        return out;
    }
    let line_max = diag.related.iter().map(|(s, _)| s.lo).chain([diag.span.lo]);
    let digits = line_max.map(|lo| map.position(lo).line).max().unwrap_or(1).to_string().len();
    snippet(&mut out, map, diag.span, &diag.label, '^', digits);
    for (span, text) in &diag.related {
        out += &format!("{:digits$} note: {text}\n", "");
        snippet(&mut out, map, *span, "", '-', digits);
    }
    if let Some(help) = &diag.help {
        out += &format!("{:digits$} help: {help}\n", "");
    }
    out
}

fn snippet(out: &mut String, map: &SourceMap, span: Span, label: &str, mark: char, digits: usize) {
    let at = map.position(span.lo);
    let name = map.files.get(at.file).map_or("?", |f| f.name.as_str());
    *out += &format!("{:digits$}--> {name}:{}:{}\n", "", at.line, at.column);
    let mut parent = map.files.get(at.file).and_then(|f| f.included_at);
    let mut shown = 0;
    while let Some(directive) = parent {
        shown += 1;
        if shown > INCLUDES_SHOWN {
            *out += &format!("{:digits$}  = and further files\n", "");
            break;
        }
        let from = map.position(directive.lo);
        let file = map.files.get(from.file);
        let name = file.map_or("?", |f| f.name.as_str());
        *out += &format!("{:digits$}  = included from {name}:{}\n", "", from.line);
        parent = file.and_then(|f| f.included_at);
    }
    let (text, start) = map.line(at.file, at.line);
    let lo = (span.lo - start.min(span.lo)).min(text.len() as u32) as usize;
    let hi = (span.hi.saturating_sub(start) as usize).clamp(lo, text.len());
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\t', "    ");
    let (before, under) = (shown(&text[..lo]), shown(&text[lo..hi]));
    let line = format!("{before}{under}{}", shown(&text[hi..]));
    let marks = mark.to_string().repeat(under.chars().count().max(1));
    let pad = " ".repeat(before.chars().count());
    *out += &format!("{:digits$} |\n{:>digits$} | {}\n", "", at.line, line.trim_end());
    *out += format!("{:digits$} | {pad}{marks} {label}", "").trim_end();
    out.push('\n');
}
