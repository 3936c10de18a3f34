//! Calls by number to gateways that hang, refuse, flap and have several addresses.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_tests::routes::{Router, at, gateway, rule};
use tandem_tests::{DnsServer, PATIENCE, Phone, Said, Site, now, sipp, start_sipp, wait_until};

/// Three gateways: one hangs, one refuses, one answers.
fn three(test: &str) -> Site {
    let site = Site::bare(test);
    let rows = vec![
        gateway("hangs", &at(site.net.ip(21)), 1),
        gateway("refuses", &at(site.net.ip(22)), 1),
        gateway("answers", &at(site.net.ip(23)), 0),
        rule("40", "hangs,refuses,answers"),
        rule("41", "refuses"),
        rule("42", "nosuch"),
        rule("43", "hangs,nosuch"),
    ];
    site.filled(rows)
}

#[test]
fn a_call_passes_gateways_that_hang_and_refuse() {
    let site = three("routing-fails");
    let router = Router::new(&site, 1);
    let mut node = router.start(&site);
    let _hangs = start_sipp(&site, "hangs", site.net.ip(21), &["-m", "10"]);
    let _refuses = start_sipp(&site, "unavailable", site.net.ip(22), &["-m", "1"]);
    let _answers = start_sipp(&site, "callee", site.net.ip(23), &["-m", "10"]);
    let call = |to: &str| {
        let begun = now();
        let more = ["-m", "1", "-s", to];
        let answer = sipp(&site, "caller", site.net.ip(10), router.sip(&site), &more);
        assert_eq!(answer.status, 0, "{answer:?}");
        begun.elapsed()
    };
    let first = call("40123");
    assert!(first < Duration::from_secs(5), "one fr_timeout is to be waited for: {first:?}");
    assert_eq!(router.state(&site, "hangs"), "Probing");
    assert_eq!(router.state(&site, "refuses"), "Probing");
    assert_eq!(router.state(&site, "answers"), "Active");
    let second = call("40124");
    assert!(second < Duration::from_secs(2), "nobody is waited for: {second:?}");

    // The operator sees why.
    let told = router.ctl(&site, &["routes", "test", "40125", "--group", "0"]);
    for words in ["passed over", "its state is Probing", "by gateway answers", "Destinations:"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = router.ctl(&site, &["routes", "test", "40125", "--group", "0", "--json"]);
    let told: Json = serde_json::from_str(&told).unwrap();
    assert_eq!(told["Destinations"][2]["Verdict"], "first");
    let refused = router.ctl(&site, &["routes", "refused"]);
    assert!(refused.contains("Rules: 3") && refused.contains("rule 3: gwlist"), "{refused}");
    assert!(refused.contains("taken in part  rule 4"), "{refused}");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn a_busy_callee_is_no_broken_gateway() {
    let site = Site::bare("routing-busy");
    let rows = vec![
        gateway("busy", &at(site.net.ip(21)), 1),
        gateway("other", &at(site.net.ip(22)), 0),
        rule("40", "busy,other"),
    ];
    let site = site.filled(rows);
    let router = Router::new(&site, 1);
    let _node = router.start(&site);
    let _busy = start_sipp(&site, "busy", site.net.ip(21), &["-m", "1"]);
    let other = Phone::new("other", (site.net.ip(22), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let at = alice.at;
    let request = format!(
        "INVITE sip:40123@h SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKbusy\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@h>;tag=f\r\nTo: <sip:40123@h>\r\nCall-ID: busy\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:a@{at}>\r\nContent-Length: 0\r\n\r\n"
    );
    let reply = alice.transact(router.sip(&site), &request, "busy", "1 INVITE");
    assert_eq!(reply.code(), Some(486));
    assert_eq!(router.state(&site, "busy"), "Active");
    assert!(other.requests("INVITE", "busy").is_empty());
}

#[test]
fn a_name_with_a_dead_and_a_live_address_is_one_gateway() {
    let site = Site::bare("routing-name");
    let rows = vec![gateway("named", "gw.test:5060", 1), rule("40", "named")];
    let site = site.filled(rows);
    let (dead, live) = (site.net.ip(21), site.net.ip(22));
    let zone = [("gw.test", Said::Ips(vec![dead, live]))];
    let dns = DnsServer::start(site.net.ip(53), &zone);
    let mut router = Router::new(&site, 1);
    router.env = vec![format!("TANDEM_NAMESERVERS={}", dns.addr)];
    let _node = router.start(&site);
    let phone = Phone::new("live", (live, 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    for number in ["40123", "40124", "40125"] {
        let call = alice.call(router.sip(&site), number);
        assert_eq!(phone.requests("INVITE", &call.call_id).len(), 1);
    }
    assert_eq!(router.state(&site, "named"), "Active", "one of its addresses answers");
}

#[test]
fn a_blacklisted_gateway_is_passed_over_until_the_rule_expires() {
    let site = Site::bare("routing-blacklist");
    let rows = vec![
        gateway("flaps", &at(site.net.ip(21)), 0),
        gateway("steady", &at(site.net.ip(22)), 0),
        rule("40", "flaps,steady"),
    ];
    let site = site.filled(rows);
    let mut router = Router::new(&site, 1);
    let ip = site.net.ip(21);
    router.more = "dst_blacklist = resting/expire : { (udp, 192.0.2.1, 5060, \"\") }\n".into();
    router.before = "use_blacklist(\"resting\");".into();
    router.failed = format!("add_blacklist_rule(\"resting\", \"{ip}\", 5060, \"udp\", , 3);");
    let _node = router.start(&site);
    let steady = Phone::new("steady", (site.net.ip(22), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let first = alice.call(router.sip(&site), "40123");
    assert_eq!(steady.requests("INVITE", &first.call_id).len(), 1);
    // It is there again, and left alone until the rule has expired.
    let flaps = Phone::new("flaps", (ip, 5060));
    let second = alice.call(router.sip(&site), "40124");
    assert_eq!(steady.requests("INVITE", &second.call_id).len(), 1);
    assert!(flaps.requests("INVITE", &second.call_id).is_empty());
    wait_until("the rule to expire", PATIENCE, || {
        let call = alice.call(router.sip(&site), "40125");
        !flaps.requests("INVITE", &call.call_id).is_empty()
    });
}

#[test]
fn probes_are_spread_and_no_storm_follows_a_start() {
    const GATEWAYS: u8 = 30;
    const INTERVAL_S: u64 = 5;
    let site = Site::bare("routing-probes");
    let ids: Vec<u8> = (0..GATEWAYS).map(|n| 100 + n).collect();
    let mut rows: Vec<_> =
        ids.iter().map(|n| gateway(&format!("gw{n}"), &at(site.net.ip(*n)), 2)).collect();
    rows.push(rule("40", "gw100"));
    let site = site.filled(rows);
    let phones: Vec<Phone> =
        ids.iter().map(|n| Phone::new("gw", (site.net.ip(*n), 5060))).collect();
    let mut router = Router::new(&site, 1);
    router.more = format!("modparam(\"drouting\", \"probing_interval\", {INTERVAL_S})\n");
    let begun = now();
    let _node = router.start(&site);
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    let mut known = 0;
    wait_until("every gateway to be probed", PATIENCE, || {
        let counts: Vec<usize> = phones.iter().map(|phone| phone.messages().len()).collect();
        let all: usize = counts.iter().sum();
        *seen.entry(begun.elapsed().as_millis() as u64 / 500).or_default() += all - known;
        known = all;
        counts.iter().all(|count| *count > 0)
    });
    let most = seen.values().max().copied().unwrap_or(0);
    assert!(most <= usize::from(GATEWAYS) * 2 / 3, "they come together: {seen:?}");
    assert!(begun.elapsed() > Duration::from_secs(2), "all at once: {seen:?}");
    assert!(known <= 2 * usize::from(GATEWAYS), "{seen:?}");
}

#[test]
fn a_restart_keeps_states_and_tables() {
    let site = Site::bare("routing-restart");
    let rows = vec![
        gateway("dead", &at(site.net.ip(21)), 1),
        gateway("live", &at(site.net.ip(22)), 0),
        rule("40", "dead,live"),
    ];
    let site = site.filled(rows);
    let mut router = Router::new(&site, 1);
    router.more = "modparam(\"drouting\", \"probing_interval\", 600)\n\
                   modparam(\"drouting\", \"enable_restart_persistency\", 1)\n"
        .into();
    let mut node = router.start(&site);
    let live = Phone::new("live", (site.net.ip(22), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.call(router.sip(&site), "40123");
    assert_eq!(router.state(&site, "dead"), "Probing");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());

    let mut node = router.start(&site);
    assert_eq!(router.state(&site, "dead"), "Probing", "of before the restart");
    let begun = now();
    let call = alice.call(router.sip(&site), "40124");
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait for the dead one");
    assert_eq!(live.requests("INVITE", &call.call_id).len(), 1);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());

    // Without its database it serves what it had: whether that has lost its tables, or is gone.
    let file = site.dir().join("tandem.sqlite");
    let away = site.dir().join("away.sqlite");
    std::fs::rename(&file, &away).unwrap();
    std::fs::write(&file, "").unwrap();
    let mut node = router.start(&site);
    let call = alice.call(router.sip(&site), "40125");
    assert_eq!(live.requests("INVITE", &call.call_id).len(), 1);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());

    for name in ["tandem.sqlite", "tandem.sqlite-wal", "tandem.sqlite-shm"] {
        let _ = std::fs::remove_file(site.dir().join(name));
    }
    let mut node = router.start(&site);
    let call = alice.call(router.sip(&site), "40126");
    assert_eq!(live.requests("INVITE", &call.call_id).len(), 1);
    let said = "cannot be opened now: ";
    assert!(node.output().contains(said) && node.output().contains("db create"), "{said}");
    let answer = router.mi(&site, "drouting:reload", Json::Null);
    assert_eq!(answer["error"]["message"], "Failed to reload", "{answer}");
    // What comes back is read.
    std::fs::rename(&away, &file).unwrap();
    assert_eq!(router.mi(&site, "drouting:reload", Json::Null)["result"], "OK");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn without_a_database_and_what_it_kept_a_node_says_why_it_does_not_start() {
    let site = Site::bare("routing-no-database");
    let router = Router::new(&site, 1);
    let said = router.refused(&site);
    assert!(said.contains("tandem.sqlite: unable to open database file"), "{said}");
    assert!(said.contains("drouting: partition Default"), "{said}");
    std::fs::write(site.dir().join("tandem.sqlite"), "no database, however long it is").unwrap();
    let said = router.refused(&site);
    assert!(said.contains("cannot open the database") && said.contains("not a database"), "{said}");
}
