//! SIP over TCP with real connections: sipp registers and calls, strangers misbehave.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_tests::{
    PATIENCE, Process, Site, mi, program, repository, sipp, sipsak, start_sipp, wait_until,
};

/// A registrar and proxy on UDP and TCP.
fn start(site: &Site, more: &str) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let script = format!(
        "socket=udp:{ip}:5060\nsocket=tcp:{ip}:5060\n{more}\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"proto_tcp.so\"\nloadmodule \"sl.so\"\nloadmodule \"signaling.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"usrloc.so\"\n\
         loadmodule \"registrar.so\"\nloadmodule \"sipmsgops.so\"\nloadmodule \"mi_fifo.so\"\n\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"usrloc\", \"use_domain\", 0)\n\
         route {{\n\
         \x20 if (is_method(\"OPTIONS\")) {{ sl_send_reply(200, \"OK\"); exit; }}\n\
         \x20 if (is_method(\"REGISTER\")) {{ save(\"location\"); exit; }}\n\
         \x20 if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         \x20 if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
         \x20 record_route();\n\
         \x20 if (!lookup(\"location\")) {{ sl_send_reply(404, \"Not Found\"); exit; }}\n\
         \x20 t_relay();\n}}\n"
    );
    let file = site.write("tcp.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// A scenario whose contacts are reached over TCP.
fn over_tcp(site: &Site, scenario: &str) -> String {
    let file = repository().join(format!("tests/sipp/{scenario}.xml"));
    let text = std::fs::read_to_string(file).expect("a scenario");
    let name = format!("{scenario}-tcp.xml");
    site.write(&name, &text.replace("[local_port]>", "[local_port];transport=tcp>"));
    name
}

/// Calls from `caller` to `callee`, each with the options of its transport.
fn calls(test: &str, caller: &str, callee: &str) {
    let site = Site::bare(test);
    let _node = start(&site, "");
    let proxy = SocketAddr::from((site.net.ip(1), 5060));
    let scenario = |transport: &str, name: &str| match transport {
        "u1" => name.to_owned(),
        _ => over_tcp(&site, name),
    };
    let users = site.write("callee.csv", "SEQUENTIAL\ncallee;\n").display().to_string();
    let at = site.net.ip(20);
    let more = ["-t", callee, "-inf", &users, "-m", "1"];
    let registered = sipp(&site, &scenario(callee, "register"), at, proxy, &more);
    assert_eq!(registered.status, 0, "{}{}", registered.stdout, registered.stderr);
    let more = ["-t", callee, "-m", "20"];
    let mut waiting = start_sipp(&site, &scenario(callee, "callee"), at, &more);
    let more = ["-t", caller, "-s", "callee", "-m", "20", "-r", "20", "-max_socket", "500"];
    let called = sipp(&site, &scenario(caller, "caller"), site.net.ip(21), proxy, &more);
    assert_eq!(called.status, 0, "{}{}", called.stdout, called.stderr);
    assert!(waiting.wait(2 * PATIENCE).success(), "{}", waiting.output());
}

#[test]
fn a_phone_on_udp_calls_a_phone_on_tcp() {
    calls("udp-to-tcp", "u1", "t1");
}

#[test]
fn a_phone_on_tcp_calls_a_phone_on_udp() {
    calls("tcp-to-udp", "t1", "u1");
}

#[test]
fn phones_with_a_connection_for_each_call_are_served() {
    calls("tcp-to-tcp", "tn", "t1");
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn connect(site: &Site) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((site.net.ip(1), 5060))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn options(site: &Site, branch: &str) -> String {
    let ip = site.net.ip(9);
    format!(
        "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/TCP {ip}:5060;branch=z9hG4bK{branch}\r\n\
         From: <sip:a@a>;tag=f\r\nTo: <sip:a@a>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        site.net.ip(1)
    )
}

fn connections(site: &Site) -> usize {
    let listed = mi(&site.dir().join("fifo"), "tcp:list", Json::Null);
    listed["result"]["Connections"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_connection_carries_many_messages_and_the_port_is_closed_to_garbage() {
    let site = Site::bare("tcp-stream");
    let mut node = start(&site, "tcp_connection_lifetime=600");
    let mut stream = connect(&site).expect("a connection");
    let all: String = (0..50).map(|n| options(&site, &n.to_string())).collect();
    for piece in all.as_bytes().chunks(1_000) {
        stream.write_all(piece).expect("written");
    }
    let mut answers = String::new();
    let mut buffer = [0; 8_192];
    while answers.matches("SIP/2.0 200 OK").count() < 50 {
        let n = stream.read(&mut buffer).expect("an answer");
        assert!(n > 0, "closed after {answers}");
        answers.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    stream.write_all(b"\r\n\r\n").expect("a ping");
    assert_eq!(stream.read(&mut buffer).expect("a pong"), 2);
    assert_eq!(connections(&site), 1);
    let mut garbage = connect(&site).expect("a connection");
    garbage.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("written");
    assert_eq!(garbage.read(&mut buffer).unwrap_or(0), 0, "TLS is let go");
    let bad = options(&site, "bad").replace("Content-Length: 0\r\n", "");
    stream.write_all(bad.as_bytes()).expect("written");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("an answer, then the end");
    assert!(rest.starts_with("SIP/2.0 400 Missing Content-Length"), "{rest}");
    wait_until("no connection is left", PATIENCE, || connections(&site) == 0);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn slow_and_endless_senders_cost_little_and_are_let_go() {
    let site = Site::bare("tcp-slow");
    let mut node = start(&site, "tcp_max_connections=300\ntcp_max_msg_time=2");
    let before = node.memory_mb();
    let head = "OPTIONS sip:x SIP/2.0\r\nX: ";
    let mut slow: Vec<TcpStream> = Vec::new();
    for n in 0..500 {
        let Ok(mut stream) = connect(&site) else { continue };
        // Half of them only begin, the others fill what may be kept.
        let body = if n % 2 == 0 { String::new() } else { "y".repeat(60_000) };
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        slow.push(stream);
    }
    assert!(connections(&site) <= 300);
    // Others are served meanwhile.
    let uri = format!("sip:x@{}:5060", site.net.ip(1));
    assert_eq!(sipsak(&["-s", &uri]).status, 0);
    assert!(node.memory_mb() < before + 100, "{} MB after {before}", node.memory_mb());
    wait_until("they are let go", PATIENCE, || connections(&site) == 0);
    drop(slow);
    let mut stream = connect(&site).expect("room again");
    stream.write_all(options(&site, "after").as_bytes()).expect("written");
    let mut buffer = [0; 2_048];
    let n = stream.read(&mut buffer).expect("an answer");
    assert!(buffer[..n].starts_with(b"SIP/2.0 200 OK"));
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}
