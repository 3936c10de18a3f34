//! Messages out of a stream of bytes: RFC 3261 18.3 by Content-Length, RFC 5626 3.5.1 keepalives.

use bytes::{Buf, Bytes, BytesMut};

use super::{BadProxy, Begin, Proxied, read_proxy};

/// The longest message of a stream, as over UDP.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// What a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Message(Bytes),
    /// CRLF CRLF: the peer wants a CRLF back.
    Ping,
}

/// Why nothing more can be read from a stream: where the next message begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a message without Content-Length")]
    NoLength,
    #[error("a Content-Length that is no number, or two that differ")]
    BadLength,
    #[error("what comes is not SIP")]
    NotSip,
    #[error("a message came in too many pieces (tcp_max_msg_chunks)")]
    TooManyPieces,
}

/// The bytes of one connection that are no whole message yet.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// How far the end of the headers was looked for.
    searched: usize,
    /// Length of the whole message, once its headers are there.
    whole: Option<usize>,
    /// A CRLF came between messages; another one makes a ping.
    half_ping: bool,
    /// Reads that the message at hand took.
    pieces: u32,
    /// Pings that came before the header of the PROXY protocol.
    early_pings: u64,
}

impl Framer {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pieces = self.pieces.saturating_add(1);
    }

    /// Takes the header of the PROXY protocol off the beginning of the stream, behind keepalives
    /// at the most. `None`: it is not known yet whether there is one.
    ///
    /// # Errors
    /// When something that looks like one is none.
    pub fn take_proxy(&mut self) -> Result<Option<Option<Proxied>>, BadProxy> {
        self.take_blank_lines_before_proxy();
        Ok(match read_proxy(&self.buffer)? {
            Begin::Partial => None,
            Begin::Plain => Some(None),
            Begin::Header(proxied, bytes) => {
                self.buffer.advance(bytes);
                self.pieces = u32::from(!self.buffer.is_empty());
                Some(proxied)
            }
        })
    }

    /// Version 2 of that header begins with two line ends itself, and then a zero byte, which is
    /// sent together with them.
    fn take_blank_lines_before_proxy(&mut self) {
        loop {
            let taken = match self.buffer.as_ref() {
                [b'\r', b'\n', b'\r', b'\n'] => 4,
                [b'\r', b'\n', b'\r', b'\n', next, ..] if *next != 0 => 4,
                [b'\r', b'\n', next, ..] if *next != b'\r' => 2,
                _ => return,
            };
            self.buffer.advance(taken);
            self.early_pings += u64::from(taken == 4);
            self.pieces = u32::from(!self.buffer.is_empty());
        }
    }

    /// How many pings [`Framer::take_proxy`] has found.
    pub fn take_early_pings(&mut self) -> u64 {
        std::mem::take(&mut self.early_pings)
    }

    /// Whether the beginning of a message waits for its rest.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether nothing at all is remembered.
    pub fn is_idle(&self) -> bool {
        self.buffer.is_empty() && !self.half_ping
    }

    /// The headers of the message at hand, for a reply to one that cannot be framed.
    pub fn head(&self) -> Bytes {
        let end = head_end(&self.buffer, 0).unwrap_or(0);
        Bytes::copy_from_slice(self.buffer.get(..end).unwrap_or_default())
    }

    /// The next whole message or keepalive. `pieces_max`: reads a message may take; 0: any.
    ///
    /// # Errors
    /// See [`FrameError`]; the stream has to be closed then.
    pub fn next(&mut self, pieces_max: u32) -> Result<Option<Frame>, FrameError> {
        if self.whole.is_none() {
            if self.take_blank_lines() {
                return Ok(Some(Frame::Ping));
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            self.find_end()?;
        }
        let Some(whole) = self.whole.filter(|whole| *whole <= self.buffer.len()) else {
            if pieces_max > 0 && self.pieces >= pieces_max {
                return Err(FrameError::TooManyPieces);
            }
            return Ok(None);
        };
        let message = self.buffer.split_to(whole).freeze();
        (self.whole, self.searched) = (None, 0);
        // What is left came with the last read.
        self.pieces = u32::from(!self.buffer.is_empty());
        Ok(Some(Frame::Message(message)))
    }

    /// Takes line ends off in front of a message; true if two of them make a ping.
    fn take_blank_lines(&mut self) -> bool {
        loop {
            let taken = match self.buffer.as_ref() {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                // Its line feed is still to come.
                [b'\r'] => return false,
                [] => return false,
                _ => {
                    self.half_ping = false;
                    return false;
                }
            };
            self.buffer.advance(taken);
            self.pieces = u32::from(!self.buffer.is_empty());
            self.half_ping = !self.half_ping;
            if !self.half_ping {
                return true;
            }
        }
    }

    fn find_end(&mut self) -> Result<(), FrameError> {
        let first = self.buffer.first().copied().unwrap_or(b'\r');
        // A method or the version begins with a token character: TLS, HTTP/2 and noise do not.
        if !(first.is_ascii_alphanumeric() || b"-.!%*_+`'~\r".contains(&first)) {
            return Err(FrameError::NotSip);
        }
        // An end may straddle what was searched and what is new.
        match head_end(&self.buffer, self.searched.saturating_sub(3)) {
            Some(end) => {
                let length = content_length(self.buffer.get(..end).unwrap_or_default())?;
                let whole = end.checked_add(length).filter(|whole| *whole <= MESSAGE_BYTES_MAX);
                self.whole = Some(whole.ok_or(FrameError::TooLong)?);
                Ok(())
            }
            None if self.buffer.len() > MESSAGE_BYTES_MAX => Err(FrameError::TooLong),
            None => {
                self.searched = self.buffer.len();
                Ok(())
            }
        }
    }
}

