//! Requests out of what was read from the MI FIFO: `:REPLY:JSON`, the newline optional.

use bytes::{Buf, Bytes, BytesMut};

/// A request: where the answer goes, and the JSON text as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FifoRequest {
    /// A plain file name below the reply directory; None when no answer is wanted.
    pub reply: Option<String>,
    pub body: Bytes,
}

/// Cuts a stream of bytes into requests. What is no request is skipped up to the next line and
/// counted.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    buffer: BytesMut,
    /// Inside a line that is skipped.
    skipping: bool,
    pub(crate) skipped: u64,
}

impl Cutter {
    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the start of a request waits for its rest.
    pub(crate) fn is_waiting(&self) -> bool {
        self.skipping || !self.buffer.is_empty()
    }

    /// Forgets an unfinished request: its writer is gone.
    pub(crate) fn reset(&mut self) {
        if self.is_waiting() && !self.skipping {
            self.skipped += 1;
        }
        self.buffer.clear();
        self.skipping = false;
    }

    /// The next whole request.
    pub(crate) fn next(&mut self) -> Option<FifoRequest> {
        loop {
            if self.skipping {
                let Some(end) = self.buffer.iter().position(|b| *b == b'\n') else {
                    self.buffer.clear();
                    return None;
                };
                self.buffer.advance(end + 1);
                self.skipping = false;
            }
            let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
            match cut(&self.buffer) {
                Cut::Request { name, body, end } => {
                    let taken = self.buffer.split_to(end).freeze();
                    let name = taken.slice(1..name);
                    let body = taken.slice(body);
                    match reply_name(&name) {
                        Ok(reply) => return Some(FifoRequest { reply, body }),
                        Err(()) => self.skipped += 1,
                    }
                }
                Cut::More if self.buffer.len() <= REQUEST_BYTES_MAX => return None,
                Cut::More | Cut::Garbage => {
                    self.skipping = true;
                    self.skipped += 1;
                }
            }
        }
    }
}

enum Cut {
    /// The reply name ends at `name`; all that belongs to the request ends at `end`.
    Request {
        name: usize,
        body: std::ops::Range<usize>,
        end: usize,
    },
    More,
    Garbage,
}

/// Looks for one request at the start of the bytes. It ends with its line, or where its JSON
/// value ends when no newline follows.
fn cut(bytes: &[u8]) -> Cut {
    let line = bytes.iter().position(|b| *b == b'\n');
    let text = bytes.get(..line.unwrap_or(bytes.len())).unwrap_or(&[]);
    if text.is_empty() {
        return Cut::More;
    }
    if text.first() != Some(&b':') {
        return Cut::Garbage;
    }
    let Some(name) = text.iter().skip(1).position(|b| *b == b':').map(|at| at + 1) else {
        let hopeless = line.is_some() || text.len() > NAME_BYTES_MAX + 1;
        return if hopeless { Cut::Garbage } else { Cut::More };
    };
    let blank = text.iter().skip(name + 1).take_while(|b| b.is_ascii_whitespace()).count();
    let start = name + 1 + blank;
    let rest = text.get(start..).unwrap_or(&[]);
    match (json_end(rest), line) {
        (Some(len), _) => Cut::Request { name, body: start..start + len, end: start + len },
        (None, Some(line)) if !rest.is_empty() && start + rest.len() <= REQUEST_BYTES_MAX => {
            // Not JSON, or cut short: whoever answers says so, or stays silent.
            Cut::Request { name, body: start..start + rest.len(), end: line }
        }
        (None, Some(_)) => Cut::Garbage,
        (None, None) => Cut::More,
    }
}

/// The length of the object or array that starts the bytes, when it is whole.
fn json_end(bytes: &[u8]) -> Option<usize> {
    if !matches!(bytes.first(), Some(b'{' | b'[')) {
        return None;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (i, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1).filter(|len| *len <= REQUEST_BYTES_MAX);
                }
            }
            _ => {}
        }
    }
    None
}

