//! A small SIP phone over UDP: registers, answers, calls, and counts the pings it gets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::message::Message;
use crate::{PATIENCE, breathe, now, wait_for};

/// A phone with a socket of its own and a thread that answers what comes in: 200 to OPTIONS,
/// BYE, INFO; 180 and 200 to INVITE.
#[derive(Debug)]
pub struct Phone {
    /// The user part of its address of record.
    pub user: String,
    /// Where its datagrams come from.
    pub at: SocketAddr,
    /// The address it writes into its messages: its own idea of where it is.
    pub shown: SocketAddr,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
    register_cseq: AtomicU32,
}

/// A keepalive datagram of four zero bytes.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// When it came.
    pub at: Instant,
    /// Which socket sent it.
    pub from: SocketAddr,
}

/// What the phone and its thread share.
#[derive(Debug)]
struct Line {
    user: String,
    shown: SocketAddr,
    /// What it answers to every request, if it does not serve.
    refuses: Option<&'static str>,
    /// It rings for a moment.
    rings: bool,
    socket: UdpSocket,
    hung_up: AtomicBool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    messages: Vec<Message>,
    pings: Vec<Ping>,
}

/// A phone forgets nothing, but a storm must not eat the machine.
const HEARD_MAX: usize = 100_000;
const RETRANSMIT: Duration = Duration::from_millis(500);

