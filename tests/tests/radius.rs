//! A node beside a real RADIUS server: docs/radius.md and its example.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use tandem_tests::radius::{FreeRadius, client_files, examples};
use tandem_tests::{PATIENCE, Phone, Process, Site, program, wait_until};

/// Whom the server lets in: alice abroad, and bob as well to where it asks for no group.
const AUTHORIZE: &str = "if (&Service-Type == Group-Check) {\n\
    if (&Sip-Group == \"international\" && &User-Name =~ /^alice@/) {\n\
    update control {\nAuth-Type := Accept\n}\n}\nelse {\nreject\n}\n}\n\
    elsif (&User-Name =~ /^sip:(alice|bob)@/) {\nupdate control {\nAuth-Type := Accept\n}\n\
    update reply {\nSession-Timeout := 300\n}\n}\nelse {\nreject\n}\n";

struct World {
    site: Site,
    server: FreeRadius,
    node: Process,
}

impl World {
    /// `None`: there is no FreeRADIUS here.
    fn start(test: &str) -> Option<Self> {
        let site = Site::bare(test);
        let server = FreeRadius::start(&site, site.net.ip(30), AUTHORIZE)?;
        let node = start(&site);
        Some(Self { site, server, node })
    }

    fn proxy(&self) -> SocketAddr {
        (self.site.net.ip(1), 5060).into()
    }

    fn phone(&self, user: &str, host: u8) -> Phone {
        Phone::new(user, (self.site.net.ip(host), 5060))
    }

    /// What an INVITE of a user to a number is answered with.
    fn invites(&self, phone: &Phone, number: &str, n: u32) -> Option<u16> {
        let (at, proxy, user) = (phone.at, self.proxy(), &phone.user);
        let call_id = format!("{user}{n}-{at}");
        let request = format!(
            "INVITE sip:{number}@{proxy} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user}{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@example.org>;tag=t{n}\r\n\
             To: <sip:{number}@example.org>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:{user}@{at}>\r\nContent-Length: 0\r\n\r\n"
        );
        phone.transact(proxy, &request, &call_id, "1 INVITE").code()
    }

    /// The records of a call that the server has, when there is one.
    fn wait_records(&self, call_id: &str) -> Vec<String> {
        let of_call = || {
            let mut all = self.server.records();
            all.retain(|record| record.contains(&format!("Acct-Session-Id = \"{call_id}\"")));
            all
        };
        wait_until(&format!("a record of {call_id}"), PATIENCE, || !of_call().is_empty());
        of_call()
    }
}

/// The example of the book, at addresses of this test.
fn start(site: &Site) -> Process {
    let example = std::fs::read_to_string(examples().join("aaa_radius.cfg")).unwrap();
    let (ip, dir) = (site.net.ip(1).to_string(), site.dir().display().to_string());
    let text = example.replace("127.0.0.1", &ip).replace("/etc/tandem/radius", &dir);
    let text = text.replace("192.0.2.40", &site.net.ip(40).to_string());
    site.write("node.cfg", &format!("log_level=3\n{text}"));
    client_files(site, site.net.ip(30));
    run(site)
}

fn run(site: &Site) -> Process {
    let log = site.dir().join("node.log");
    let args = ["-F", "-f", "node.cfg", "--state-dir", "state"];
    let skip = std::fs::read_to_string(&log).map(|text| text.len()).unwrap_or(0);
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output_after(skip, "ready", PATIENCE);
    node
}

#[test]
fn a_server_says_who_may_call() {
    let Some(mut world) = World::start("radius-auth") else { return };
    let _gateway = world.phone("00123", 40);
    let (alice, bob, carol) =
        (world.phone("alice", 10), world.phone("bob", 11), world.phone("carol", 12));
    assert_eq!(world.invites(&alice, "00123", 1), Some(200));
    assert_eq!(world.invites(&bob, "00123", 1), Some(403));
    assert_eq!(world.invites(&bob, "123", 2), Some(200));
    assert_eq!(world.invites(&carol, "123", 1), Some(403));
    // One that is down lets nobody in, and costs one warning.
    world.server.kill();
    for n in 2..5 {
        assert_eq!(world.invites(&alice, "00123", n), Some(403));
    }
    let said = |world: &World, what: &str| world.node.output().matches(what).count();
    assert_eq!(said(&world, "nobody listens there"), 1);
    world.server.up();
    // It was silent, and may be left alone for a moment: then it is asked all the same.
    wait_until("it answers", PATIENCE, || world.invites(&alice, "00123", unique()) == Some(200));
    assert_eq!(said(&world, "answers again"), 1);
}

#[test]
fn a_server_gets_one_record_of_a_call_whatever_is_killed() {
    let Some(mut world) = World::start("radius-acct") else { return };
    let gateway = world.phone("00123", 40);
    let alice = world.phone("alice", 10);
    let call = alice.call(world.proxy(), "00123");
    let call_id = call.call_id.clone();
    drop(gateway.answered(&call_id));
    call.hang_up();
    let records = world.wait_records(&call_id);
    for line in [
        "Acct-Status-Type = Stop",
        "Service-Type = Sip-Session",
        "Sip-Response-Code = 200",
        "Sip-Method = 1",
        "Calling-Station-Id = \"alice\"",
        "Called-Station-Id = \"00123\"",
        "Sip-Call-Setuptime = 0",
        "Acct-Session-Time = ",
        "Sip-Call-MSDuration = ",
    ] {
        assert!(records[0].contains(line), "{line}: {}", records[0]);
    }
    // The server dies, the call ends, and then the node dies as well.
    let call = alice.call(world.proxy(), "00123");
    let late = call.call_id.clone();
    world.server.kill();
    call.hang_up();
    wait_until("the record waits", PATIENCE, || {
        world.node.output().contains("they wait in the spool")
    });
    world.node.kill();
    world.node = run(&world.site);
    world.server.up();
    let records = world.wait_records(&late);
    assert!(records[0].contains("Acct-Status-Type = Stop"), "{}", records[0]);
    for call_id in [call_id, late] {
        assert_eq!(world.wait_records(&call_id).len(), 1);
    }
}

/// A number that no call of this test has had.
fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(100);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
