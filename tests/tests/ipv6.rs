//! Registrations and calls over IPv6, by datagrams and by connections.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use serde_json::Value as Json;
use tandem_tests::{
    PATIENCE, Phone, Process, Site, contacts, mi, program, repository, sipp, start_sipp,
};

const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Ports of the one address that nobody uses at the moment.
#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| UdpSocket::bind((HERE, 0)).expect("IPv6 on this machine"));
    taken.map(|socket| socket.local_addr().expect("an address").port())
}

fn start(site: &Site, port: u16) -> Process {
    let modules = ["proto_udp", "proto_tcp", "sl", "signaling", "tm", "rr", "usrloc"];
    let more = ["registrar", "sipmsgops", "mi_fifo"];
    let modules: String =
        modules.iter().chain(&more).map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let script = format!(
        "socket=udp:[::1]:{port}\nsocket=tcp:[::1]:{port}\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"usrloc\", \"use_domain\", 0)\n\
         route {{\n\
         \x20 if (is_method(\"REGISTER\")) {{ save(\"location\"); exit; }}\n\
         \x20 if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         \x20 record_route();\n\
         \x20 if (!lookup(\"location\")) {{ sl_send_reply(404, \"Not Found\"); exit; }}\n\
         \x20 t_relay();\n}}\n",
        dir = site.dir().display()
    );
    let file = site.write("ipv6.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn phones_register_and_call_over_datagrams() {
    let site = Site::bare("ipv6-udp");
    let [port, a, b] = free_ports();
    let _node = start(&site, port);
    let proxy = SocketAddr::from((HERE, port));
    let alice = Phone::new("alice", (HERE, a));
    let bob = Phone::new("bob", (HERE, b));
    alice.register_ok(proxy);
    bob.register_ok(proxy);
    let dump = mi(&site.dir().join("fifo"), "ul_dump", Json::Null)["result"].clone();
    let all = contacts(&dump);
    assert_eq!(all[0]["Contact"], format!("sip:alice@[::1]:{a}"));
    assert_eq!(all[0]["Socket"], format!("udp:[::1]:{port}"));
    let call = alice.call(proxy, "bob");
    let answered = bob.answered(&call.call_id);
    assert_eq!(answered.request("INFO").code(), Some(200));
    call.hang_up();
}

/// A scenario of `tests/sipp` for TCP and IPv6.
fn scenario(site: &Site, name: &str) -> String {
    let file = repository().join(format!("tests/sipp/{name}.xml"));
    let text = std::fs::read_to_string(file).expect("a scenario");
    let text = text.replace("[local_port]>", "[local_port];transport=tcp>");
    let name = format!("{name}-tcp6.xml");
    site.write(&name, &text.replace("IN IP4", "IN IP6"));
    name
}

#[test]
fn phones_register_and_call_over_connections() {
    let site = Site::bare("ipv6-tcp");
    let [port, a, b] = free_ports();
    let _node = start(&site, port);
    let proxy = SocketAddr::from((HERE, port));
    let users = site.write("callee.csv", "SEQUENTIAL\ncallee;\n").display().to_string();
    let (a, b) = (a.to_string(), b.to_string());
    let more = ["-t", "t1", "-p", &a, "-inf", &users, "-m", "1"];
    let registered = sipp(&site, &scenario(&site, "register"), HERE, proxy, &more);
    assert_eq!(registered.status, 0, "{}{}", registered.stdout, registered.stderr);
    let more = ["-t", "t1", "-p", &a, "-m", "10"];
    let mut callee = start_sipp(&site, &scenario(&site, "callee"), HERE, &more);
    let more = ["-t", "t1", "-p", &b, "-s", "callee", "-m", "10", "-r", "10"];
    let called = sipp(&site, &scenario(&site, "caller"), HERE, proxy, &more);
    assert_eq!(called.status, 0, "{}{}", called.stdout, called.stderr);
    assert!(callee.wait(2 * PATIENCE).success(), "{}", callee.output());
}
