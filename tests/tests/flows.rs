//! Phones on connections of their own: one that lost its connection is called over the next one
//! from its first request on (RFC 5626), and keepalives are answered on both.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value as Json;
use socket2::{Domain, Socket, Type};
use tandem_tests::{PATIENCE, Process, Site, mi, program, wait_until};

const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"";

fn start(site: &Site) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let script = format!(
        "socket=udp:{ip}:5060\nsocket=tcp:{ip}:5060\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"proto_tcp.so\"\nloadmodule \"sl.so\"\nloadmodule \"signaling.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"usrloc.so\"\n\
         loadmodule \"registrar.so\"\nloadmodule \"mi_fifo.so\"\n\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"usrloc\", \"use_domain\", 0)\n\
         route {{\n\
         \x20 if ($rm == \"OPTIONS\") {{ sl_send_reply(200, \"OK\"); exit; }}\n\
         \x20 if ($rm == \"REGISTER\") {{ save(\"location\"); exit; }}\n\
         \x20 if (!lookup(\"location\")) {{ sl_send_reply(404, \"Not Found\"); exit; }}\n\
         \x20 t_relay();\n}}\n"
    );
    let file = site.write("flows.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// A new connection from the address of the phone.
fn connect(site: &Site) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((site.net.ip(20), 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((site.net.ip(1), 5060)).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Reads until there is a whole message with this beginning.
fn receive(stream: &mut TcpStream, start: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4_096]);
    loop {
        let at = text.find(start);
        if let Some(at) = at.filter(|at| text[*at..].contains("\r\n\r\n")) {
            return text[at..].to_owned();
        }
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}

/// A request of the phone, whose Contact nobody can reach but over its connection.
fn own(site: &Site, method: &str, port: u16) -> String {
    let ip = site.net.ip(20);
    format!(
        "{method} sip:{} SIP/2.0\r\nVia: SIP/2.0/TCP {ip}:{port};branch=z9hG4bK{method}{port}\r\n\
         From: <sip:bob@a>;tag=f\r\nTo: <sip:bob@a>\r\nCall-ID: {method}{port}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:bob@{ip}:{port};transport=tcp>;{INSTANCE}\r\n\
         Content-Length: 0\r\n\r\n",
        site.net.ip(1)
    )
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn call(site: &Site, n: u32) {
    let (ip, to) = (site.net.ip(21), SocketAddr::from((site.net.ip(1), 5060)));
    let caller = UdpSocket::bind((ip, 0)).unwrap();
    let port = caller.local_addr().unwrap().port();
    let text = format!(
        "INVITE sip:bob@{} SIP/2.0\r\nVia: SIP/2.0/UDP {ip}:{port};branch=z9hG4bKi{n}\r\n\
         From: <sip:al@a>;tag=f\r\nTo: <sip:bob@a>\r\nCall-ID: i{n}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:al@{ip}:{port}>\r\nContent-Length: 0\r\n\r\n",
        to.ip()
    );
    caller.send_to(text.as_bytes(), to).unwrap();
}

fn connections(site: &Site) -> usize {
    let listed = mi(&site.dir().join("fifo"), "tcp:list", Json::Null);
    listed["result"]["Connections"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_phone_that_is_back_over_a_new_connection_is_called_from_its_first_request_on() {
    let site = Site::bare("flows");
    let _node = start(&site);
    let mut first = connect(&site);
    first.write_all(own(&site, "REGISTER", 5062).as_bytes()).unwrap();
    receive(&mut first, "SIP/2.0 200");
    call(&site, 1);
    receive(&mut first, "INVITE sip:bob@");
    drop(first);
    wait_until("the connection is gone", PATIENCE, || connections(&site) == 0);
    // It does not register again: its port is another one, its instance is the same.
    let mut second = connect(&site);
    second.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 8];
    assert_eq!(second.read(&mut pong).unwrap(), 2, "a keepalive is answered, and says nothing");
    second.write_all(own(&site, "OPTIONS", 5063).as_bytes()).unwrap();
    receive(&mut second, "SIP/2.0 200");
    call(&site, 2);
    let invite = receive(&mut second, "INVITE sip:bob@");
    assert!(invite.contains("Call-ID: i2\r\n"), "{invite}");
    // Another phone at that address, with another instance, gets none of its calls.
    drop(second);
    wait_until("the connection is gone", PATIENCE, || connections(&site) == 0);
    let mut stranger = connect(&site);
    let text = own(&site, "OPTIONS", 5064).replace("e128", "e129");
    stranger.write_all(text.as_bytes()).unwrap();
    receive(&mut stranger, "SIP/2.0 200");
    call(&site, 3);
    stranger.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(stranger.read(&mut pong).is_err(), "{pong:?}");
}
