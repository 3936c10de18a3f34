//! `tandem pair` as the README tells it: everything it prints is done.

use std::path::Path;

use rustix::process::Signal;
use tandem_tests::{
    PATIENCE, Phone, Process, Site, is_alive, program, signal_to, tail, wait_for, wait_until,
};

const NODE_1: &str = "127.0.1.1:5060";
const NODE_2: &str = "127.0.1.2:5060";
const FIFOS: [&str; 2] = ["/tmp/tandem_fifo_1", "/tmp/tandem_fifo_2"];

/// Nodes are the pair's children and not the test's: a test that fails must end them itself.
struct Ends([u32; 2]);

impl Drop for Ends {
    fn drop(&mut self) {
        for pid in self.0 {
            if command_line(pid).contains("tandem") {
                signal_to(pid, Signal::KILL);
            }
        }
    }
}

/// The first line of the output that contains `mark`, without the space around it.
fn line(output: &str, mark: &str) -> String {
    let found = output.lines().find(|l| l.contains(mark));
    found.unwrap_or_else(|| panic!("no {mark:?} in:\n{output}")).trim().to_owned()
}

fn pid_in(line: &str) -> u32 {
    let digits = line.rsplit("pid ").next().unwrap_or_default();
    digits.trim().parse().unwrap_or_else(|e| panic!("no pid in {line:?}: {e}"))
}

/// Runs a line as a person pastes it, and wants it to succeed.
fn paste(line: &str) -> String {
    let output = std::process::Command::new("sh").args(["-c", line]).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {}\n{said}{errors}", output.status);
    said
}

fn start_pair(site: &Site) -> Process {
    let dir = site.dir().join("pair").display().to_string();
    let log = site.dir().join("pair.log");
    let mut pair = Process::start("pair", &program(), &["pair", "--dir", &dir], site.dir(), &log);
    for mark in ["Ctrl-C", "node 1 |", "node 2 |"] {
        pair.wait_for_output(mark, PATIENCE);
    }
    wait_until("both nodes are ready", PATIENCE, || {
        if pair.ended().is_some() {
            panic!("the pair ended:\n{}", pair.output());
        }
        let output = pair.output();
        ["node 1 |", "node 2 |"]
            .iter()
            .all(|node| output.lines().any(|l| l.starts_with(node) && l.contains("ready")))
    });
    pair
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn the_pair_does_what_it_prints_and_leaves_nothing_behind() {
    let site = Site::bare("pair");
    let mut pair = start_pair(&site);
    let printed = pair.output();
    let pids = [NODE_1, NODE_2].map(|at| pid_in(&line(&printed, &format!("udp:{at}"))));
    let _ends = Ends(pids);
    for pid in pids {
        assert!(command_line(pid).contains(" -f "), "{pid} is {:?}", command_line(pid));
    }
    let phone = Phone::new("watcher", (site.net.ip(10), 5060));
    for node in [NODE_1, NODE_2] {
        assert_eq!(phone.options(node.parse().expect("an address")).code(), Some(200));
    }
    paste(&line(&printed, "sipsak -U"));
    wait_for("the backup shows alice", PATIENCE, || {
        paste(&line(&printed, "node2/tandemctl ul_dump")).contains("alice").then_some(())
    });
    assert!(paste(&line(&printed, "node1/tandemctl status")).contains("service/1"));
    let again = lose_and_switch(&site, &printed, pids[0]);
    end(&mut pair, pids, again);
}

/// Kills the active, switches, starts it again: each with the line that was printed for it.
fn lose_and_switch(site: &Site, printed: &str, active: u32) -> Process {
    paste(&line(printed, "kill -9"));
    wait_until("the active is gone", PATIENCE, || !is_alive(active));
    paste(&line(printed, "clusterer_shtag_set_active service/1"));
    let status = paste(&line(printed, "node1/tandemctl status").replace("node1", "node2"));
    assert!(status.contains("2 (this node)"), "{status}");
    let restart = line(printed, "--state-dir");
    // Without the subshell and with `exec` the shell becomes the node: one process to end.
    let restart = restart.trim_matches(['(', ')']).replace("&& ", "&& exec ");
    let log = site.dir().join("again.log");
    let words = ["-c", restart.as_str()];
    let mut again = Process::start("node 1, again", Path::new("/bin/sh"), &words, site.dir(), &log);
    again.wait_for_output("ready", PATIENCE);
    wait_for("the restarted node has the contacts again", PATIENCE, || {
        let dump = line(printed, "node2/tandemctl ul_dump").replace("node2", "node1");
        paste(&dump).contains("alice").then_some(())
    });
    again
}

fn end(pair: &mut Process, pids: [u32; 2], mut again: Process) {
    again.signal(Signal::TERM);
    assert!(again.wait(PATIENCE).success(), "{}", tail(&again.output(), 20));
    pair.signal(Signal::INT);
    let ended = pair.wait(PATIENCE);
    assert_eq!(ended.code(), Some(0), "{}", tail(&pair.output(), 20));
    for pid in pids {
        assert!(!is_alive(pid), "node {pid} outlived the pair");
    }
    for fifo in FIFOS {
        assert!(!Path::new(fifo).exists(), "{fifo} was left behind");
    }
}
