//! Requests to names, with a real server and a DNS of the test's own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tandem_tests::{DnsServer, PATIENCE, Process, Said, Site, now, program};

/// A proxy that sends INVITEs to `uri`, and answers OPTIONS.
fn start(site: &Site, dns: &DnsServer, uri: &str) -> Process {
    let ip = site.net.ip(1);
    let script = format!(
        "socket=udp:{ip}:5060\ndns_retr_time=1\ndns_retr_no=1\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nmodparam(\"tm\", \"fr_timeout\", 2)\n\
         route {{\n\
         \x20 if ($rm == \"OPTIONS\") {{ sl_send_reply(200, \"OK\"); exit; }}\n\
         \x20 if ($rm == \"CANCEL\") {{ t_relay(); exit; }}\n\
         \x20 if ($rm == \"ACK\") {{ t_relay(); exit; }}\n\
         \x20 $ru = \"{uri}\"; t_relay();\n}}\n"
    );
    let file = site.write("dns.cfg", &script);
    let servers = format!("TANDEM_NAMESERVERS={}", dns.addr);
    let program = program().to_string_lossy().into_owned();
    let file = file.to_string_lossy().into_owned();
    let args = [servers.as_str(), &program, "-F", "-f", &file, "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", "/usr/bin/env".as_ref(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// A caller or a callee.
struct End {
    socket: UdpSocket,
}

impl End {
    #[expect(clippy::disallowed_methods, reason = "a phone of the test's own")]
    fn at(addr: impl Into<SocketAddr>) -> Self {
        let socket = UdpSocket::bind(addr.into()).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("its address")
    }

    fn request(&self, to: SocketAddr, method: &str, id: &str) {
        let own = self.addr();
        let text = format!(
            "{method} sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@h>;tag=f\r\nTo: <sip:b@h>\r\nCall-ID: {id}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        self.socket.send_to(text.as_bytes(), to).expect("sent");
    }

    fn receive(&self) -> (String, SocketAddr) {
        let mut buffer = [0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a message in time");
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
    }

    /// The next reply that is no 100.
    fn final_code(&self) -> u16 {
        loop {
            let (text, _) = self.receive();
            let code: u16 = text.split(' ').nth(1).and_then(|c| c.parse().ok()).expect("a code");
            if code > 100 {
                return code;
            }
        }
    }
}

/// The answer of a callee to a request.
fn ok(request: &str) -> String {
    let kept = request.lines().filter(|line| {
        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
    });
    let lines: Vec<String> = kept
        .map(|line| if line.starts_with("To:") { format!("{line};tag=t") } else { line.to_owned() })
        .collect();
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

fn node_addr(site: &Site) -> SocketAddr {
    (site.net.ip(1), 5060).into()
}

#[test]
fn when_the_first_server_is_silent_the_second_gets_the_call() {
    let site = Site::bare("dns-failover");
    let (first, second) = (End::at((site.net.ip(2), 5070)), End::at((site.net.ip(3), 5071)));
    let servers =
        vec![(20, 5071, "two.example.test".to_owned()), (10, 5070, "one.example.test".to_owned())];
    let ip = |host: u8| Said::Ips(vec![site.net.ip(host)]);
    let zone = [
        ("_sip._udp.example.test", Said::Servers(servers)),
        ("one.example.test", ip(2)),
        ("two.example.test", ip(3)),
        ("example.test", Said::Ips(vec![])),
    ];
    let dns = DnsServer::start(site.net.ip(9), &zone);
    let _node = start(&site, &dns, "sip:bob@example.test");
    let caller = End::at((site.net.ip(20), 5060));
    caller.request(node_addr(&site), "INVITE", "one");
    let (text, _) = first.receive();
    assert!(text.starts_with("INVITE sip:bob@example.test SIP/2.0"), "{text}");
    let (text, from) = second.receive();
    assert!(text.starts_with("INVITE sip:bob@example.test SIP/2.0"), "{text}");
    second.socket.send_to(ok(&text).as_bytes(), from).expect("sent");
    assert_eq!(caller.final_code(), 200);
    assert!(dns.asked() >= 4, "NAPTR, SRV and two addresses");
}

#[test]
fn names_of_the_hosts_file_are_known_and_unknown_ones_are_answered_476() {
    let site = Site::bare("dns-hosts");
    let dns = DnsServer::start(site.net.ip(9), &[]);
    let callee = End::at((Ipv4Addr::LOCALHOST, 0));
    let uri = format!("sip:bob@localhost:{}", callee.addr().port());
    let node = start(&site, &dns, &uri);
    let caller = End::at((site.net.ip(20), 5060));
    caller.request(node_addr(&site), "INVITE", "one");
    let (text, from) = callee.receive();
    callee.socket.send_to(ok(&text).as_bytes(), from).expect("sent");
    assert_eq!(caller.final_code(), 200);
    assert_eq!(dns.asked(), 0, "the table of the host was enough");
    drop(node);

    let site = Site::bare("dns-unknown");
    let _node = start(&site, &dns, "sip:bob@nowhere.example.test");
    let caller = End::at((site.net.ip(20), 5060));
    caller.request(node_addr(&site), "INVITE", "one");
    assert_eq!(caller.final_code(), 476);
    assert!(dns.asked() >= 1);
}

#[test]
fn a_silent_dns_holds_nobody_else_up() {
    let site = Site::bare("dns-silent");
    let dns = DnsServer::start(site.net.ip(9), &[("silent.example.test", Said::Nothing)]);
    let _node = start(&site, &dns, "sip:bob@silent.example.test:5060");
    let (caller, other) = (End::at((site.net.ip(20), 5060)), End::at((site.net.ip(21), 5060)));
    let begun = now();
    for n in 0..50 {
        caller.request(node_addr(&site), "INVITE", &format!("call-{n}"));
    }
    other.request(node_addr(&site), "OPTIONS", "ping");
    assert_eq!(other.final_code(), 200);
    assert!(now() - begun < Duration::from_millis(900), "no worker has waited");
    assert_eq!(caller.final_code(), 476, "in the end the callers are told");
}

/// The question is asked by one thread and the call refused by another one; the 100 of the first
/// one must not come behind.
#[test]
fn what_an_answer_of_the_dns_brings_does_not_overtake_the_100() {
    let site = Site::bare("dns-order");
    let dns = DnsServer::start(site.net.ip(9), &[]);
    let _node = start(&site, &dns, "sip:bob@\" + $ci + \".example.test:5060");
    for n in 0..100 {
        let caller = End::at((site.net.ip(20), 5100 + n));
        caller.request(node_addr(&site), "INVITE", &format!("call-{n}"));
        let replies = [caller.receive().0, caller.receive().0];
        assert!(replies[0].starts_with("SIP/2.0 100 "), "of call {n} came first: {}", replies[0]);
        assert!(replies[1].starts_with("SIP/2.0 476 "), "{}", replies[1]);
    }
}
