//! A node beside a real RADIUS server: docs/radius.md and its example.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tandem_tests::radius::{FreeRadius, SECRET};
use tandem_tests::{Message, PATIENCE, Phone, Process, Site, program};

/// What the server lets in.
const AUTHORIZE: &str = "if (&Service-Type == Group-Check && &Sip-Group == \"international\" \
    && &User-Name == \"alice@example.org\") {\nupdate control {\nAuth-Type := Accept\n}\n\
    update reply {\nSIP-AVP := \"rate:gold\"\n}\n}\nelse {\nreject\n}\n";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples")
}

struct World {
    site: Site,
    server: FreeRadius,
    node: Process,
}

impl World {
    /// `None`: there is no FreeRADIUS here.
    fn start(test: &str) -> Option<Self> {
        let site = Site::bare(test);
        let dictionary = examples().join("radius/dictionary.sip");
        let server = FreeRadius::start(&site, site.net.ip(30), &dictionary, AUTHORIZE)?;
        let node = start(&site);
        Some(Self { site, server, node })
    }

    fn proxy(&self) -> SocketAddr {
        (self.site.net.ip(1), 5060).into()
    }

    fn asks(&self, user: &str, n: u32) -> Message {
        let phone = Phone::new(user, (self.site.net.ip(10), 5060));
        let (at, proxy) = (phone.at, self.proxy());
        let request = format!(
            "OPTIONS sip:{proxy} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user}{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@example.org>;tag=t{n}\r\n\
             To: <sip:abroad@example.org>\r\nCall-ID: {user}{n}\r\nCSeq: {n} OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        phone.transact(proxy, &request, &format!("{user}{n}"), &format!("{n} OPTIONS"))
    }
}

/// The example of the book, at addresses of this test.
fn start(site: &Site) -> Process {
    let example = std::fs::read_to_string(examples().join("aaa_radius.cfg")).unwrap();
    let (ip, dir) = (site.net.ip(1).to_string(), site.dir().display().to_string());
    let text = example.replace("127.0.0.1", &ip).replace("/etc/tandem/radius", &dir);
    site.write("node.cfg", &format!("log_level=3\n{text}"));
    for name in ["radiusclient.conf", "servers", "dictionary", "dictionary.sip"] {
        let text = std::fs::read_to_string(examples().join("radius").join(name)).unwrap();
        assert!(name != "servers" || text.contains(SECRET));
        site.write(name, &text.replace("192.0.2.30", &site.net.ip(30).to_string()));
    }
    let log = site.dir().join("node.log");
    let args = ["-F", "-f", "node.cfg", "--state-dir", "state"];
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_server_says_who_is_in_a_group() {
    let Some(mut world) = World::start("radius-group") else { return };
    let reply = world.asks("alice", 1);
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    assert!(format!("{reply:?}").contains("OK: gold"), "{reply:?}");
    assert_eq!(world.asks("bob", 1).code(), Some(403));
    // One that is down lets nobody in, and costs one warning.
    world.server.kill();
    for n in 2..5 {
        assert_eq!(world.asks("alice", n).code(), Some(403));
    }
    assert_eq!(world.node.output().matches("nobody listens there").count(), 1);
    world.server.up();
    assert_eq!(world.asks("alice", 5).code(), Some(200));
    assert!(world.node.output().contains("answers again"));
}