/// Where the body begins: behind the empty line, looked for from `from` on.
fn head_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'\n', buffer.get(at..)?)? + 1;
        match buffer.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
}

/// The value of Content-Length in these headers.
fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    let mut found = None;
    let mut lines = head.split(|b| *b == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let mut text = value.get(1..).unwrap_or_default().trim_ascii();
        // RFC 3261 7.3.1: the value may stand on the next line.
        if text.is_empty()
            && let Some(folded) = lines.next_if(|l| l.starts_with(b" ") || l.starts_with(b"\t"))
        {
            text = folded.trim_ascii();
        }
        let digits = !text.is_empty() && text.len() <= 9 && text.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(text).ok().filter(|_| digits);
        let number: usize = number.and_then(|t| t.parse().ok()).ok_or(FrameError::BadLength)?;
        if found.is_some_and(|before| before != number) {
            return Err(FrameError::BadLength);
        }
        found = Some(number);
    }
    found.ok_or(FrameError::NoLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(framer: &mut Framer) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = framer.next(0)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn frames(text: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut framer = Framer::default();
        framer.push(text);
        all(&mut framer)
    }

    fn message(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn messages_are_cut_by_their_length_and_blank_lines_between_them_ignored() {
        let one = "OPTIONS sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\nhi";
        let two = "SIP/2.0 200 OK\nl:\r\n 0\n\n";
        let text = format!("\r\n{one}\r\n{two}\r\n\r\nOPT");
        let found = frames(text.as_bytes()).unwrap();
        assert_eq!(found, [message(one), message(two), Frame::Ping]);
    }

    #[test]
    fn a_ping_may_come_in_two_halves() {
        let mut framer = Framer::default();
        framer.push(b"\r\n");
        assert_eq!(all(&mut framer).unwrap(), []);
        assert!(!framer.is_partial());
        framer.push(b"\r");
        framer.push(b"\n");
        assert_eq!(all(&mut framer).unwrap(), [Frame::Ping]);
    }

    #[test]
    fn what_cannot_be_framed_says_why() {
        let fault = |text: &str| frames(text.as_bytes()).unwrap_err();
        assert_eq!(fault("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\n"), FrameError::NoLength);
        assert_eq!(fault("A b SIP/2.0\r\nl: x\r\n\r\n"), FrameError::BadLength);
        assert_eq!(fault("A b SIP/2.0\r\nl: -1\r\n\r\n"), FrameError::BadLength);
        assert_eq!(fault("A b SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n"), FrameError::BadLength);
        assert_eq!(fault("A b SIP/2.0\r\nl: 65535\r\n\r\n"), FrameError::TooLong);
        assert_eq!(fault("A b SIP/2.0\r\nl: 99999999999\r\n\r\n"), FrameError::BadLength);
        assert_eq!(fault("\u{16}\u{3}\u{1}"), FrameError::NotSip);
        let long = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        assert_eq!(frames(&long).unwrap_err(), FrameError::TooLong);
    }

    #[test]
    fn a_message_may_take_so_many_reads_and_no_more() {
        let mut framer = Framer::default();
        framer.push(b"A b SIP/2.0\r\n");
        assert_eq!(framer.next(2), Ok(None));
        framer.push(b"l: 0\r\n");
        assert_eq!(framer.next(2), Err(FrameError::TooManyPieces));
    }

    proptest! {
        #[test]
        fn the_way_the_bytes_were_split_does_not_matter(
            cuts in prop::collection::vec(1..40_usize, 0..40),
        ) {
            let text = b"A b SIP/2.0\r\nContent-Length: 5\r\n\r\n12\r\n3\r\n\r\n\r\n\
                C d SIP/2.0\r\nX: y\r\nl : 0\r\n\r\nSIP/2.0 200 OK\r\nL:1\r\n\r\n.";
            let expected = frames(text).unwrap();
            let (mut framer, mut rest, mut seen) = (Framer::default(), &text[..], Vec::new());
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                framer.push(head);
                seen.extend(all(&mut framer).unwrap());
                rest = tail;
            }
            framer.push(rest);
            seen.extend(all(&mut framer).unwrap());
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn no_bytes_panic_and_what_is_kept_is_bounded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ) {
            let mut framer = Framer::default();
            for chunk in chunks {
                framer.push(&chunk);
                while let Ok(Some(frame)) = framer.next(0) {
                    if let Frame::Message(message) = frame {
                        prop_assert!(message.len() <= MESSAGE_BYTES_MAX);
                    }
                }
                let _ = framer.head();
            }
        }
    }
}
