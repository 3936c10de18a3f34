//! The requests of the load, and what is read of the replies.

use std::fmt::Write;
use std::net::SocketAddr;

/// What the load consists of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// OPTIONS to the server itself.
    Options,
    /// Refreshes of registrations.
    Register,
    /// Refreshes that the server challenges: two requests each.
    Digest,
    /// Asks what is registered.
    Fetch,
}

impl Work {
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Register | Self::Digest | Self::Fetch => "REGISTER",
        }
    }
}

/// One request to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) work: Work,
    pub(crate) server: SocketAddr,
    pub(crate) client: SocketAddr,
    /// Where in the window the request waits for its reply.
    pub(crate) slot: usize,
    /// Which use of the slot it is.
    pub(crate) turn: u64,
    /// The phone it comes from.
    pub(crate) phone: usize,
    pub(crate) cseq: u32,
    /// The Authorization header line, or nothing.
    pub(crate) credentials: &'a str,
}

/// What a refresh asks for: another time each, so that a lost one shows.
pub(crate) fn expires_of(cseq: u32) -> u32 {
    3000 + cseq % 100 * 6
}

impl Request<'_> {
    /// Appends the request to `text`.
    pub(crate) fn write(&self, text: &mut String) {
        let Self { server, client, slot, turn, phone, cseq, credentials, .. } = self;
        let (host, method) = (server.ip(), self.work.method());
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "{method} sip:{host} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {client};rport;branch=z9hG4bK-{slot:x}-{turn:x}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:u{phone}@{host}>;tag=t{turn:x}{slot:x}\r\n"
        );
        let _ = match self.work {
            Work::Options => write!(text, "To: <sip:{host}>\r\n"),
            _ => write!(text, "To: <sip:u{phone}@{host}>\r\n"),
        };
        let _ = write!(text, "Call-ID: {method}-{phone}@{client}\r\nCSeq: {cseq} {method}\r\n");
        if matches!(self.work, Work::Register | Work::Digest) {
            let expires = expires_of(*cseq);
            let _ = write!(
                text,
                "Contact: <sip:u{phone}@{client};transport=udp>\r\nExpires: {expires}\r\n\
                 Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY\r\n{credentials}"
            );
        }
        if self.work == Work::Digest {
            text.push_str("X-Digest: yes\r\n");
        }
        text.push_str("User-Agent: bench\r\nContent-Length: 0\r\n\r\n");
    }
}

/// What matters of a reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) slot: usize,
    pub(crate) turn: u64,
}

/// Reads a reply; `None` if it is not one to a request of this load.
pub(crate) fn read_reply(datagram: &[u8]) -> Option<Reply> {
    let text = std::str::from_utf8(datagram).ok()?;
    let code = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let (_, after) = text.split_once("branch=z9hG4bK-")?;
    let end = after.find([';', '\r', ',']).unwrap_or(after.len());
    let (slot, turn) = after.get(..end)?.split_once('-')?;
    let slot = usize::from_str_radix(slot, 16).ok()?;
    Some(Reply { code, slot, turn: u64::from_str_radix(turn, 16).ok()? })
}

/// The remaining seconds of the contact that a reply lists.
pub(crate) fn read_expires(datagram: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(datagram).ok()?;
    let (_, contact) = text.split_once("\r\nContact:")?;
    let (_, after) = contact.split_once("expires=")?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_a_request_names_its_slot_and_turn() {
        let at = |text: &str| text.parse().unwrap();
        let request = Request {
            work: Work::Register,
            server: at("127.0.3.1:5060"),
            client: at("127.0.3.9:40000"),
            slot: 31,
            turn: 255,
            phone: 7,
            cseq: 4,
            credentials: "",
        };
        let mut text = String::new();
        request.write(&mut text);
        assert!(text.starts_with("REGISTER sip:127.0.3.1 SIP/2.0\r\n"));
        assert!(text.contains("To: <sip:u7@127.0.3.1>\r\n") && text.ends_with("\r\n\r\n"));
        let reply = text.replace("REGISTER sip:127.0.3.1 SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(read_reply(reply.as_bytes()), Some(Reply { code: 200, slot: 31, turn: 255 }));
        assert_eq!(read_reply(text.as_bytes()), None);
    }

    #[test]
    fn the_time_of_a_contact_is_read() {
        let reply = b"SIP/2.0 200 OK\r\nContact: <sip:a@b;x=1>;expires=3599;q=1\r\n\r\n";
        assert_eq!(read_expires(reply), Some(3599));
        assert_eq!(read_expires(b"SIP/2.0 200 OK\r\nExpires: 7\r\n\r\n"), None);
    }
}