impl Phone {
    /// Puts a phone on the network.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn new(user: &str, at: impl Into<SocketAddr>) -> Self {
        let at = at.into();
        Self::open(user, at, at)
    }

    /// Puts a phone behind a NAT that the rest of the network sees as `at`.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn behind_nat(user: &str, at: impl Into<SocketAddr>) -> Self {
        Self::open(user, at.into(), SocketAddr::from(([192, 168, 7, 5], 5080)))
    }

    fn open(user: &str, at: SocketAddr, shown: SocketAddr) -> Self {
        Self::answering(user, at, shown, None, false)
    }

    /// Puts a phone on the network that rings for a moment before it is answered: over several
    /// hosts the 200 may overtake a 180 that was sent in the same moment.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn that_rings(user: &str, at: impl Into<SocketAddr>) -> Self {
        let at = at.into();
        Self::answering(user, at, at, None, true)
    }

    /// Puts a gateway on the network that answers everything with 503.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn out_of_service(user: &str, at: impl Into<SocketAddr>) -> Self {
        let at = at.into();
        Self::answering(user, at, at, Some("503 Service Unavailable"), false)
    }

    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets and threads")]
    fn answering(
        user: &str,
        at: SocketAddr,
        shown: SocketAddr,
        refuses: Option<&'static str>,
        rings: bool,
    ) -> Self {
        let socket = UdpSocket::bind(at).unwrap_or_else(|e| panic!("phone {user}: {e}"));
        let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
        let line = Arc::new(Line {
            user: user.to_owned(),
            shown,
            refuses,
            rings,
            socket,
            hung_up: AtomicBool::new(false),
            heard: Mutex::default(),
        });
        let theirs = Arc::clone(&line);
        let thread = Some(std::thread::spawn(move || theirs.answer_until_hung_up()));
        Self { user: user.to_owned(), at, shown, line, thread, register_cseq: AtomicU32::new(0) }
    }

    /// Registers (or refreshes, or with 0 removes) its contact and gives back the final reply.
    pub fn register(&self, registrar: SocketAddr, expires_s: u32) -> Message {
        let cseq = self.register_cseq.fetch_add(1, Ordering::Relaxed) + 1;
        let (user, shown, host) = (&self.user, self.shown, uri_host(registrar));
        let call_id = format!("register-{user}-{}", self.at);
        let request = format!(
            "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\n\
             From: <sip:{user}@{host}>;tag=r{cseq}\r\nTo: <sip:{user}@{host}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@{shown}>\r\nExpires: {expires_s}\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO\r\nUser-Agent: test phone\r\n\
             Content-Length: 0\r\n\r\n",
            via = self.via(),
        );
        self.transact(registrar, &request, &call_id, &format!("{cseq} REGISTER"))
    }

    /// Registers for 600 s.
    ///
    /// # Panics
    /// If the reply is not 200 with this contact.
    pub fn register_ok(&self, registrar: SocketAddr) {
        let reply = self.register(registrar, 600);
        assert_eq!(reply.code(), Some(200), "{reply:?}");
        let contact = format!("<sip:{}@{}>", self.user, self.shown);
        let listed = reply.all("Contact");
        assert!(listed.iter().any(|c| c.starts_with(&contact)), "{contact} not in {listed:?}");
    }

    /// Asks with OPTIONS whether somebody serves at `node`.
    pub fn options(&self, node: SocketAddr) -> Message {
        let call_id = unique("options");
        let request = format!(
            "OPTIONS sip:{node} SIP/2.0\r\n{via}Max-Forwards: 70\r\n\
             From: <sip:{user}@{host}>;tag=o\r\nTo: <sip:{node}>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            via = self.via(),
            user = self.user,
            host = uri_host(node),
        );
        self.transact(node, &request, &call_id, "1 OPTIONS")
    }

    /// A Via with a branch of its own.
    pub(crate) fn via(&self) -> String {
        format!("Via: SIP/2.0/UDP {};rport;branch=z9hG4bK{}\r\n", self.shown, unique("b"))
    }

    /// Sends bytes, whatever they are.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        // A refused datagram (nobody listens) shows as a missing answer.
        let _ = self.line.socket.send_to(bytes, to);
    }

    /// Sends a request again and again until its final reply.
    ///
    /// # Panics
    /// If none comes.
    pub fn transact(&self, to: SocketAddr, request: &str, call_id: &str, cseq: &str) -> Message {
        let mut next = now();
        wait_for(&format!("a final reply to {cseq} from {to}"), PATIENCE, || {
            let replies = self.replies(call_id, cseq);
            if let Some(done) = replies.iter().find(|r| r.code().is_some_and(|c| c >= 200)) {
                return Some(done.clone());
            }
            if now() >= next && replies.is_empty() {
                self.send(to, request.as_bytes());
                next = now() + RETRANSMIT;
            }
            None
        })
    }

    /// The replies so far to a request.
    #[must_use]
    pub fn replies(&self, call_id: &str, cseq: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|m| m.answers(call_id, cseq)).collect()
    }

    /// The requests received so far in a call.
    #[must_use]
    pub fn requests(&self, method: &str, call_id: &str) -> Vec<Message> {
        let of_call =
            |m: &Message| m.method() == Some(method) && m.header("Call-ID") == Some(call_id);
        self.messages().into_iter().filter(of_call).collect()
    }

    /// Every message received so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.line.heard().messages.clone()
    }

    /// Every ping received so far.
    #[must_use]
    pub fn pings(&self) -> Vec<Ping> {
        self.line.heard().pings.clone()
    }

    /// The pings received so far from one node.
    #[must_use]
    pub fn pings_from(&self, node: SocketAddr) -> Vec<Ping> {
        self.pings().into_iter().filter(|p| p.from == node).collect()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.line.hung_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Line {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer_until_hung_up(&self) {
        let mut datagram = [0; 65_536];
        while !self.hung_up.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut datagram) {
                Ok((n, from)) => self.take(&datagram[..n], from),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                // Nobody listened where something was sent to.
                Err(_) => breathe(),
            }
        }
    }

    fn take(&self, datagram: &[u8], from: SocketAddr) {
        let mut heard = self.heard();
        let message = Message::parse(datagram);
        let is_request = |m: &Message| m.header("Call-ID").is_some_and(|c| c.starts_with("nping-"));
        let is_ping = datagram == [0; 4] || message.as_ref().is_some_and(is_request);
        if is_ping && heard.pings.len() < HEARD_MAX {
            heard.pings.push(Ping { at: now(), from });
        }
        let Some(message) = message else { return };
        if heard.messages.len() < HEARD_MAX {
            heard.messages.push(message.clone());
        }
        drop(heard);
        for (n, reply) in self.replies_to(&message).into_iter().enumerate() {
            if n > 0 && self.rings {
                breathe();
            }
            let _ = self.socket.send_to(reply.as_bytes(), from);
        }
    }

    fn replies_to(&self, request: &Message) -> Vec<String> {
        match (request.method(), self.refuses) {
            (None | Some("ACK"), _) => Vec::new(),
            (_, Some(status)) => vec![self.reply(request, status, "")],
            (Some("INVITE"), _) => vec![
                self.reply(request, "180 Ringing", ""),
                self.reply(request, "200 OK", &session(self.shown)),
            ],
            _ => vec![self.reply(request, "200 OK", "")],
        }
    }

    fn reply(&self, request: &Message, status: &str, body: &str) -> String {
        let to = request.want("To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=callee" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}{tag}\r\nContact: <sip:{user}@{at}>\r\n\
             {kind}Content-Length: {length}\r\n\r\n{body}",
            copied = request.copied(),
            user = self.user,
            at = self.shown,
            length = body.len(),
        )
    }
}

/// A session description with one audio stream.
pub(crate) fn session(at: SocketAddr) -> String {
    let (ip, version) = (at.ip(), if at.is_ipv6() { 6 } else { 4 });
    format!(
        "v=0\r\no=- 1 1 IN IP{version} {ip}\r\ns=-\r\nc=IN IP{version} {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    )
}

/// An address as the host of a URI.
pub(crate) fn uri_host(at: SocketAddr) -> String {
    match at.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A text that no other call of this function gives, in any process of the machine.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{n}", std::process::id())
}
