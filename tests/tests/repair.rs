//! A divergence that was planted is shown, and repairs itself.

use std::io::Write as _;

use serde_json::{Value as Json, json};
use tandem_bin::usrloc::{BranchFlags, Contact, MatchMode, Usrloc, VERSION, contact_id};
use tandem_bin::{Packet, Trailer};
use tandem_tests::{Node, PATIENCE, Phone, Site, contacts, stream, wait_until};

fn dump(node: &Node) -> Vec<Json> {
    contacts(&node.mi("ul_dump", Json::Null))
}

fn users(node: &Node) -> Vec<String> {
    dump(node).iter().map(|c| c["AOR"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Tells node 1, from the address of node 2 and in the language of the field, of a contact that
/// node 2 does not have.
fn plant(site: &Site, user: &str) {
    let (uri, call_id) = (format!("sip:{user}@192.0.2.9"), "planted");
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()) as i64;
    let contact = Contact {
        table: "location".into(),
        aor: user.to_owned().into(),
        uri: uri.into(),
        id: contact_id(user.as_bytes(), 7, 1),
        call_id: call_id.into(),
        user_agent: "planted".into(),
        path: "".into(),
        attr: "".into(),
        received: "".into(),
        instance: "".into(),
        expires_unix_s: now_s + 600,
        q: -1,
        socket: format!("udp:{}:5060", site.net.ip(2)).into(),
        cseq: 1,
        flags: 0,
        branch_flags: BranchFlags::Names("".into()),
        methods: u32::MAX,
        last_modified_unix_s: now_s,
        key_values: "".into(),
        match_mode: MatchMode::Default,
    };
    let packet = Usrloc::ContactInsert(Box::new(contact));
    let packet = Packet {
        capability: tandem_bin::usrloc::CAPABILITY.into(),
        packet_type: packet.packet_type(),
        version: VERSION,
        payload: packet.encode().expect("small"),
        trailer: Some(Trailer::new(1, 2, 1)),
    };
    let mut stream = stream(site.net.ip(2), (site.net.ip(1), 5566).into());
    stream.write_all(&packet.encode().expect("small")).expect("written");
}

#[test]
fn a_planted_divergence_is_named_and_then_repaired() {
    let site = Site::pair("repair");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    two.wait_for_users(&["alice"]);
    // A comparison that ends a sync repairs at once: it has to be over.
    for node in [&one, &two] {
        wait_until(&format!("node {} is equal", node.id), 2 * PATIENCE, || {
            node.ctl("tandemctl").run(&["status"]).stdout.contains(" equal ")
        });
    }
    plant(&site, "mallory");
    wait_until("node 1 believes it", PATIENCE, || users(&one) == ["alice", "mallory"]);
    assert_eq!(users(&two), ["alice"]);

    // Between the comparison that finds it and the next one, which repairs it.
    let mut said = String::new();
    wait_until("the difference is named", 2 * PATIENCE, || {
        said = one.ctl("tandemctl").run(&["cluster", "diff"]).stdout;
        said.contains("mallory")
    });
    assert!(said.contains("missing there") && !said.contains("alice"), "{said}");
    let status = one.ctl("tandemctl").run(&["status"]).stdout;
    assert!(status.contains("1 of 256 parts differ"), "{status}");

    wait_until("both know the same", 2 * PATIENCE, || users(&two) == ["alice", "mallory"]);
    wait_until("and both say so", 2 * PATIENCE, || {
        [&one, &two].iter().all(|node| {
            let diff = node.ctl("tandemctl").run(&["cluster", "diff"]);
            let status = node.ctl("tandemctl").run(&["status"]).stdout;
            diff.stdout == "nothing differs\n" && !status.contains("parts differ")
        })
    });
    let shown = |node: &Node| node.mi("ul_show_contact", json!(["location", "mallory"]));
    assert_eq!(shown(&one)["Contacts"][0]["Contact"], shown(&two)["Contacts"][0]["Contact"]);
}
