//! Calls with dialogs, on a real process with real phones.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, program, wait_until};

/// Starts a node whose calls have dialogs and live so many seconds.
fn start(site: &Site, lifetime_s: u32) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let callee = site.net.ip(11);
    let modules = ["proto_udp", "sl", "tm", "rr", "sipmsgops", "mi_fifo", "dialog"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "socket=udp:{ip}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"dialog\", \"default_timeout\", {lifetime_s})\n\
         modparam(\"dialog\", \"profiles_with_value\", \"caller\")\n\
         route {{\n\
         if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
         t_relay(); exit; }}\n\
         if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
         create_dialog(\"bye-on-timeout\"); $dlg_val(from) = $fU; set_dlg_profile(\"caller\", $fU);\n\
         record_route(); $du = \"sip:{callee}:5060\"; t_relay(); }}\n"
    );
    let script = site.write("dialogs.cfg", &text).to_string_lossy().into_owned();
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &["-F", "-f", &script], site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_call_is_shown_and_ended_by_command() {
    let site = Site::bare("dialogs-command");
    let mut node = start(&site, 3600);
    let (proxy, fifo) = ((site.net.ip(1), 5060).into(), site.dir().join("fifo"));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    let call = alice.call(proxy, "bob");
    let state = || {
        let answer = mi(&fifo, "dialog:list", json!({"callid": call.call_id}));
        answer["result"]["Dialog"]["state"].as_u64()
    };
    wait_until("the ACK to arrive", PATIENCE, || state() == Some(4));
    let shown = mi(&fifo, "dlg_list_ctx", Json::Null)["result"]["Dialogs"][0].clone();
    assert_eq!(shown["callid"], call.call_id.as_str());
    assert_eq!(shown["context"]["profiles"], json!([{"caller": "alice"}]));
    assert_eq!(shown["context"]["values"], json!([{"from": "alice"}]));
    let other = bob.answered(&call.call_id);
    assert_eq!(other.request("INFO").code(), Some(200));
    let answer = mi(&fifo, "dialog:end_dlg", json!({"dialog_id": shown["ID"]}));
    assert_eq!(answer["result"], "OK", "{answer}");
    for phone in [&alice, &bob] {
        let got = || !phone.requests("BYE", &call.call_id).is_empty();
        wait_until("a BYE to each phone", PATIENCE, got);
    }
    assert_eq!(state(), Some(5));
    let size = mi(&fifo, "dialog:profile_get_size", json!(["caller"]));
    assert_eq!(size["result"]["Profile"]["count"], 0, "{size}");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn a_call_whose_lifetime_is_over_is_ended_at_both_phones() {
    let site = Site::bare("dialogs-lifetime");
    let mut node = start(&site, 2);
    let (proxy, fifo) = ((site.net.ip(1), 5060).into(), site.dir().join("fifo"));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    let call = alice.call(proxy, "bob");
    for phone in [&alice, &bob] {
        let got = || !phone.requests("BYE", &call.call_id).is_empty();
        wait_until("a BYE to each phone", PATIENCE, got);
    }
    let expired = mi(&fifo, "get_statistics", json!([["expired_dialogs"]]));
    assert_eq!(expired["result"]["dialog:expired_dialogs"], 1, "{expired}");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}
