//! Somebody sets the clock of a host while its node serves.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tandem_tests::{Crowd, PATIENCE, Process, Site, contacts, mi, program, wait_until};

const PHONES: u32 = 20;

/// The library that shows a process another time of day than the host's.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|f| f.path().join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.is_file())
}

fn start(site: &Site, id: u8, faketime: &Path) -> Process {
    let (ip, other, dir) = (site.net.ip(id), site.net.ip(3 - id), site.dir().display());
    let modules = ["proto_udp", "proto_bin", "sl", "signaling", "mi_fifo", "clusterer", "usrloc"];
    let modules = modules.iter().chain(&["registrar"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let seed = if id == 1 { ",flags=seed" } else { "" };
    let text = format!(
        "log_level=3\nsocket=udp:{ip}:5060\nsocket=bin:{ip}:5566\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
         modparam(\"clusterer\", \"db_mode\", 0)\nmodparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:{ip}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1,node_id={peer},url=bin:{other}:5566\")\n\
         modparam(\"clusterer\", \"seed_fallback_interval\", 1)\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\nmodparam(\"usrloc\", \"use_domain\", 0)\n\
         route {{ save(\"location\"); }}\n",
        peer = 3 - id,
    );
    let script = site.write(&format!("node{id}.cfg"), &text).display().to_string();
    let server = program().display().to_string();
    let shown = [
        format!("LD_PRELOAD={}", faketime.display()),
        format!("FAKETIME_TIMESTAMP_FILE={dir}/clock"),
        "FAKETIME_NO_CACHE=1".into(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
        "DONT_FAKE_MONOTONIC=1".into(),
    ];
    // The other node goes by the real time.
    let mut words: Vec<&str> =
        if id == 1 { shown.iter().map(String::as_str).collect() } else { Vec::new() };
    let state = format!("state{id}");
    words.extend([server.as_str(), "-F", "-f", &script, "--state-dir", &state]);
    let log = site.dir().join(format!("node{id}.log"));
    let name = format!("node {id}");
    let mut node = Process::start(&name, Path::new("/usr/bin/env"), &words, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// Sets the clock that node 1 sees.
fn set(site: &Site, by: &str) {
    let new = site.write("clock.new", &format!("{by}\n"));
    std::fs::rename(new, site.dir().join("clock")).unwrap();
}

/// The users that a node has, each with the seconds that are left, tens of them.
fn known(site: &Site, id: u8) -> Vec<(String, u64)> {
    let fifo = site.dir().join(format!("fifo{id}"));
    let all = mi(&fifo, "ul_dump", Json::Null)["result"].clone();
    let one = |c: &Json| {
        let left = c["Expires"].as_u64().unwrap_or(0);
        (c["AOR"].as_str().unwrap_or_default().to_owned(), (left + 30) / 100)
    };
    let mut known: Vec<(String, u64)> = contacts(&all).iter().map(one).collect();
    known.sort();
    known
}

#[test]
fn a_clock_that_is_set_ends_no_contact_and_disturbs_no_peer() {
    let Some(faketime) = faketime() else {
        eprintln!("not run: libfaketime is not installed");
        return;
    };
    let site = Site::bare("clock");
    set(&site, "+0");
    let mut one = start(&site, 1, &faketime);
    let _two = start(&site, 2, &faketime);
    one.wait_for_output("node 2 of cluster 1 is up", PATIENCE);
    let service = (site.net.ip(1), 5060).into();
    let mut crowd = Crowd::new((site.net.ip(20), 5060), service);
    crowd.register(0..PHONES);
    let all: Vec<(String, u64)> = known(&site, 1);
    assert_eq!((all.len(), all[0].1), (PHONES as usize, 36));
    let both = |what: &str| {
        wait_until(what, PATIENCE, || known(&site, 1) == all && known(&site, 2) == all);
    };
    both("both have them");
    let says = |said: usize, text: &str| {
        wait_until(text, PATIENCE, || {
            // A node that has nothing to do looks at the clock every few seconds only.
            let _ = known(&site, 1);
            one.output()[said..].contains(text)
        });
    };
    for by in ["+1h", "-1h", "+1d", "-1d"] {
        let said = one.output().len();
        set(&site, by);
        says(said, "the clock of this host was set");
        both(by);
        // What is saved meanwhile means the same on the other node.
        crowd.register(0..PHONES);
        both(by);
        set(&site, "+0");
        says(said, "that of its host again");
        both("the clock is right again");
    }
    let lines = one.output().matches("the clock of this host was set").count();
    assert_eq!(lines, 4, "each step is told once: {}", one.output());
    assert!(!one.output().contains("differs by"), "no peer sees it: {}", one.output());
}
