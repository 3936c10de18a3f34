//! The description of the session in a message.

use tandem_sip::{Message, Params, unquote};

/// The body that describes the session; of several parts (RFC 2046 5.1) the first that does.
pub(crate) fn sdp_of(msg: &Message) -> &[u8] {
    let Some(kind) = msg.content_type() else { return b"" };
    if is_sdp(kind) {
        return msg.body();
    }
    part(kind, msg.body()).unwrap_or_default()
}

fn is_sdp(kind: &[u8]) -> bool {
    let mime = kind.split(|b| *b == b';').next().unwrap_or_default();
    mime.trim_ascii().eq_ignore_ascii_case(b"application/sdp")
}

fn part<'a>(kind: &[u8], body: &'a [u8]) -> Option<&'a [u8]> {
    kind.get(..10).filter(|start| start.eq_ignore_ascii_case(b"multipart/"))?;
    let params = kind.get(kind.iter().position(|b| *b == b';')?..)?;
    let boundary = unquote(Params::new(params).value(b"boundary")?).into_owned();
    let mark = [b"--", &boundary[..]].concat();
    // Where parts begin, and where the delimiter before each does.
    let (mut start, mut at) = (None, 0);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let here = at;
        at += line.len();
        if boundary.is_empty() || !line.starts_with(&mark) {
            continue;
        }
        if let Some(start) = start.replace(at)
            && let Some(found) = content(body.get(start..here)?)
        {
            return Some(found);
        }
    }
    None
}

/// The content of a part, if it describes a session; the line end before a delimiter belongs to
/// the delimiter.
fn content(part: &[u8]) -> Option<&[u8]> {
    let (mut at, mut describes) = (0, false);
    for line in part.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        let text = line.trim_ascii_end();
        if text.is_empty() {
            let rest = part.get(at..)?;
            let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
            return describes.then(|| rest.strip_suffix(b"\r").unwrap_or(rest));
        }
        let value = text.get(..13).filter(|name| name.eq_ignore_ascii_case(b"Content-Type:"));
        describes |= value.is_some() && is_sdp(text.get(13..).unwrap_or_default());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn found(kind: &str, body: &str) -> String {
        let text = format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\n\
             From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\n\
             CSeq: 7 INVITE\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let msg = Message::parse(Bytes::from(text)).unwrap();
        String::from_utf8(sdp_of(&msg).to_vec()).unwrap()
    }

    #[test]
    fn the_description_is_found_alone_and_among_other_parts() {
        assert_eq!(found("application/sdp", "v=0\r\n"), "v=0\r\n");
        assert_eq!(found("Application/SDP;x=1", "v=0\r\n"), "v=0\r\n");
        assert_eq!(found("text/plain", "v=0\r\n"), "");
        let body = "--b\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n\
            --b\r\ncontent-type: application/sdp\r\n\r\nv=0\r\no=x\r\n\r\n--b--\r\n";
        assert_eq!(found("multipart/mixed;boundary=b", body), "v=0\r\no=x\r\n");
        assert_eq!(found("multipart/mixed;boundary=\"b\"", body), "v=0\r\no=x\r\n");
        assert_eq!(found("multipart/mixed", body), "");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "(--b|\r\n|[ -~]){0,20}") {
            let _ = part(b"multipart/x;boundary=b", body.as_bytes());
        }
    }
}
