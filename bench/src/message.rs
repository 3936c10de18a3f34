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
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
        }
    }
}

/// One request to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
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
}

impl Request {
    /// Writes the request into `text`.
    pub(crate) fn write(&self, text: &mut String) {
        let Self { server, client, slot, turn, phone, cseq, .. } = self;
        let (host, method) = (server.ip(), self.work.name());
        let (user, to) = match self.work {
            Work::Options => ("", String::new()),
            Work::Register => ("u", phone.to_string()),
        };
        let at = if user.is_empty() { "" } else { "@" };
        text.clear();
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "{method} sip:{host} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {client};rport;branch=z9hG4bK-{slot:x}-{turn:x}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:u{phone}@{host}>;tag=t{turn:x}{slot:x}\r\n\
             To: <sip:{user}{to}{at}{host}>\r\n\
             Call-ID: {call}-{phone}@{client}\r\n\
             CSeq: {cseq} {method}\r\n",
            call = method,
        );
        if self.work == Work::Register {
            let _ = write!(
                text,
                "Contact: <sip:u{phone}@{client};transport=udp>\r\nExpires: 3600\r\n\
                 Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY\r\n"
            );
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
        };
        let mut text = String::new();
        request.write(&mut text);
        assert!(text.starts_with("REGISTER sip:127.0.3.1 SIP/2.0\r\n"));
        assert!(text.contains("To: <sip:u7@127.0.3.1>\r\n") && text.ends_with("\r\n\r\n"));
        let reply = text.replace("REGISTER sip:127.0.3.1 SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(read_reply(reply.as_bytes()), Some(Reply { code: 200, slot: 31, turn: 255 }));
        assert_eq!(read_reply(text.as_bytes()), None);
    }
}
