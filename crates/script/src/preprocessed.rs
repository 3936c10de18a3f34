//! Text that a preprocessor wrote: one file that holds all others, with lines between that say
//! where each part came from.
//!
//! `__OSSPP_FILEBEGIN__ "path"`, `__OSSPP_LINE__ N` and `__OSSPP_FILEEND__` stand on lines of
//! their own. Each part becomes a file of the source map, so that a place is that of the script
//! as a person wrote it.

use crate::source::{SourceMap, Span};

const BEGIN: &[u8] = b"__OSSPP_FILEBEGIN__";
const LINE: &[u8] = b"__OSSPP_LINE__";
const END: &[u8] = b"__OSSPP_FILEEND__";

/// Whether a text has the lines of a preprocessor.
pub(crate) fn is(text: &[u8]) -> bool {
    text.starts_with(BEGIN)
        || text.windows(BEGIN.len() + 1).any(|w| w.ends_with(BEGIN) && w.first() == Some(&b'\n'))
}

/// No file has a line beyond it.
const LINE_MAX: u32 = 1 << 30;
/// Files within files; more of them lie flat.
const DEPTH_MAX: usize = 50;

struct Open {
    name: String,
    /// The line of the file that comes next.
    line: u32,
    included_at: Option<Span>,
}

/// Adds the parts of a text to the map and gives their indices in order; `None` when the text
/// is too large.
pub(crate) fn split(name: &str, text: &[u8], map: &mut SourceMap) -> Option<Vec<usize>> {
    let mut open = vec![Open { name: name.to_owned(), line: 1, included_at: None }];
    let mut parts = Vec::new();
    let mut part: Vec<u8> = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        let Some(marker) = marker(line) else {
            part.extend_from_slice(line);
            continue;
        };
        close(&mut part, &mut open, map, &mut parts)?;
        match marker {
            Marker::Begin(name) if open.len() <= DEPTH_MAX => {
                let included_at = end_of_last(map, &parts);
                open.push(Open { name, line: 1, included_at });
            }
            Marker::End if open.len() > 1 => drop(open.pop()),
            Marker::Line(n) => {
                if let Some(top) = open.last_mut() {
                    top.line = n;
                }
            }
            Marker::Begin(_) | Marker::End => {}
        }
    }
    close(&mut part, &mut open, map, &mut parts)?;
    Some(parts)
}

fn close(
    part: &mut Vec<u8>,
    open: &mut [Open],
    map: &mut SourceMap,
    parts: &mut Vec<usize>,
) -> Option<()> {
    let Some(top) = open.last_mut().filter(|_| !part.is_empty()) else { return Some(()) };
    let lines = part.iter().filter(|b| **b == b'\n').count() as u32;
    let index = map.add(top.name.clone(), std::mem::take(part), top.included_at)?;
    if let Some(file) = map.files.get_mut(index) {
        file.lines_before = top.line.saturating_sub(1);
    }
    top.line = top.line.saturating_add(lines);
    parts.push(index);
    Some(())
}

/// The end of the part before, where a file was put in.
fn end_of_last(map: &SourceMap, parts: &[usize]) -> Option<Span> {
    let file = map.files.get(*parts.last()?)?;
    let end = file.base + (file.text.len() as u32).saturating_sub(1);
    Some(Span { lo: end, hi: end })
}

enum Marker {
    Begin(String),
    Line(u32),
    End,
}

fn marker(line: &[u8]) -> Option<Marker> {
    let line = line.trim_ascii();
    if let Some(rest) = line.strip_prefix(BEGIN) {
        let name = String::from_utf8_lossy(rest.trim_ascii()).trim_matches('"').to_owned();
        return Some(Marker::Begin(name));
    }
    if let Some(rest) = line.strip_prefix(LINE) {
        let number = std::str::from_utf8(rest.trim_ascii()).ok()?.parse::<u32>().ok();
        return number.filter(|n| *n <= LINE_MAX).map(Marker::Line);
    }
    (line == END).then_some(Marker::End)
}
