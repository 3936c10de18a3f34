//! Ten thousand phones that keep a connection open and say nothing: what one of them costs.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value as Json, json};
use tandem_tests::{PATIENCE, Process, Site, mi, program, wait_until};

const PHONES: u64 = 10_000;
/// What a connection may cost the process; the buffers of the kernel are not in it.
const BYTES_MAX: u64 = 3_072;

fn start(site: &Site, files_max: u64) -> Process {
    let (ip, fifo) = (site.net.ip(1), site.dir().join("fifo"));
    let script = format!(
        "socket=udp:{ip}:5060\nsocket=tcp:{ip}:5060\ntcp_max_connections=12000\n\
         tcp_connection_lifetime=600\nloadmodule \"proto_udp.so\"\nloadmodule \"proto_tcp.so\"\n\
         loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{}\")\n\
         route {{ exit; }}\n",
        fifo.display()
    );
    let file = site.write("idle.cfg", &script);
    let (server, file) = (program(), file.display());
    let command = format!(
        "ulimit -n {files_max}; exec '{}' -F -f '{file}' --state-dir state",
        server.display()
    );
    let log = site.dir().join("node.log");
    let shell = Path::new("/bin/sh");
    let mut node = Process::start("node", shell, &["-c", &command], site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn keepalives(site: &Site, what: &str) -> u64 {
    let status = mi(&site.dir().join("fifo"), "tandem:status", Json::Null);
    status["result"]["keepalives"][what].as_u64().unwrap_or_else(|| panic!("{status}"))
}

fn resident_kb(node: &Process) -> u64 {
    node.proc_status("VmRSS").split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn an_idle_connection_costs_little() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(PHONES + 500), ..limit };
    let allowed = limit.maximum.is_none_or(|most| most >= PHONES + 500);
    assert!(allowed && setrlimit(Resource::Nofile, wanted).is_ok(), "open files: {limit:?}");
    let site = Site::bare("idle");
    let node = start(&site, PHONES + 500);
    let to = SocketAddr::from((site.net.ip(1), 5060));
    // The first ones pay for what all use.
    let mut phones: Vec<TcpStream> = (0..100).map(|_| connect(to)).collect();
    wait_until("the first are there", PATIENCE, || keepalives(&site, "connections") == 100);
    let before = resident_kb(&node);
    phones.extend((100..PHONES).map(|_| connect(to)));
    for phone in &mut phones {
        phone.write_all(b"\r\n\r\n").unwrap();
    }
    let mut pong = [0; 8];
    for phone in &mut phones {
        assert_eq!(phone.read(&mut pong).unwrap(), 2, "each has its pong");
    }
    assert_eq!(keepalives(&site, "connections"), PHONES);
    assert_eq!(keepalives(&site, "pongs"), PHONES);
    let each = (resident_kb(&node) - before) * 1024 / (PHONES - 100);
    eprintln!("{PHONES} idle connections: {each} bytes each");
    assert!(each < BYTES_MAX, "{each} bytes each");
    drop(phones);
    wait_until("all are gone", PATIENCE, || keepalives(&site, "connections") == 0);
    let gone = mi(&site.dir().join("fifo"), "tcp:list", json!(null));
    assert_eq!(gone["result"]["Connections"], json!([]));
}

/// Whoever opens connections until there are no descriptors left takes only his own kind away.
#[test]
fn connections_leave_descriptors_for_commands() {
    let site = Site::bare("few-files");
    let node = start(&site, 64);
    assert!(node.output().contains("at most 16 TCP connections are taken"), "{}", node.output());
    let to = SocketAddr::from((site.net.ip(1), 5060));
    let held: Vec<TcpStream> = (0..100).map(|_| connect(to)).collect();
    wait_until("the node has taken what it takes", PATIENCE, || {
        keepalives(&site, "connections") == 16
    });
    drop(held);
    wait_until("all are gone", PATIENCE, || keepalives(&site, "connections") == 0);
    let mut phone = connect(to);
    phone.write_all(b"\r\n\r\n").unwrap();
    assert_eq!(phone.read(&mut [0; 8]).unwrap(), 2, "there is room again");
}
