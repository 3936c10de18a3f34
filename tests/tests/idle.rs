//! Ten thousand phones that keep a connection open and say nothing: what one of them costs.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value as Json, json};
use tandem_tests::{PATIENCE, Process, Site, mi, program, wait_until};

const PHONES: u64 = 10_000;
/// What a connection may cost the process; the buffers of the kernel are not in it.
const BYTES_MAX: u64 = 3_072;

fn start(site: &Site) -> Process {
    let (ip, fifo) = (site.net.ip(1), site.dir().join("fifo"));
    let script = format!(
        "socket=udp:{ip}:5060\nsocket=tcp:{ip}:5060\ntcp_max_connections=12000\n\
         tcp_connection_lifetime=600\nloadmodule \"proto_udp.so\"\nloadmodule \"proto_tcp.so\"\n\
         loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{}\")\n\
         route {{ exit; }}\n",
        fifo.display()
    );
    let file = site.write("idle.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
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
    let wanted = Rlimit { current: Some(PHONES + 200), ..limit };
    let allowed = limit.maximum.is_none_or(|most| most >= PHONES + 200);
    assert!(allowed && setrlimit(Resource::Nofile, wanted).is_ok(), "open files: {limit:?}");
    let site = Site::bare("idle");
    let node = start(&site);
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
