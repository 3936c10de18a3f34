//! Session descriptions (RFC 8866) as lines, with the changes that scripts ask for.
//!
//! A change makes a new text; what it does not concern stays byte for byte.

/// Streams and payload types that are looked at, at most.
const LINES_MAX: usize = 10_000;

/// Payload types with a meaning of their own (RFC 3551 6), for descriptions without `rtpmap`.
const STATIC: &[(&str, &str, &str)] = &[
    ("0", "PCMU", "8000"),
    ("3", "GSM", "8000"),
    ("4", "G723", "8000"),
    ("5", "DVI4", "8000"),
    ("8", "PCMA", "8000"),
    ("9", "G722", "8000"),
    ("10", "L16", "44100"),
    ("11", "L16", "44100"),
    ("12", "QCELP", "8000"),
    ("13", "CN", "8000"),
    ("15", "G728", "8000"),
    ("18", "G729", "8000"),
    ("26", "JPEG", "90000"),
    ("31", "H261", "90000"),
    ("34", "H263", "90000"),
];

/// A description, line by line, each with its line end.
pub(crate) struct Sdp<'a> {
    lines: Vec<&'a [u8]>,
}

/// A media stream: its lines, the `m=` line first.
#[derive(Clone, Copy)]
pub(crate) struct Stream<'s, 'a> {
    pub(crate) lines: &'s [&'a [u8]],
    /// Where its first line is in the description.
    first: usize,
}

/// What happens to the codecs that were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Delete,
    /// In front of all others.
    Up,
    /// Behind all others.
    Down,
}

impl<'a> Sdp<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { lines: text.split_inclusive(|b| *b == b'\n').take(LINES_MAX).collect() }
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = Stream<'_, 'a>> {
        let starts: Vec<usize> =
            (0..self.lines.len()).filter(|n| self.line(*n).starts_with(b"m=")).collect();
        let ends = starts.iter().skip(1).copied().chain([self.lines.len()]).collect::<Vec<_>>();
        starts.into_iter().zip(ends).map(|(first, end)| Stream {
            lines: self.lines.get(first..end).unwrap_or_default(),
            first,
        })
    }

    /// The lines before the first stream.
    pub(crate) fn session(&self) -> &[&'a [u8]] {
        let end = self.streams().next().map_or(self.lines.len(), |stream| stream.first);
        self.lines.get(..end).unwrap_or_default()
    }

    fn line(&self, at: usize) -> &'a [u8] {
        self.lines.get(at).copied().unwrap_or_default()
    }

    /// Whether a stream has a codec, by name and clock rate.
    pub(crate) fn has_codec(&self, wanted: &dyn Fn(&[u8], &[u8]) -> bool) -> bool {
        self.streams().any(|stream| !stream.chosen(wanted).is_empty())
    }

    /// The description with codecs changed; `None` if no stream has any of them.
    pub(crate) fn with_codecs(
        &self,
        wanted: &dyn Fn(&[u8], &[u8]) -> bool,
        change: Change,
    ) -> Option<Vec<u8>> {
        let mut out = self.session().concat();
        let mut found = false;
        for stream in self.streams() {
            let chosen = stream.chosen(wanted);
            if chosen.is_empty() {
                out.extend_from_slice(&stream.lines.concat());
            } else {
                found = true;
                stream.write_changed(&chosen, change, &mut out);
            }
        }
        found.then_some(out)
    }

    /// The description without the streams that are wanted away; `None` if there are none.
    pub(crate) fn without_streams(
        &self,
        wanted: &dyn Fn(Stream<'_, 'a>) -> bool,
    ) -> Option<Vec<u8>> {
        let mut out = self.session().concat();
        let mut found = false;
        for stream in self.streams() {
            if wanted(stream) {
                found = true;
            } else {
                out.extend_from_slice(&stream.lines.concat());
            }
        }
        found.then_some(out)
    }

    /// Whether an audio stream is on hold: 1 for a null address (RFC 2543), 2 for a direction
    /// that does not receive (RFC 3264 8.4).
    pub(crate) fn hold(&self) -> Option<i32> {
        let audio = self.streams().find(|stream| stream.media() == b"audio")?;
        let session = self.session();
        let find = |mark: &[u8]| {
            let of = |lines: &[&'a [u8]]| {
                lines.iter().copied().map(<[u8]>::trim_ascii_end).find(|l| l.starts_with(mark))
            };
            of(audio.lines).or_else(|| of(session))
        };
        let address = find(b"c=").and_then(|line| line.rsplit(|b| *b == b' ').next());
        if matches!(address, Some(b"0.0.0.0" | b"::")) {
            return Some(1);
        }
        let inactive = find(b"a=sendonly").or_else(|| find(b"a=inactive"));
        inactive.map(|_| 2)
    }
}

