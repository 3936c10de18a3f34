//! Phones by the thousand on one socket: a burst, or a steady stream of registrations.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::now;
use crate::phone::uri_host;

/// Phones with the users `u0`, `u1`, ...
#[derive(Debug)]
pub struct Crowd {
    socket: UdpSocket,
    at: SocketAddr,
    registrar: SocketAddr,
    cseq: u32,
    waiting: HashMap<u32, Sent>,
}

#[derive(Debug)]
struct Sent {
    cseq: u32,
    first: Instant,
    last: Instant,
}

/// What to do next.
enum Next {
    Register(u32),
    Wait,
    Over,
}

/// Requests that may wait for their answer at the same time.
const WINDOW: usize = 256;
const RETRANSMIT: Duration = Duration::from_millis(500);
/// A phone that got no answer for so long has lost its registration.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How long an answer is waited for before something else is looked at.
const GLANCE: Duration = Duration::from_millis(1);

impl Crowd {
    /// Puts the phones on the network.
    ///
    /// # Panics
    /// If the address is taken.
    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
    #[must_use]
    pub fn new(at: impl Into<SocketAddr>, registrar: SocketAddr) -> Self {
        let at = at.into();
        let socket = UdpSocket::bind(at).unwrap_or_else(|e| panic!("{at}: {e}"));
        let _ = socket.set_read_timeout(Some(GLANCE));
        Self { socket, at, registrar, cseq: 0, waiting: HashMap::new() }
    }

    /// Registers these users as fast as the answers come. Each must get a 200.
    ///
    /// # Panics
    /// If one gets none.
    pub fn register(&mut self, users: Range<u32>) {
        let mut users = users;
        self.run(|_, _| users.next().map_or(Next::Over, Next::Register));
    }

    /// Registers users of this range again and again, so many a second, until `stop`; how many
    /// registrations that were.
    ///
    /// # Panics
    /// If one gets no 200.
    pub fn keep_registering(
        &mut self,
        users: Range<u32>,
        per_second: u32,
        stop: &AtomicBool,
    ) -> u64 {
        let mut all = users.cycle();
        self.run(|elapsed, sent| {
            let due = elapsed.as_secs_f64() * f64::from(per_second);
            if stop.load(Ordering::Relaxed) {
                Next::Over
            } else if sent as f64 > due {
                Next::Wait
            } else {
                all.next().map_or(Next::Over, Next::Register)
            }
        })
    }

    fn run(&mut self, mut next: impl FnMut(Duration, u64) -> Next) -> u64 {
        let begun = now();
        let mut sent = 0;
        let mut over = false;
        while !over || !self.waiting.is_empty() {
            while !over && self.waiting.len() < WINDOW {
                match next(begun.elapsed(), sent) {
                    Next::Register(user) if !self.waiting.contains_key(&user) => {
                        self.cseq += 1;
                        let at = now();
                        self.waiting.insert(user, Sent { cseq: self.cseq, first: at, last: at });
                        self.send(user, self.cseq);
                        sent += 1;
                    }
                    // It has not had its answer yet.
                    Next::Register(_) | Next::Wait => break,
                    Next::Over => over = true,
                }
            }
            self.hear();
            self.repeat();
        }
        sent
    }

    fn send(&self, user: u32, cseq: u32) {
        let (at, host) = (self.at, uri_host(self.registrar));
        let request = format!(
            "REGISTER sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKc{user}-{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:u{user}@{host}>;tag=c\r\nTo: <sip:u{user}@{host}>\r\n\
             Call-ID: crowd-{user}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:u{user}@{at}>\r\n\
             Expires: 3600\r\nUser-Agent: crowd\r\nContent-Length: 0\r\n\r\n"
        );
        // A full queue of the system shows as a missing answer.
        let _ = self.socket.send_to(request.as_bytes(), self.registrar);
    }

    fn hear(&mut self) {
        let mut datagram = [0; 4096];
        // Many at a time: the others have come as well.
        for _ in 0..WINDOW {
            let Ok((n, _)) = self.socket.recv_from(&mut datagram) else { return };
            let text = String::from_utf8_lossy(&datagram[..n]);
            let part = |name: &str, end: &str| {
                let rest = text.split_once(name)?.1;
                rest.split_once(end)?.0.trim().parse::<u32>().ok()
            };
            let answered = part("\r\nCall-ID: crowd-", "\r\n").zip(part("\r\nCSeq:", "REGISTER"));
            let Some((user, cseq)) = answered else { continue };
            if self.waiting.get(&user).is_some_and(|sent| sent.cseq == cseq) {
                assert!(text.starts_with("SIP/2.0 200"), "u{user} was not registered: {text}");
                self.waiting.remove(&user);
            }
            if self.waiting.is_empty() {
                return;
            }
        }
    }

    fn repeat(&mut self) {
        let at = now();
        let mut late = Vec::new();
        for (user, sent) in &mut self.waiting {
            assert!(at - sent.first < GIVE_UP, "u{user} got no answer");
            if at - sent.last >= RETRANSMIT {
                sent.last = at;
                late.push((*user, sent.cseq));
            }
        }
        late.into_iter().for_each(|(user, cseq)| self.send(user, cseq));
    }
}
