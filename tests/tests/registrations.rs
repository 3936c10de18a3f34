//! Phones register at the active; the backup shows the same.

use serde_json::Value as Json;
use tandem_tests::{
    PATIENCE, Phone, Site, assert_same_contacts, contacts, sipp, sipsak, start_sipp, wait_until,
};

const USERS: usize = 20;

#[test]
fn what_sipp_and_sipsak_register_at_the_active_shows_alike_on_both_nodes() {
    let site = Site::pair("registrations");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let users: String = (0..USERS).map(|n| format!("user{n};\n")).collect();
    let file = site.write("users.csv", &format!("SEQUENTIAL\n{users}"));
    let file = file.display().to_string();
    let count = USERS.to_string();
    let more = ["-inf", &file, "-m", &count, "-r", "100"];
    let phones = sipp(&site, "register", site.net.ip(20), one.sip, &more);
    assert_eq!(phones.status, 0, "{}{}", phones.stdout, phones.stderr);
    let uri = format!("sip:dora@{}", one.sip.ip());
    let contact = format!("sip:dora@{}:5070", site.net.ip(30));
    let sak = sipsak(&["-U", "-s", &uri, "-C", &contact, "-x", "300", "-H", "127.0.0.1"]);
    assert_eq!(sak.status, 0, "{}{}", sak.stdout, sak.stderr);

    let dump = |node: &tandem_tests::Node| -> Json {
        let answer = node.ctl("tandemctl").run(&["ul_dump"]);
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        serde_json::from_str(&answer.stdout).expect("JSON")
    };
    wait_until("the backup has all of them", PATIENCE, || contacts(&dump(&two)).len() == USERS + 1);
    assert_same_contacts(&dump(&one), &dump(&two));
    let all = contacts(&dump(&one));
    assert_eq!(all.len(), USERS + 1);
    let dora = all.iter().find(|c| c["AOR"] == "dora").expect("dora");
    assert_eq!(dora["Contact"], contact.as_str());
    assert_eq!(dora["Cflags"], "SIP_PING NAT");
    status_names_the_holder(&one, &two);
    for node in [one, two] {
        assert!(node.stop().success());
    }
}

fn status_names_the_holder(one: &tandem_tests::Node, two: &tandem_tests::Node) {
    for (node, state) in [(one, "active"), (two, "backup")] {
        let status = node.ctl("tandemctl").run(&["status"]);
        assert_eq!(status.status, 0, "{}", status.stderr);
        let line = status.stdout.lines().find(|l| l.contains("service/1")).unwrap_or_default();
        assert!(line.contains(state), "node {}: {}", node.id, status.stdout);
        assert_eq!(node.tag_state(), state);
    }
}

#[test]
fn a_contact_that_is_removed_at_the_active_is_gone_on_the_backup() {
    let site = Site::pair("removal");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    two.wait_for_users(&["alice"]);
    let reply = alice.register(one.sip, 0);
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    assert!(reply.header("Contact").is_none(), "{reply:?}");
    wait_until("the backup has forgotten alice", PATIENCE, || {
        contacts(&two.mi("ul_dump", Json::Null)).is_empty()
    });
}

#[test]
fn a_contact_expires_on_both_nodes() {
    let site = Site::pair("expiry");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    // 10 s is the least that the example's registrar takes.
    assert_eq!(alice.register(one.sip, 10).code(), Some(200));
    two.wait_for_users(&["alice"]);
    for node in [&one, &two] {
        wait_until("alice has expired", 2 * PATIENCE, || {
            contacts(&node.mi("ul_dump", Json::Null)).is_empty()
        });
    }
}

#[test]
fn registered_phones_call_each_other_through_the_active() {
    let site = Site::pair("calls");
    let (one, _two) = (site.start(1), site.start(2));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    alice.register_ok(one.sip);
    bob.register_ok(one.sip);
    let call = alice.call(one.sip, "bob");
    let answered = bob.answered(&call.call_id);
    // Requests of both ends find their way through the node while the call lasts.
    assert_eq!(call.request("INFO").code(), Some(200));
    assert_eq!(answered.request("INFO").code(), Some(200));
    let (call_id, heard) = (call.call_id.clone(), alice.requests("INFO", &call.call_id));
    assert!(heard[0].all("Via").len() > 1, "the INFO did not pass the node: {heard:?}");
    call.hang_up();
    assert_eq!(bob.requests("BYE", &call_id).len(), 1);

    let back = bob.call(one.sip, "alice");
    let other_end = alice.answered(&back.call_id);
    other_end.hang_up();
    assert_eq!(bob.requests("BYE", &back.call_id).len(), 1);
    let nobody = alice_calls_nobody(&alice, &one);
    assert_eq!(nobody, Some(404));
}

fn alice_calls_nobody(alice: &Phone, node: &tandem_tests::Node) -> Option<u16> {
    let host = node.sip.ip();
    let request = format!(
        "MESSAGE sip:nobody@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKnobody\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{host}>;tag=n\r\nTo: <sip:nobody@{host}>\r\n\
         Call-ID: nobody\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
        alice.at
    );
    alice.transact(node.sip, &request, "nobody", "1 MESSAGE").code()
}

#[test]
fn a_phone_behind_nat_is_reached_where_it_registered_from() {
    let site = Site::pair("nat");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bob = Phone::behind_nat("bob", (site.net.ip(11), 5060));
    alice.register_ok(one.sip);
    bob.register_ok(one.sip);
    two.wait_for_users(&["alice", "bob"]);
    for node in [&one, &two] {
        let dump = contacts(&node.mi("ul_dump", Json::Null));
        let flags =
            |user: &str| dump.iter().find(|c| c["AOR"] == user).map(|c| c["Cflags"].clone());
        assert_eq!((flags("alice"), flags("bob")), (Some("".into()), Some("SIP_PING NAT".into())));
    }
    alice.call(one.sip, "bob").hang_up();
    bob.call(one.sip, "alice").hang_up();
    wait_until("the active pings bob", PATIENCE, || !bob.pings_from(one.sip).is_empty());
    assert!(alice.pings().is_empty(), "alice is not behind NAT");
}

#[test]
fn sipp_calls_sipp_through_the_active() {
    let site = Site::pair("sipp-calls");
    let (one, _two) = (site.start(1), site.start(2));
    let file = site.write("callee.csv", "SEQUENTIAL\ncallee;\n").display().to_string();
    let callee_at = site.net.ip(20);
    let registered = sipp(&site, "register", callee_at, one.sip, &["-inf", &file, "-m", "1"]);
    assert_eq!(registered.status, 0, "{}{}", registered.stdout, registered.stderr);
    let mut callee = start_sipp(&site, "callee", callee_at, &["-m", "30"]);
    let more = ["-s", "callee", "-m", "30", "-r", "20"];
    let caller = sipp(&site, "caller", site.net.ip(21), one.sip, &more);
    assert_eq!(caller.status, 0, "{}{}", caller.stdout, caller.stderr);
    let ended = callee.wait(2 * PATIENCE);
    assert!(ended.success(), "{}", callee.output());
}
