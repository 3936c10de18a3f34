//! Bodies of several parts (RFC 2046 5.1).

use std::ops::Range;

/// Parts that are looked at, at most.
const PARTS_MAX: usize = 64;

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From its delimiter to the next one.
    pub whole: Range<usize>,
    pub content: Range<usize>,
    /// Type and subtype, without parameters.
    pub mime: Vec<u8>,
}

impl Part {
    /// Names and values of its headers; lines that go on are joined to the one that they go on.
    pub fn headers<'a>(&self, body: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
        let whole = body.get(self.whole.start..self.content.start).unwrap_or_default();
        let head = whole.iter().position(|b| *b == b'\n').map_or(&[][..], |end| &whole[end + 1..]);
        headers(head)
    }
}

/// Where the contents of one type are in a body: the whole of it, or parts.
pub fn contents_of(content_type: &[u8], body: &[u8], mime: &[u8]) -> Vec<Range<usize>> {
    if mime_of(content_type).eq_ignore_ascii_case(mime) {
        return std::iter::once(0..body.len()).collect();
    }
    let Some(boundary) = boundary_of(content_type) else { return Vec::new() };
    let parts = parts(body, &boundary).into_iter();
    parts.filter(|part| part.mime.eq_ignore_ascii_case(mime)).map(|part| part.content).collect()
}

/// The type of a Content-Type without its parameters.
pub fn mime_of(content_type: &[u8]) -> &[u8] {
    content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

/// The boundary, if a Content-Type is that of several parts.
pub fn boundary_of(content_type: &[u8]) -> Option<Vec<u8>> {
    let mime = mime_of(content_type);
    mime.get(..10).filter(|start| start.eq_ignore_ascii_case(b"multipart/"))?;
    let params = content_type.get(content_type.iter().position(|b| *b == b';')?..)?;
    let value = tandem_sip::Params::new(params).value(b"boundary")?;
    Some(tandem_sip::unquote(value).into_owned()).filter(|boundary| !boundary.is_empty())
}

/// The parts of a body.
pub fn parts(body: &[u8], boundary: &[u8]) -> Vec<Part> {
    let marks = delimiters(body, boundary);
    let mut parts = Vec::new();
    for pair in marks.windows(2).take(PARTS_MAX) {
        let [(start, after), (end, _)] = pair else { continue };
        let inner = body.get(*after..*end).unwrap_or_default();
        let (head, content_at) = head(inner);
        // The line end before a delimiter belongs to the delimiter.
        let content = inner.get(content_at..).unwrap_or_default();
        let cut =
            content.strip_suffix(b"\n").map_or(content, |c| c.strip_suffix(b"\r").unwrap_or(c));
        parts.push(Part {
            whole: *start..*end,
            content: after + content_at..after + content_at + cut.len(),
            mime: part_type(head),
        });
    }
    parts
}

/// Where the delimiter lines start, and where they end; the closing one is the last.
fn delimiters(body: &[u8], boundary: &[u8]) -> Vec<(usize, usize)> {
    let mark = [b"--", boundary].concat();
    let mut found = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive(|b| *b == b'\n') {
        let text = line.trim_ascii_end();
        if let Some(rest) = text.strip_prefix(&mark[..]) {
            if rest.is_empty() || rest == b"--" {
                found.push((at, at + line.len()));
            }
            if rest == b"--" {
                break;
            }
        }
        at += line.len();
    }
    found
}

/// The headers of a part, and where its content starts.
fn head(inner: &[u8]) -> (&[u8], usize) {
    let mut at = 0;
    for line in inner.split_inclusive(|b| *b == b'\n') {
        let start = at;
        at += line.len();
        if line.trim_ascii().is_empty() {
            return (inner.get(..start).unwrap_or_default(), at);
        }
    }
    (inner, inner.len())
}

/// Names and values of the lines of a head; a line that starts with a blank belongs to the one
/// before it.
fn headers(head: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut ends: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        match ends.last_mut() {
            Some(end) if line.starts_with(b" ") || line.starts_with(b"\t") => *end = at,
            _ => ends.push(at),
        }
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let lines = starts.zip(&ends).filter_map(|(start, end)| head.get(start..*end));
    let named = lines.filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = line.split_at(colon);
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    });
    named.collect()
}

fn part_type(head: &[u8]) -> Vec<u8> {
    let types = headers(head).into_iter();
    let value =
        types.filter(|(name, _)| name.eq_ignore_ascii_case(b"Content-Type")).map(|(_, v)| v).next();
    // RFC 2046 5.1: a part that does not say is plain text.
    value.map_or(b"text/plain".to_vec(), |value| mime_of(value).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_with_their_types() {
        let body =
            b"preamble\r\n--x\r\nContent-Type: application/sdp;a=b\r\n\r\nv=0\r\n\r\n--x\r\n\
            \r\nplain\r\n--x--\r\nepilogue";
        let found = parts(body, b"x");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].mime, b"application/sdp");
        assert_eq!(&body[found[0].content.clone()], b"v=0\r\n");
        assert_eq!(
            (&found[1].mime[..], &body[found[1].content.clone()]),
            (&b"text/plain"[..], &b"plain"[..])
        );
        assert!(body[found[1].whole.clone()].starts_with(b"--x\r\n\r\nplain"));
        assert_eq!(boundary_of(b"Multipart/Mixed; boundary=\"x\"").as_deref(), Some(&b"x"[..]));
        assert_eq!(boundary_of(b"application/sdp;boundary=x"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_taken(body in "[-x\\r\\n: a]{0,200}") {
            for part in parts(body.as_bytes(), b"x") {
                proptest::prop_assert!(body.as_bytes().get(part.content).is_some());
            }
        }
    }
}
