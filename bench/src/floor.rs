//! The floor: a program that takes and sends the same datagrams and does nothing else, in batches
//! and with the pauses of a server under load. What it costs is the kernel's, whoever asks it to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tandem_net::{RecvBatch, UdpOptions, UdpSocket};

/// How messages gather before they are read.
const PAUSE: Duration = Duration::from_micros(500);

type Out = (SocketAddr, Vec<u8>);

/// Serves at an address until the process is ended.
pub(crate) fn serve(address: &str) -> Result<(), String> {
    let address = address.parse().map_err(|e| format!("{address}: {e}"))?;
    run(address).map_err(|e| format!("{address}: {e}"))
}

fn run(address: SocketAddr) -> io::Result<()> {
    let udp = UdpSocket::open(address, UdpOptions::default())?;
    let (mut batch, mut out) = (RecvBatch::new(), Vec::new());
    loop {
        let mut taken = 0;
        while udp.recv_batch(&mut batch)? > 0 {
            taken += batch.datagrams().len();
            for datagram in batch.drain() {
                pass(&datagram.payload, datagram.source, &mut out);
            }
            udp.send_each(&out, |(to, bytes): &Out| ((*to, None), bytes), &mut Vec::new());
            out.clear();
        }
        match taken {
            0 => match poll(&mut [PollFd::new(&udp, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            },
            _ => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the floor pauses as a server does")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// A reply goes where its Via says, a request of a call where its URI says; any other is answered.
fn pass(message: &[u8], source: SocketAddr, out: &mut Vec<Out>) {
    let Some(line_end) = find(message, b"\r\n") else { return };
    let (line, rest) = message.split_at(line_end);
    let reply = |status: &[u8]| [b"SIP/2.0 ".as_slice(), status, rest].concat();
    if line.starts_with(b"SIP/2.0") {
        let via = find(message, b"/UDP ").and_then(|at| address(&message[at + 5..]));
        out.extend(via.map(|to| (to, message.to_vec())));
    } else if [b"INVITE ".as_slice(), b"ACK ", b"BYE "].iter().any(|m| line.starts_with(m)) {
        if line.starts_with(b"INVITE ") {
            out.push((source, reply(b"100 Trying")));
        }
        let target = find(line, b"@").and_then(|at| address(&line[at + 1..]));
        out.extend(target.map(|to| (to, message.to_vec())));
    } else {
        out.push((source, reply(b"200 OK")));
    }
}

/// The address that a text begins with.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let end = text.iter().position(|b| !matches!(b, b'0'..=b'9' | b'.' | b':'));
    std::str::from_utf8(&text[..end.unwrap_or(text.len())]).ok()?.parse().ok()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(message: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        pass(message.as_bytes(), ([127, 0, 0, 1], 9).into(), &mut out);
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        out.into_iter().map(|(to, bytes)| (to.to_string(), text(bytes))).collect()
    }

    #[test]
    fn requests_are_answered_or_go_on_and_replies_go_back() {
        let via = "Via: SIP/2.0/UDP 127.0.0.2:7;branch=1\r\n\r\n";
        let answered = passed(&format!("OPTIONS sip:h SIP/2.0\r\n{via}"));
        let ok = |to: &str, status: &str| (to.into(), format!("SIP/2.0 {status}\r\n{via}"));
        assert_eq!(answered, [ok("127.0.0.1:9", "200 OK")]);
        let invite = format!("INVITE sip:u@127.0.0.3:8 SIP/2.0\r\n{via}");
        let on = ("127.0.0.3:8".to_owned(), invite.clone());
        assert_eq!(passed(&invite), [ok("127.0.0.1:9", "100 Trying"), on]);
        let ringing = format!("SIP/2.0 180 Ringing\r\n{via}");
        assert_eq!(passed(&ringing), [("127.0.0.2:7".to_owned(), ringing.clone())]);
    }
}
