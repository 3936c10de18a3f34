//! How long a change takes to the other node, seen from outside: a phone registers at one node
//! and asks the other until that one knows it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::now;
use crate::message::{Request, Work, read_expires, read_reply};
use crate::server::breathe;

/// Between two questions to the other node.
const ASK_EVERY: Duration = Duration::from_micros(200);
/// A change that takes longer is not waited for.
const LATE: Duration = Duration::from_millis(500);

/// A running probe.
#[derive(Debug)]
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<u32>>>,
}

impl Probe {
    /// Registers phones from number `first` on, one after the other.
    #[expect(clippy::disallowed_methods, reason = "the benchmark owns its threads and sockets")]
    pub(crate) fn start(
        from: SocketAddr,
        active: SocketAddr,
        backup: SocketAddr,
        first: usize,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let socket = UdpSocket::bind(from)?;
        socket.set_nonblocking(true)?;
        let thread = std::thread::spawn(move || {
            let mut lags = Vec::new();
            let mut phone = first;
            while !stopping.load(Ordering::Relaxed) {
                lags.push(one(&socket, active, backup, phone)?);
                phone += 1;
                breathe();
            }
            Ok(lags)
        });
        Ok(Self { stop, thread })
    }

    /// The lags in µs.
    pub(crate) fn end(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// The time from sending the REGISTER to sending the first question whose answer knows it.
fn one(
    socket: &UdpSocket,
    active: SocketAddr,
    backup: SocketAddr,
    phone: usize,
) -> std::io::Result<u32> {
    let client = socket.local_addr()?;
    let mut text = String::new();
    let mut datagram = [0; 4096];
    let mut send = |work, server, turn| {
        text.clear();
        let (slot, cseq, credentials) = (0, 1, "");
        Request { work, server, client, slot, turn, phone, cseq, credentials }.write(&mut text);
        socket.send_to(text.as_bytes(), server).map(drop)
    };
    let begun = now();
    send(Work::Register, active, 0)?;
    let mut asked = Vec::new();
    while begun.elapsed() < LATE {
        if begun.elapsed() >= ASK_EVERY * asked.len() as u32 {
            asked.push(begun.elapsed());
            send(Work::Fetch, backup, asked.len() as u64)?;
        }
        while let Ok((n, from)) = socket.recv_from(&mut datagram) {
            let reply = read_reply(&datagram[..n]);
            if from == backup && read_expires(&datagram[..n]).is_some() {
                let turn = reply.map_or(0, |r| r.turn as usize);
                let at = asked.get(turn.wrapping_sub(1)).copied().unwrap_or(begun.elapsed());
                return Ok(at.as_micros() as u32);
            }
        }
        std::thread::yield_now();
    }
    Ok(LATE.as_micros() as u32)
}
