//! Calls by sipp through a real proxy: forked, refused, cancelled.

use std::net::SocketAddr;

use serde_json::json;
use tandem_tests::{
    PATIENCE, Process, Site, mi, program, repository, sipp, start_sipp, wait_until,
};

/// Calls of one run.
const CALLS: &str = "20";

/// A proxy whose INVITEs run these statements; it knows phones at hosts 20, 21 and 22.
fn start(site: &Site, statements: &str) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let phone = |host: u8| format!("sip:callee@{}:5060", site.net.ip(host));
    let statements = statements
        .replace("FIRST", &phone(20))
        .replace("SECOND", &phone(21))
        .replace("THIRD", &phone(22));
    let script = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"sipmsgops.so\"\n\
         loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"tm\", \"wt_timer\", 1)\nmodparam(\"tm\", \"T1_timer\", 100)\n\
         route {{\n\
         \x20 if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         \x20 if (is_method(\"CANCEL\")) {{ if (t_check_trans()) t_relay(); exit; }}\n\
         \x20 if (is_method(\"ACK\")) {{ t_check_trans(); exit; }}\n\
         \x20 record_route();\n\
         {statements}\n"
    );
    let file = site.write("proxy.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// The callers run a scenario to its end.
fn callers(site: &Site, scenario: &str) {
    let proxy = SocketAddr::from((site.net.ip(1), 5060));
    let more = ["-s", "callee", "-m", CALLS, "-r", "20"];
    let called = sipp(site, scenario, site.net.ip(30), proxy, &more);
    let errors = site.dir().join(format!("{scenario}.errors"));
    let errors = std::fs::read_to_string(errors).unwrap_or_default();
    assert_eq!(called.status, 0, "{}{}{errors}", called.stdout, called.stderr);
}

/// Phones of one kind at a host.
fn phones(site: &Site, scenario: &str, host: u8) -> Process {
    start_sipp(site, scenario, site.net.ip(host), &["-m", CALLS])
}

fn finished(mut phones: Process) {
    assert!(phones.wait(2 * PATIENCE).success(), "{}", phones.output());
}

/// No transaction is left when all timers have run.
fn nothing_is_left(site: &Site) {
    let fifo = site.dir().join("fifo");
    wait_until("every transaction has ended", 3 * PATIENCE, || {
        let answer = mi(&fifo, "get_statistics", json!([["tm:inuse_transactions"]]));
        answer["result"]["tm:inuse_transactions"] == 0
    });
}

/// A scenario of `tests/sipp` with something else in it.
fn changed(site: &Site, scenario: &str, name: &str, change: impl Fn(String) -> String) {
    let file = repository().join(format!("tests/sipp/{scenario}.xml"));
    let text = std::fs::read_to_string(file).expect("a scenario");
    site.write(name, &change(text));
}

#[test]
fn of_three_phones_the_one_that_answers_gets_the_call() {
    let site = Site::bare("fork-parallel");
    let _node = start(
        &site,
        "$ru = \"FIRST\"; append_msg_branch(\"SECOND\"); append_msg_branch(\"THIRD\"); t_relay(); }",
    );
    // It picks up without ringing, so that the caller hears of one that rings at most.
    changed(&site, "callee", "picks-up.xml", |text| {
        let (before, after) = (text.find("<send>").unwrap_or(0), text.find("<send retrans"));
        format!("{}{}", &text[..before], &text[after.unwrap_or(0)..])
    });
    changed(&site, "caller", "hears-some.xml", |text| {
        text.replace("<recv response=\"180\"/>", "<recv response=\"180\" optional=\"true\"/>")
    });
    let busy = phones(&site, "busy", 20);
    let rings = phones(&site, "rings", 21);
    let answers = phones(&site, "picks-up.xml", 22);
    callers(&site, "hears-some.xml");
    for phones in [busy, rings, answers] {
        finished(phones);
    }
    nothing_is_left(&site);
}

#[test]
fn a_busy_phone_leads_to_the_next_one() {
    let site = Site::bare("fork-serial");
    let _node = start(
        &site,
        "$ru = \"FIRST\"; t_on_failure(\"next\"); t_relay(); }\n\
         failure_route[next] { if (t_check_status(\"486\")) { $ru = \"SECOND\"; t_relay(); } }",
    );
    let busy = phones(&site, "busy", 20);
    let answers = phones(&site, "callee", 21);
    callers(&site, "caller");
    finished(busy);
    finished(answers);
    nothing_is_left(&site);
}

#[test]
fn a_caller_who_gives_up_is_told_487_and_the_phone_stops_ringing() {
    let site = Site::bare("fork-cancel");
    let _node = start(&site, "$ru = \"FIRST\"; t_relay(); }");
    let rings = phones(&site, "rings", 20);
    callers(&site, "gives-up");
    finished(rings);
    nothing_is_left(&site);
}

#[test]
fn a_phone_that_is_not_there_leads_to_the_next_one() {
    let site = Site::bare("fork-silent");
    let _node = start(
        &site,
        "$T_fr_timeout = 1; $ru = \"FIRST\"; t_on_failure(\"next\"); t_relay(); }\n\
         failure_route[next] { if (t_check_status(\"408\") && t_local_replied(\"all\")) \
         { $ru = \"SECOND\"; t_relay(); } }",
    );
    let answers = phones(&site, "callee", 21);
    callers(&site, "caller");
    finished(answers);
    nothing_is_left(&site);
}

#[test]
fn the_node_sends_requests_when_it_is_told_to() {
    let site = Site::bare("uac-dlg");
    let _node = start(&site, "exit; }");
    let fifo = site.dir().join("fifo");
    let uri = format!("sip:callee@{}:5060", site.net.ip(20));
    let headers = "From: <sip:a@b>\r\nTo: <sip:c@d>\r\n";
    let answers = |text: String| {
        text.replace("request=\"INVITE\"", "request=\"OPTIONS\"")
            .replace("486 Busy Here", "200 Fine")
            .replace("  <recv request=\"ACK\"/>\n", "")
            .replace("<send retrans=\"500\">", "<send>")
    };
    changed(&site, "busy", "fine.xml", answers);
    let phone = start_sipp(&site, "fine.xml", site.net.ip(20), &["-m", "1"]);
    let params = json!({"method": "OPTIONS", "ruri": uri, "headers": headers});
    let answer = mi(&fifo, "t_uac_dlg", params);
    assert_eq!(answer["result"]["Status"], "200 Fine", "{answer}");
    assert_eq!(answer["result"]["RURI"], uri.as_str());
    finished(phone);
    let missing = mi(&fifo, "t_uac_dlg", json!({"method": "OPTIONS", "ruri": uri, "headers": ""}));
    assert_eq!(missing["error"]["message"], "To missing", "{missing}");
}
