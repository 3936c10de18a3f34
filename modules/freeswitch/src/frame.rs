//! What comes over an event socket: lines `Name: value`, a blank line, and as many bytes more as
//! `Content-Length` says.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of the lines of a frame.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of its body.
pub const BODY_BYTES_MAX: usize = 256 << 10;

/// Lines with names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(Vec<(String, String)>);

impl Lines {
    /// Of a text, up to its first blank line.
    fn of(text: &[u8]) -> Self {
        let lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
            let at = line.iter().position(|b| *b == b':')?;
            let (name, value) = line.split_at(at);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(name.trim_ascii()), text(value)))
        });
        Self(lines.collect())
    }

    /// The value of the first line of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub lines: Lines,
    pub body: Bytes,
}

/// Why bytes are no frames of an event socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Head,
    Length,
    Body,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head => write!(f, "more than {HEAD_BYTES_MAX} bytes without a blank line"),
            Self::Length => f.write_str("a Content-Length that is no number"),
            Self::Body => write!(f, "a message of more than {BODY_BYTES_MAX} bytes"),
        }
    }
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// No line that begins before here is blank.
    searched: usize,
    /// The lines of the frame whose body is not whole yet, and the bytes of that.
    begun: Option<(Lines, usize)>,
}

impl Framer {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole. After an error nothing more comes of the stream.
    ///
    /// # Errors
    /// Why it is none.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.begun.is_none() {
            let Some(head) = self.head()? else { return Ok(None) };
            let lines = Lines::of(&head);
            let length = match lines.get("Content-Length") {
                None => 0,
                Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
                    return Err(Malformed::Length);
                }
                Some(digits) => digits.parse().unwrap_or(usize::MAX),
            };
            if length > BODY_BYTES_MAX {
                return Err(Malformed::Body);
            }
            self.begun = Some((lines, length));
        }
        match self.begun.take() {
            Some((lines, length)) if self.buffer.len() >= length => {
                let body = self.buffer.split_to(length).freeze();
                Ok(Some(Frame { lines, body }))
            }
            waits => {
                self.begun = waits;
                Ok(None)
            }
        }
    }

    /// The lines of the next frame with the blank one, when that is there.
    fn head(&mut self) -> Result<Option<BytesMut>, Malformed> {
        if self.searched == 0 {
            let blank = self.buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.buffer.advance(blank);
        }
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(length) = rest.iter().position(|b| *b == b'\n') else { break };
            let is_blank = matches!(rest.get(..length), Some(b"" | b"\r"));
            self.searched += length + 1;
            if self.searched > HEAD_BYTES_MAX {
                return Err(Malformed::Head);
            }
            if is_blank {
                return Ok(Some(self.buffer.split_to(std::mem::take(&mut self.searched))));
            }
        }
        if self.buffer.len() > HEAD_BYTES_MAX { Err(Malformed::Head) } else { Ok(None) }
    }
}

/// The lines of an event: of a body of `text/event-plain`, whose values are encoded as in URLs, or
/// of `text/event-json`.
///
/// `None`: it is neither.
pub fn event(frame: &Frame) -> Option<Lines> {
    match frame.lines.get("Content-Type")? {
        "text/event-plain" => {
            let Lines(lines) = Lines::of(&frame.body);
            Some(Lines(lines.into_iter().map(|(name, value)| (name, decoded(&value))).collect()))
        }
        "text/event-json" => {
            let serde_json::Value::Object(all) = serde_json::from_slice(&frame.body).ok()? else {
                return None;
            };
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            Some(Lines(all.into_iter().map(|(name, value)| (name, text(value))).collect()))
        }
        _ => None,
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(chunks: &[&[u8]]) -> (Vec<Frame>, Option<Malformed>) {
        let (mut framer, mut all) = (Framer::default(), Vec::new());
        for chunk in chunks {
            framer.feed(chunk);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => all.push(frame),
                    Ok(None) => break,
                    Err(why) => return (all, Some(why)),
                }
            }
            let held = framer.buffer.len();
            assert!(held <= HEAD_BYTES_MAX + BODY_BYTES_MAX + chunk.len(), "{held} bytes are held");
        }
        (all, None)
    }

    #[test]
    fn frames_have_lines_and_a_body() {
        let text = b"Content-Type: auth/request\n\n\nContent-Length: 5\r\nX:  a: b \r\n\r\nab\n\nc";
        let (all, why) = frames(&[text]);
        assert_eq!((all.len(), why), (2, None));
        assert_eq!(all[0].lines.get("content-type"), Some("auth/request"));
        assert_eq!((all[1].lines.get("X"), &all[1].body[..]), (Some("a: b"), &b"ab\n\nc"[..]));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert_eq!(frames(&[&long]).1, Some(Malformed::Head));
        let many = b"a: b\n".repeat(HEAD_BYTES_MAX / 5 + 1);
        assert_eq!(frames(&[&many]).1, Some(Malformed::Head));
        for (length, why) in [
            ("262145", Malformed::Body),
            ("99999999999999999999999", Malformed::Body),
            ("-1", Malformed::Length),
            ("", Malformed::Length),
            ("1e3", Malformed::Length),
        ] {
            let text = format!("Content-Length: {length}\n\n");
            assert_eq!(frames(&[text.as_bytes()]).1, Some(why), "{length}");
        }
    }

    #[test]
    fn events_are_plain_or_json() {
        let of = |kind: &str, body: &str| {
            let lines = Lines(vec![("Content-Type".into(), format!("text/event-{kind}"))]);
            event(&Frame { lines, body: Bytes::copy_from_slice(body.as_bytes()) })
        };
        let plain =
            of("plain", "Event-Name: HEARTBEAT\nUp: 0%20years%2C%zz\n\nbody: no\n").unwrap();
        assert_eq!((plain.get("Up"), plain.get("body")), (Some("0 years,%zz"), None));
        let json = of("json", r#"{"Event-Name":"HEARTBEAT","n":7,"deep":{"a":[]}}"#).unwrap();
        assert_eq!((json.get("Event-Name"), json.get("n")), (Some("HEARTBEAT"), Some("7")));
        assert!(
            of("json", "[1]").is_none() && of("json", "{").is_none() && of("xml", "").is_none()
        );
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            text in "(Content-(Length: [0-9]{1,2}|Type: text/event-(plain|json))\r?\n|[a:{}\"%\n]|\n\n)*",
            cuts in proptest::collection::vec(0usize..200, 0..6)
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for at in cuts.into_iter().chain([text.len()]) {
                chunks.push(&text.as_bytes()[from..at]);
                from = at;
            }
            prop_assert_eq!(frames(&chunks), frames(&[text.as_bytes()]));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (all, _) = frames(&[&bytes]);
            all.iter().for_each(|frame| drop(event(frame)));
        }
    }
}
