//! Ten thousand who watch one: each gets the state as it is last, and whoever asks for something
//! else meanwhile is answered at once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]
#![allow(clippy::disallowed_methods, reason = "the tests own their sockets")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tandem_tests::{PATIENCE, Phone, Process, Site, now, program};

const WATCHERS: usize = 10_000;
/// SUBSCRIBEs that wait for their answer.
const WINDOW: usize = 64;
/// What the node may take in memory while it tells all of them.
const MEMORY_MB_MAX: u64 = 400;
const REPEAT: Duration = Duration::from_millis(700);

fn script(ip: std::net::Ipv4Addr) -> String {
    let modules = ["proto_udp", "sl", "tm", "signaling", "presence", "presence_mwi"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "socket=udp:{ip}:5060\nlog_level=2\n{modules}\
         route {{ if ($rm == \"PUBLISH\") handle_publish();\n\
         else if ($rm == \"SUBSCRIBE\") handle_subscribe();\n\
         else sl_send_reply(200, \"OK\"); }}\n"
    )
}

/// All watchers on one socket: for each the state that it was told last.
struct Crowd {
    socket: UdpSocket,
    node: SocketAddr,
    let_in: Vec<bool>,
    told: Vec<(u32, String)>,
    notifies: usize,
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

impl Crowd {
    fn new(at: SocketAddr, node: SocketAddr) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let told = vec![(0, String::new()); WATCHERS];
        Self { socket, node, let_in: vec![false; WATCHERS], told, notifies: 0 }
    }

    fn subscribe(&self, n: usize) {
        let at = self.socket.local_addr().unwrap();
        let text = format!(
            "SUBSCRIBE sip:box@a.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKs{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:w{n}@a.test>;tag=f{n}\r\nTo: <sip:box@a.test>\r\n\
             Call-ID: w-{n}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:w{n}@{at}>\r\n\
             Event: message-summary\r\nExpires: 3000\r\nContent-Length: 0\r\n\r\n"
        );
        let _ = self.socket.send_to(text.as_bytes(), self.node);
    }

    /// Takes what has come; answers every NOTIFY.
    fn hear(&mut self) {
        let mut datagram = [0; 4096];
        for _ in 0..1_000 {
            let Ok((n, from)) = self.socket.recv_from(&mut datagram) else { return };
            let text = String::from_utf8_lossy(&datagram[..n]);
            let who = header(&text, "Call-ID").strip_prefix("w-");
            let who: usize = who.and_then(|n| n.parse().ok()).unwrap();
            if text.starts_with("SIP/2.0 200") {
                self.let_in[who] = true;
            }
            if !text.starts_with("NOTIFY ") {
                continue;
            }
            let reply: String = ["Via", "From", "To", "Call-ID", "CSeq"]
                .iter()
                .map(|name| format!("{name}: {}\r\n", header(&text, name)))
                .collect();
            let reply = format!("SIP/2.0 200 OK\r\n{reply}Content-Length: 0\r\n\r\n");
            let _ = self.socket.send_to(reply.as_bytes(), from);
            let cseq = header(&text, "CSeq").split(' ').next().unwrap().parse().unwrap();
            if cseq > self.told[who].0 {
                self.notifies += 1;
                let (_, body) = text.split_once("\r\n\r\n").unwrap();
                self.told[who] = (cseq, body.to_owned());
            }
        }
    }

    fn watch(&mut self) {
        let (mut next, begun) = (0, now());
        let mut last = now();
        while self.let_in.iter().any(|is_in| !is_in) {
            let waiting = self.let_in[..next].iter().filter(|is_in| !**is_in).count();
            let upto = (next + WINDOW.saturating_sub(waiting)).min(WATCHERS);
            (next..upto).for_each(|n| self.subscribe(n));
            next = upto;
            self.hear();
            if last.elapsed() > REPEAT {
                last = now();
                (0..next).filter(|n| !self.let_in[*n]).for_each(|n| self.subscribe(n));
            }
            assert!(begun.elapsed() < 4 * PATIENCE, "not all are let in");
        }
    }
}

fn publish(phone: &Phone, node: SocketAddr, n: u32, etag: &str) -> String {
    let at = phone.shown;
    let body = format!("Messages-Waiting: yes\r\nVoice-Message: {n}/0\r\n");
    let etag = if etag.is_empty() { String::new() } else { format!("SIP-If-Match: {etag}\r\n") };
    let request = format!(
        "PUBLISH sip:box@a.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKp{n}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:box@a.test>;tag=p\r\nTo: <sip:box@a.test>\r\n\
         Call-ID: p-{n}\r\nCSeq: 1 PUBLISH\r\nEvent: message-summary\r\nExpires: 3000\r\n{etag}\
         Content-Type: application/simple-message-summary\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = phone.transact(node, &request, &format!("p-{n}"), "1 PUBLISH");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    reply.want("SIP-ETag").to_owned()
}

/// How long the slowest of some OPTIONS took, asked until all is told.
fn ask(phone: &Phone, node: SocketAddr, n: usize) -> Duration {
    let at = phone.shown;
    let request = format!(
        "OPTIONS sip:{node} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKo{n}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:o@a.test>;tag=o\r\nTo: <sip:o@a.test>\r\n\
         Call-ID: o-{n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let begun = now();
    let reply = phone.transact(node, &request, &format!("o-{n}"), "1 OPTIONS");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    begun.elapsed()
}

fn memory_mb(node: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn ten_thousand_who_watch_one_get_the_last_state_and_hold_nobody_up() {
    let site = Site::bare("presence-many");
    let (ip, at) = (site.net.ip(1), SocketAddr::from((site.net.ip(20), 5060)));
    let file = site.write("node.cfg", &script(ip)).to_string_lossy().into_owned();
    let state = site.dir().join("state").to_string_lossy().into_owned();
    let args = ["-F", "-f", &file, "--state-dir", &state];
    let log = site.dir().join("node.log");
    let mut process = Process::start("node", &program(), &args, site.dir(), &log);
    process.wait_for_output("ready", PATIENCE);
    let node = SocketAddr::from((ip, 5060));
    let mut crowd = Crowd::new(at, node);
    crowd.watch();
    crowd.notifies = 0;
    let mailbox = Phone::new("box", (site.net.ip(21), 5060));
    let other = Phone::new("other", (site.net.ip(22), 5060));
    // Five states, faster than all can be told of each.
    let mut etag = String::new();
    for n in 1..=5 {
        etag = publish(&mailbox, node, n, &etag);
        crowd.hear();
    }
    let mut slowest = std::thread::scope(|scope| {
        let asking = scope.spawn(|| (0..50).map(|n| ask(&other, node, n)).collect::<Vec<_>>());
        let begun = now();
        while crowd.told.iter().any(|(_, state)| !state.contains("Voice-Message: 5/0")) {
            crowd.hear();
            let last = crowd.told.iter().filter(|(_, state)| state.contains(": 5/0")).count();
            assert!(begun.elapsed() < 6 * PATIENCE, "only {last} were told the last state");
        }
        asking.join().unwrap()
    });
    slowest.sort();
    let (median, longest) = (slowest[slowest.len() / 2], slowest[slowest.len() - 1]);
    assert!(median < Duration::from_millis(250), "others wait {median:?}, at most {longest:?}");
    let memory_mb = memory_mb(&process);
    assert!(memory_mb < MEMORY_MB_MAX, "{memory_mb} MB");
    eprintln!("{} NOTIFYs, {memory_mb} MB, others waited {median:?} ({longest:?})", crowd.notifies);
}