impl<'a> Stream<'_, 'a> {
    fn words(&self) -> impl Iterator<Item = &'a [u8]> {
        let first = self.lines.first().copied().unwrap_or_default().trim_ascii_end();
        first.get(2..).unwrap_or_default().split(|b| *b == b' ').filter(|w| !w.is_empty())
    }

    pub(crate) fn media(&self) -> &'a [u8] {
        self.words().next().unwrap_or_default()
    }

    fn payloads(&self) -> Vec<&'a [u8]> {
        self.words().skip(3).collect()
    }

    /// Name and clock rate of a payload type.
    fn codec(&self, payload: &[u8]) -> Option<(&[u8], &[u8])> {
        let mapped = self.lines.iter().find_map(|line| {
            let rest = line.trim_ascii_end().strip_prefix(b"a=rtpmap:")?.strip_prefix(payload)?;
            let mut parts = rest.strip_prefix(b" ")?.trim_ascii().split(|b| *b == b'/');
            Some((parts.next()?, parts.next().unwrap_or_default()))
        });
        mapped.or_else(|| {
            let known = STATIC.iter().find(|(number, ..)| number.as_bytes() == payload)?;
            Some((known.1.as_bytes(), known.2.as_bytes()))
        })
    }

    fn chosen(&self, wanted: &dyn Fn(&[u8], &[u8]) -> bool) -> Vec<&'a [u8]> {
        let mut payloads = self.payloads();
        payloads.retain(|payload| self.codec(payload).is_some_and(|(n, clock)| wanted(n, clock)));
        payloads
    }

    fn write_changed(&self, chosen: &[&'a [u8]], change: Change, out: &mut Vec<u8>) {
        let all = self.payloads();
        let others: Vec<&[u8]> = all.iter().copied().filter(|p| !chosen.contains(p)).collect();
        let order: Vec<&[u8]> = match change {
            Change::Delete => others,
            Change::Up => chosen.iter().copied().chain(others).collect(),
            Change::Down => others.into_iter().chain(chosen.iter().copied()).collect(),
        };
        let line = self.lines.first().copied().unwrap_or_default();
        let end = line.get(line.trim_ascii_end().len()..).unwrap_or_default();
        let mut words: Vec<&[u8]> = self.words().take(3).collect();
        if order.is_empty() {
            // Nothing is left to offer: the stream is refused (RFC 3264 6), with a list that
            // still is one.
            if let Some(port) = words.get_mut(1) {
                *port = b"0";
            }
            words.extend(all.first());
        }
        words.extend(order.iter().copied());
        out.extend_from_slice(b"m=");
        out.extend_from_slice(&words.join(&b' '));
        out.extend_from_slice(end);
        let gone: &[&[u8]] = if change == Change::Delete { chosen } else { &[] };
        for line in self.lines.iter().skip(1).filter(|line| !is_about(line, gone)) {
            out.extend_from_slice(line);
        }
    }
}

/// Whether an attribute describes one of these payload types.
fn is_about(line: &[u8], payloads: &[&[u8]]) -> bool {
    let prefixes: [&[u8]; 3] = [b"a=rtpmap:", b"a=fmtp:", b"a=rtcp-fb:"];
    let rest = prefixes.iter().find_map(|prefix| line.strip_prefix(*prefix));
    let number = rest.and_then(|rest| rest.split(|b| b.is_ascii_whitespace()).next());
    number.is_some_and(|number| payloads.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &[u8] = b"v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0 8 101\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n\
        m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

    fn changed(name: &str, change: Change) -> String {
        let wanted = |n: &[u8], _: &[u8]| n.eq_ignore_ascii_case(name.as_bytes());
        let out = Sdp::new(OFFER).with_codecs(&wanted, change).unwrap_or_default();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn codecs_are_deleted_and_moved_and_the_rest_stays() {
        assert!(changed("pcma", Change::Up).contains("m=audio 4000 RTP/AVP 8 0 101\r\n"));
        assert!(changed("PCMU", Change::Down).contains("m=audio 4000 RTP/AVP 8 101 0\r\n"));
        let without = changed("telephone-event", Change::Delete);
        assert!(without.contains("m=audio 4000 RTP/AVP 0 8\r\na=sendrecv\r\nm=video"), "{without}");
        let refused = changed("H264", Change::Delete);
        assert!(refused.ends_with("m=video 0 RTP/AVP 96\r\n"), "{refused}");
        assert_eq!(changed("opus", Change::Delete), "");
    }

    #[test]
    fn hold_is_an_address_or_a_direction() {
        let hold = |from: &str, to: &str| {
            let text = std::str::from_utf8(OFFER).unwrap().replace(from, to);
            Sdp::new(text.as_bytes()).hold()
        };
        assert_eq!(hold("", ""), None);
        assert_eq!(hold("10.0.0.1", "0.0.0.0"), Some(1));
        assert_eq!(hold("sendrecv", "sendonly"), Some(2));
        assert_eq!(hold("sendrecv", "inactive"), Some(2));
        assert_eq!(hold("m=audio", "m=image"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "[vmca=: /0-9a-z\\r\\n]{0,200}") {
            let sdp = Sdp::new(text.as_bytes());
            let _ = (sdp.hold(), sdp.with_codecs(&|_, _| true, Change::Delete));
            let _ = sdp.without_streams(&|s| s.media() == b"audio");
        }
    }
}
