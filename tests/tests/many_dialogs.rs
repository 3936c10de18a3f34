//! Dialogs by the thousand, from a table that a stock node wrote: a node that joins has them all.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::process::Command;

use serde_json::{Value as Json, json};
use tandem_db::Query;
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{PATIENCE, Process, Site, mi, now, program, wait_until};

/// How many; `TANDEM_SYNC_DIALOGS` says another number.
const DIALOGS: u32 = 5_000;

fn fill(site: &Site, dialogs: u32) {
    let path = site.dir().join("dialogs.sqlite");
    let url = format!("sqlite://{}", path.display());
    let words = ["ctl", "--db", &url, "db", "create", "dialog"];
    let made = Command::new(program()).args(words).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {dialogs}) \
         INSERT INTO dialog (dlg_id, callid, from_uri, from_tag, to_uri, to_tag, caller_cseq, \
         callee_cseq, caller_ping_cseq, callee_ping_cseq, caller_route_set, callee_route_set, \
         caller_contact, callee_contact, caller_sock, callee_sock, state, start_time, timeout, \
         vars, profiles, script_flags, module_flags, flags) \
         SELECT (i << 32) + i, 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6-' || i || '@example.com', \
         'sip:alice' || i || '@example.com', 'tag-a-' || i, 'sip:bob' || i || '@example.com', \
         'tag-b-' || i, '1', '1', 0, 0, '', '', 'sip:alice' || i || '@192.0.2.10:5060', \
         'sip:bob' || i || '@192.0.2.20:5060', 'udp:192.0.2.1:5060', 'udp:192.0.2.1:5060', 4, \
         strftime('%s', 'now') - 10, strftime('%s', 'now') + 43200, '', '', 0, 0, 0 FROM n"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteOptions::new(path);
    runtime.block_on(sqlite::ask(&options, &Query::Raw { sql })).unwrap();
}

fn start(site: &Site, id: u8) -> Process {
    let (ip, other, dir) = (site.net.ip(id), site.net.ip(3 - id), site.dir().display());
    let modules = ["proto_udp", "proto_bin", "sl", "tm", "rr", "mi_fifo", "db_sqlite"];
    let modules = modules.iter().chain(&["clusterer", "dialog"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let stored = match id {
        1 => format!(
            "modparam(\"dialog\", \"db_mode\", 3)\n\
             modparam(\"dialog\", \"db_url\", \"sqlite://{dir}/dialogs.sqlite\")\n"
        ),
        _ => String::new(),
    };
    let (seed, peer) = (if id == 1 { ",flags=seed" } else { "" }, 3 - id);
    let text = format!(
        "log_level=3\nsocket=udp:{ip}:5060\nsocket=bin:{ip}:5555\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
         modparam(\"clusterer\", \"db_mode\", 0)\nmodparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:{ip}:5555{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1,node_id={peer},url=bin:{other}:5555\")\n\
         modparam(\"clusterer\", \"seed_fallback_interval\", 1)\n\
         modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n{stored}\
         route {{ sl_send_reply(404, \"Nobody\"); }}\n"
    );
    let script = site.write(&format!("node{id}.cfg"), &text).to_string_lossy().into_owned();
    let state = site.dir().join(format!("state{id}"));
    std::fs::create_dir_all(&state).unwrap();
    let args = ["-F", "-f", &script, "--state-dir", &state.to_string_lossy()];
    let log = site.dir().join(format!("node{id}.log"));
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", 2 * PATIENCE);
    node
}

/// The answered calls of a node.
fn active(site: &Site, id: u8) -> u64 {
    let fifo = site.dir().join(format!("fifo{id}"));
    let told = mi(&fifo, "get_statistics", json!([["active_dialogs"]]));
    told["result"]["dialog:active_dialogs"].as_u64().unwrap_or(0)
}

#[test]
fn a_node_that_joins_has_every_dialog_of_a_table_that_a_stock_node_wrote() {
    let wanted = std::env::var("TANDEM_SYNC_DIALOGS").ok().and_then(|n| n.parse().ok());
    let dialogs = wanted.unwrap_or(DIALOGS);
    let site = Site::bare("many-dialogs");
    fill(&site, dialogs);
    let one = start(&site, 1);
    assert_eq!(active(&site, 1), u64::from(dialogs));
    wait_until("node 1 has something to give", PATIENCE, || one.output().contains("fallback"));
    let begun = now();
    let two = start(&site, 2);
    let empty_mb = two.memory_mb();
    wait_until("node 2 has them", 4 * PATIENCE, || active(&site, 2) == u64::from(dialogs));
    let (took, full_mb) = (now() - begun, two.memory_mb());
    println!("{dialogs} dialogs in {took:?}; {empty_mb} MB at the start, {full_mb} MB then");
    let fifo = site.dir().join("fifo2");
    wait_until("nothing differs", 2 * PATIENCE, || {
        let found = mi(&fifo, "tandem:cluster_diff", Json::Null)["result"].clone();
        !found.is_null() && found["Differences"].as_array().is_none_or(Vec::is_empty)
    });
    assert!(!two.output().contains("is refused"), "{}", two.output());
}