/// A name must not leave the reply directory.
pub(crate) fn reply_name(name: &[u8]) -> Result<Option<String>, ()> {
    let name = std::str::from_utf8(name).map_err(drop)?;
    let plain = name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c.is_control());
    match (plain, name.is_empty()) {
        (false, _) => Err(()),
        (true, true) => Ok(None),
        (true, false) => Ok(Some(name.to_owned())),
    }
}

/// The longest request.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(cutter: &mut Cutter, bytes: &[u8]) -> Vec<(String, String)> {
        cutter.push(bytes);
        std::iter::from_fn(|| cutter.next())
            .map(|r| (r.reply.unwrap_or_default(), String::from_utf8_lossy(&r.body).into_owned()))
            .collect()
    }

    fn pair(reply: &str, body: &str) -> (String, String) {
        (reply.to_owned(), body.to_owned())
    }

    #[test]
    fn requests_are_found_with_and_without_their_newline() {
        let mut cutter = Cutter::default();
        let text = b":a:{\"x\":\"}\\\"\"}:b:[1,{}]\n::{}\n\n:c:  {\"id\":1}";
        let expected = [
            pair("a", "{\"x\":\"}\\\"\"}"),
            pair("b", "[1,{}]"),
            pair("", "{}"),
            pair("c", "{\"id\":1}"),
        ];
        assert_eq!(all(&mut cutter, text), expected);
        assert!(!cutter.is_waiting());
        assert_eq!(cutter.skipped, 0);
    }

    #[test]
    fn a_line_that_is_no_request_is_skipped_alone() {
        let mut cutter = Cutter::default();
        let text = b"hello\nfifo:\n:half\n:r:\n:../x:{}\n:a/b:{}\n:..:{}\n:ok:{}\n";
        assert_eq!(all(&mut cutter, text), [pair("ok", "{}")]);
        assert_eq!(cutter.skipped, 7);
    }

    #[test]
    fn what_is_not_json_is_handed_on_as_a_line() {
        let mut cutter = Cutter::default();
        assert_eq!(all(&mut cutter, b":r:{\"a\":\n"), [pair("r", "{\"a\":")]);
    }

    #[test]
    fn a_request_without_an_end_is_bounded_and_forgotten() {
        let mut cutter = Cutter::default();
        let mut text = b":r:{\"a\":\"".to_vec();
        text.resize(REQUEST_BYTES_MAX + 100, b'x');
        assert!(all(&mut cutter, &text).is_empty());
        assert!(all(&mut cutter, &text[9..]).is_empty());
        assert!(cutter.buffer.is_empty());
        assert_eq!(all(&mut cutter, b"end\n:s:{}"), [pair("s", "{}")]);
        cutter.push(b":t:{\"a\"");
        assert!(cutter.next().is_none() && cutter.is_waiting());
        cutter.reset();
        assert_eq!(all(&mut cutter, b":u:{}"), [pair("u", "{}")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b':'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'),
                Just(b'\\'), Just(b'\n'), any::<u8>(),
            ], 0..200),
        ) {
            let mut cutter = Cutter::default();
            cutter.push(&bytes);
            while let Some(request) = cutter.next() {
                prop_assert!(!request.reply.is_some_and(|name| name.contains('/')));
            }
        }

        #[test]
        fn the_way_the_bytes_were_split_does_not_matter(
            cuts in proptest::collection::vec(1..9_usize, 0..40),
        ) {
            let text = b":a:{\"k\":[1,2,\"}\"]}\ngarbage\n:b:{}:c:{\"x\":{}}\n";
            let (mut cutter, mut rest, mut seen) = (Cutter::default(), &text[..], Vec::new());
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                seen.extend(all(&mut cutter, head));
                rest = tail;
            }
            seen.extend(all(&mut cutter, rest));
            let expected = [
                pair("a", "{\"k\":[1,2,\"}\"]}"), pair("b", "{}"), pair("c", "{\"x\":{}}"),
            ];
            prop_assert_eq!(seen, expected);
        }
    }
}
