//! keepalived moves the service address, and its hook of one line the tag: on real hosts (network
//! namespaces), with a real cut between them.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_tests::{ELECTION, Lan, Machine, PATIENCE, SERVICE, Site, is_root, wait_until};

const PHONE: u8 = 20;

/// The registrar of the article, with both nodes in the script and the service address on both.
fn script(site: &Site, host: u8) -> String {
    let (other, state) = if host == 1 { (2, "active") } else { (1, "backup") };
    let flags = if host == 1 { ", flags=seed" } else { "" };
    format!(
        r#"log_level = 3
socket = udp:{SERVICE}:5060
socket = bin:10.77.0.{host}:5566
loadmodule "proto_udp.so"
loadmodule "proto_bin.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "sipmsgops.so"
loadmodule "mi_fifo.so"
loadmodule "clusterer.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("mi_fifo", "fifo_name", "{}")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", {host})
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.77.0.{host}:5566{flags}")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id={other}, url=bin:10.77.0.{other}:5566")
modparam("clusterer", "ping_interval", 1)
modparam("clusterer", "ping_timeout", 300)
modparam("clusterer", "node_timeout", 2)
modparam("clusterer", "sharing_tag", "service/1={state}")
modparam("usrloc", "working_mode_preset", "full-sharing-cluster")
modparam("usrloc", "location_cluster", 1)
modparam("usrloc", "use_domain", 0)
modparam("usrloc", "pinging_mode", "ownership")
route {{
	if (is_method("REGISTER")) {{
		save("location", , , "service");
		exit;
	}}
	send_reply(404, "Not Found");
}}
"#,
        site.fifo(host).display()
    )
}

/// Registers a phone at the service address, wherever that is; tried until somebody answers.
fn register(lan: &Lan, user: &str) {
    wait_until(&format!("{user} is registered"), ELECTION, || {
        let to = format!("sip:{user}@{SERVICE}");
        let contact = format!("sip:{user}@10.77.0.{PHONE}:5070");
        let words = ["sipsak", "-U", "-s", &to, "-C", &contact, "-x", "600"];
        lan.run(PHONE, &words).status == 0
    });
}

#[test]
fn address_and_tag_end_on_the_same_machine_after_a_cut_and_after_a_death() {
    if !is_root() {
        eprintln!("not run: making hosts takes root");
        return;
    }
    let site = Site::bare("keepalived");
    let lan = Lan::new(&[1, 2, PHONE]);
    let mut one = Machine::start(&site, &lan, 1, 110, &script(&site, 1));
    wait_until("machine 1 serves", ELECTION, || one.serves(&lan));
    let mut two = Machine::start(&site, &lan, 2, 100, &script(&site, 2));
    register(&lan, "alice");
    wait_until("both know alice", PATIENCE, || one.knows("alice") && two.knows("alice"));
    assert!(one.serves(&lan) && two.stands_by(&lan));

    // Nobody dies, but the machines no longer see each other: both take the address and the tag.
    // Once they have time to settle, once the cut heals in the moment both have it.
    for user in ["bob", "carol"] {
        lan.cut_between(&[1, 2], true);
        wait_until("machine 2 serves as well", ELECTION, || two.serves(&lan));
        assert!(one.serves(&lan), "machine 1 gave up although nothing happened to it");
        if user == "bob" {
            register(&lan, user);
        }
        lan.cut_between(&[1, 2], false);
        wait_until("one serves and the other stands by", ELECTION, || {
            (one.serves(&lan) && two.stands_by(&lan)) || (two.serves(&lan) && one.stands_by(&lan))
        });
        register(&lan, user);
        wait_until("both know the user", PATIENCE, || one.knows(user) && two.knows(user));
    }

    // The machine that serves dies.
    let (dying, heir) = if one.serves(&lan) { (&mut one, &two) } else { (&mut two, &one) };
    dying.die(&lan);
    wait_until("the other machine serves", ELECTION, || heir.serves(&lan));
    assert!(["alice", "bob", "carol"].iter().all(|user| heir.knows(user)));
    register(&lan, "dave");
    assert!(heir.knows("dave"));
}
