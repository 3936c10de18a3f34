//! The article's pair: its own files, its registrar in the spelling of 3.0, and the registrar of
//! `examples/` in the spelling of 4.0, with passwords, on real processes.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value as Json;
use tandem_db::{Query, Value};
use tandem_tests::{
    Message, PATIENCE, Phone, Site, assert_same_contacts, authorization, contacts, program,
    repository, wait_until,
};

const ARTICLE: &str = include_str!("../scripts/article-registrar.cfg");
const REGISTRAR_1: &str = include_str!("../../examples/registrar-pair/node1.cfg");
const REGISTRAR_2: &str = include_str!("../../examples/registrar-pair/node2.cfg");
const DOMAIN: &str = "sip.example.org";
/// Files of the article, in the spelling of 3.0 and in that of 4.0.
const FILES: usize = 8;

#[test]
fn the_articles_own_files_have_no_errors() {
    let folder = repository().join("tests/scripts/seed");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let checked = Command::new(program()).arg("check").arg(entry.path()).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error[")).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", entry.path().display());
        files += 1;
    }
    assert_eq!(files, FILES);
}

/// What node 2 has where node 1 has something else.
fn for_node_2(script: &str) -> String {
    script
        .replace("127.0.1.1", "127.0.1.2")
        .replace("tandem_fifo_1", "tandem_fifo_2")
        .replace("\"current_id\", 1", "\"current_id\", 2")
        .replace("service/1=active", "service/1=backup")
}

#[test]
fn the_articles_registrar_runs_in_the_spelling_of_3_0() {
    let site = Site::of_scripts("article", [ARTICLE, &for_node_2(ARTICLE)], Vec::new());
    let (mut one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    let reply = alice.register(one.sip, 600);
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    let dump = |node: &tandem_tests::Node| node.mi("ul_dump", Json::Null);
    wait_until("both know alice", PATIENCE, || contacts(&dump(&two)).len() == 1);
    assert_same_contacts(&dump(&one), &dump(&two));
    let contact = contacts(&dump(&two)).remove(0);
    let flags = contact["Cflags"].as_str().unwrap_or_default().to_owned();
    assert!(flags.contains("NAT") && flags.contains("SIP_PING"), "{contact}");

    one.process.kill();
    let told = two.ctl("opensipsctl").run(&["fifo", "clusterer_shtag_set_active", "service/1"]);
    assert_eq!(told.status, 0, "{}{}", told.stdout, told.stderr);
    wait_until("the heir pings alice by SIP", PATIENCE, || {
        alice.messages().iter().any(|m| m.method() == Some("OPTIONS"))
    });
}

fn row(table: &'static str, values: &[(&'static str, Value)]) -> Query {
    Query::Insert {
        table: table.into(),
        row: values.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
    }
}

fn text(s: &str) -> Value {
    Value::Str(s.to_owned())
}

/// The site of the registrar with passwords: alice and bob of [`DOMAIN`].
fn registrar(test: &str) -> Site {
    let mut rows = vec![row("domain", &[("domain", text(DOMAIN))])];
    for user in ["alice", "bob"] {
        rows.push(row(
            "subscriber",
            &[
                ("username", text(user)),
                ("domain", text(DOMAIN)),
                ("password", text(&format!("{user}-secret"))),
                ("ha1", text("")),
                ("ha1_sha256", text("")),
                ("ha1_sha512t256", text("")),
            ],
        ));
    }
    Site::of_scripts(test, [REGISTRAR_1, REGISTRAR_2], rows)
}

/// A REGISTER of `phone` for its user at [`DOMAIN`].
fn register(phone: &Phone, cseq: u32, authorization: &str) -> (String, String) {
    let (user, at) = (&phone.user, phone.at);
    let call_id = format!("digest-{user}-{at}");
    let request = format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bK{user}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag=t{cseq}\r\n\
         To: <sip:{user}@{DOMAIN}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@{at}>\r\nExpires: 600\r\n{authorization}Content-Length: 0\r\n\r\n"
    );
    (request, call_id)
}

fn send(phone: &Phone, to: SocketAddr, cseq: u32, authorization: &str) -> Message {
    let (request, call_id) = register(phone, cseq, authorization);
    phone.transact(to, &request, &call_id, &format!("{cseq} REGISTER"))
}

fn answer(challenged: &Message, user: &str, password: &str) -> String {
    authorization(challenged, &format!("sip:{DOMAIN}"), user, password)
}

#[test]
fn a_challenge_of_one_node_is_answered_at_the_other() {
    let site = registrar("digest");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let challenged = send(&alice, one.sip, 1, "");
    assert_eq!(challenged.code(), Some(401), "{challenged:?}");
    let challenges = challenged.lines("WWW-Authenticate");
    assert!(challenges.iter().any(|c| c.contains("SHA-256")), "{challenges:?}");
    let wrong = send(&alice, one.sip, 2, &answer(&challenged, "alice", "guessed"));
    assert_eq!(wrong.code(), Some(401), "{wrong:?}");
    let stranger = send(&alice, one.sip, 3, &answer(&wrong, "mallory", "alice-secret"));
    assert_eq!(stranger.code(), Some(401), "{stranger:?}");
    let right = answer(&stranger, "alice", "alice-secret");
    let registered = send(&alice, two.sip, 4, &right);
    assert_eq!(registered.code(), Some(200), "{registered:?}");
    let dump = |node: &tandem_tests::Node| node.mi("ul_dump", Json::Null);
    wait_until("both know alice", PATIENCE, || contacts(&dump(&one)).len() == 1);
    assert_same_contacts(&dump(&one), &dump(&two));

    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    let challenged = send(&bob, two.sip, 1, "");
    let as_alice = send(&bob, two.sip, 2, &answer(&challenged, "alice", "alice-secret"));
    assert_eq!(as_alice.code(), Some(403), "bob registered with alice's password: {as_alice:?}");
}
