//! Registrations by the thousand: afterwards both nodes are equal, and say so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use tandem_tests::{Crowd, Node, PATIENCE, Site, wait_for, wait_until};

/// Users of the burst.
const BURST: u32 = 20_000;
/// Contacts that a restarted node has to take over: `TANDEM_SYNC_CONTACTS` says another number.
const SYNC: u32 = 100_000;
/// Registrations per second while it does.
const MEANWHILE: u32 = 1_500;

/// The contacts of the table `location`.
fn contacts(node: &Node) -> u64 {
    node.status()["usrloc"]["tables"][0]["contacts"].as_u64().unwrap_or(0)
}

/// When the node measured last that its contacts equal its peer's; `None`: they do not.
fn measured_equal(node: &Node) -> Option<String> {
    let status = node.status();
    let rows = status["in step"].as_array()?;
    let row = rows.iter().find(|r| r["with"].to_string().contains("node"))?;
    (row["state"] == "equal").then(|| row["measured"].as_str().map(str::to_owned))?
}

/// Waits until both have measured, from now on, that they are equal; then everything says so.
fn are_equal(nodes: [&Node; 2], count: u64, patience: Duration) {
    for node in nodes {
        let what = format!("node {} has {count} contacts", node.id);
        wait_until(&what, patience, || contacts(node) == count);
    }
    for node in nodes {
        let before = measured_equal(node);
        wait_for(&format!("node {} measures that it is equal", node.id), patience, || {
            measured_equal(node).filter(|at| before.as_ref() != Some(at))
        });
        let status = node.ctl("tandemctl").run(&["status"]);
        assert!(status.stdout.contains("equal"), "{}", status.stdout);
        let diff = node.ctl("tandemctl").run(&["cluster", "diff"]);
        assert_eq!((diff.status, diff.stdout.as_str()), (0, "nothing differs\n"));
        assert_eq!(contacts(node), count);
    }
}

#[test]
fn a_burst_of_registrations_is_on_both_nodes() {
    let site = Site::pair("burst");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let mut crowd = Crowd::new((site.net.ip(20), 5060), one.sip);
    crowd.register(0..BURST);
    are_equal([&one, &two], u64::from(BURST), 4 * PATIENCE);
}

#[test]
fn a_restarted_backup_takes_all_contacts_while_phones_keep_registering() {
    let wanted = std::env::var("TANDEM_SYNC_CONTACTS").ok().and_then(|n| n.parse().ok());
    let count: u32 = wanted.unwrap_or(SYNC);
    let patience = PATIENCE * (2 + count / 25_000);
    let site = Site::pair("sync");
    let (one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    two.process.kill();
    let mut crowd = Crowd::new((site.net.ip(20), 5060), one.sip);
    crowd.register(0..count);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        // Refreshes, and phones that nobody knew before.
        let registering = move || crowd.keep_registering(0..count + 10_000, MEANWHILE, stop);
        let phones = scope.spawn(registering);
        let two = site.start(2);
        wait_until("the backup has its contacts", patience, || {
            contacts(&two) >= u64::from(count)
                && two.mi("clusterer_list_cap", Json::Null)["Clusters"][0]["Capabilities"][0]["state"]
                    == "Ok"
        });
        stop.store(true, Ordering::Relaxed);
        let sent = phones.join().expect("every phone was registered");
        assert!(sent > 0);
        let all = contacts(&one);
        assert!(all >= u64::from(count), "{all}");
        are_equal([&one, &two], all, patience);
    });
}
