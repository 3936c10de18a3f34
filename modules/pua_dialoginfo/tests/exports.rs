//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use tandem_engine::testing::{TestNode, cover};

const SET: &str = "dialoginfo_set();";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_pua_dialoginfo::MODULE,
        &[
            ("param include_callid", || left_out("include_callid", " call-id=")),
            ("param include_localremote", || left_out("include_localremote", "<remote>")),
            ("param include_tags", || left_out("include_tags", "local-tag=")),
            ("param caller_confirmed", the_caller_is_shown_as_talking),
            ("param publish_on_trying", a_call_is_told_before_it_rings),
            ("param presence_server", the_server_is_where_it_goes),
            ("param caller_spec_param", || party("caller", "alice@a.test")),
            ("param callee_spec_param", || party("callee", "bob@b.test")),
            ("param osips_ps", other_servers_get_whole_documents),
            ("param nopublish_flag", a_reinvite_can_be_kept_quiet),
            ("function dialoginfo_set", sides_are_published),
            ("function dialoginfo_set_branch_callee", branches_have_their_callees),
            ("function dialoginfo_mute_branch", branches_are_kept_quiet),
        ],
    );
}

fn param(name: &str, value: &str) -> String {
    set("pua_dialoginfo", name, value)
}

/// What is published while it rings.
fn early(params: &str, initial: &str) -> Vec<Published> {
    let mut node = node(params, initial);
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    Server::default().serve(&mut node)
}

fn left_out(name: &str, part: &str) {
    assert!(early("", SET)[0].text.contains(part));
    let without = early(&param(name, "0"), SET);
    assert_eq!(states(&without), both("early"));
    assert!(!without[0].text.contains(part), "{}", without[0].text);
}

fn the_caller_is_shown_as_talking() {
    let all = early(&param("caller_confirmed", "1"), SET);
    assert_eq!(states(&all), ["sip:alice@a.test confirmed", "sip:bob@b.test early"]);
}

fn a_call_is_told_before_it_rings() {
    let mut node = node(&param("publish_on_trying", "1"), SET);
    node.udp(CALLER, &Phones::request("c1"));
    assert_eq!(states(&Server::default().serve(&mut node)), both("trying"));
}

fn the_server_is_where_it_goes() {
    let params = param("presence_server", "\"sip:127.0.0.6:5090\"");
    let mut node = node(&params, SET);
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    let to = node.sent().into_iter().filter(|(_, text)| text.starts_with("PUBLISH "));
    assert!(to.into_iter().all(|(to, _)| to.to_string() == "127.0.0.6:5090"));
    let wrong = script(&param("presence_server", "\"tel:1\""), SET);
    let error = TestNode::try_new(&wrong, MODULES).err().unwrap();
    assert!(error.contains("reached by a sip: URI"), "{error}");
}

fn party(side: &str, usual: &str) {
    let params = param(&format!("{side}_spec_param"), "\"$avp(who)\"");
    let named = "$avp(who) = \"\\\"Someone\\\" <sip:other@o.test;x=y>\"; dialoginfo_set();";
    let all = early(&params, named);
    assert!(all.iter().any(|p| p.uri == "sip:other@o.test"), "{:?}", states(&all));
    assert!(all[0].text.contains("display=\"Someone\""));
    let unnamed = early(&params, SET);
    assert!(unnamed.iter().any(|p| p.uri == format!("sip:{usual}")));
}

fn other_servers_get_whole_documents() {
    let mut node = node(&param("osips_ps", "0"), SET);
    let mut server = Server::default();
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(200));
    let all = server.serve(&mut node);
    assert!(all[0].text.contains(" state=\"full\"") && all[0].text.contains(" version=\""));
    node.udp(CALLER, &phones.within("ACK", 7));
    node.udp(CALLER, &phones.within("BYE", 8));
    let over = server.serve(&mut node);
    assert_eq!(states(&over), both("terminated"));
    assert_eq!(over[0].header("Expires"), "300", "a body goes with a state that lasts");
    assert!(early("", SET)[0].text.contains(" state=\"partial\""));
}

fn a_reinvite_can_be_kept_quiet() {
    let told = |within: &str| {
        let params = param("nopublish_flag", "\"QUIET\"");
        let text = format!("{MODULE_LINES}{params}\n{}", routes(SET, within));
        let mut node = TestNode::new(&text, MODULES);
        let mut server = Server::default();
        let phones = Phones::dial(&mut node, "c1");
        node.udp(CALLEE, &phones.reply(200));
        node.udp(CALLER, &phones.within("ACK", 7));
        server.serve(&mut node);
        node.udp(CALLER, &phones.within("INVITE", 8));
        states(&server.serve(&mut node))
    };
    assert_eq!(told(""), both("confirmed"));
    assert!(told("match_dialog();").len() == 2);
    let quiet = told_quiet();
    assert!(quiet.is_empty(), "{quiet:?}");
}

/// The flag is set before the request is matched to its dialog.
fn told_quiet() -> Vec<String> {
    let params = param("nopublish_flag", "\"QUIET\"");
    let routes = routes(SET, "").replace("loose_route();", "setflag(\"QUIET\"); loose_route();");
    let mut node = TestNode::new(&format!("{MODULE_LINES}{params}\n{routes}"), MODULES);
    let mut server = Server::default();
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(200));
    node.udp(CALLER, &phones.within("ACK", 7));
    server.serve(&mut node);
    node.udp(CALLER, &phones.within("INVITE", 8));
    states(&server.serve(&mut node))
}

fn sides_are_published() {
    assert_eq!(states(&early("", SET)), both("early"));
    assert_eq!(states(&early("", "dialoginfo_set(\"A\");")), ["sip:alice@a.test early"]);
    assert_eq!(states(&early("", "dialoginfo_set(\"B\");")), ["sip:bob@b.test early"]);
    assert!(early("", "").is_empty());
    let wrong = script("", "dialoginfo_set(\"C\");");
    let error = TestNode::try_new(&wrong, MODULES).err().unwrap();
    assert!(error.contains("a side is A, the caller, or B"), "{error}");
}

/// A call that goes to two phones; `branch` runs for each.
fn forked(branch: &str) -> (TestNode, Phones, Phones) {
    let initial = "dialoginfo_set(); t_on_branch(\"b\"); append_branch(\"sip:carol@127.0.0.3\");";
    let text = format!("{}branch_route[b] {{ {branch} }}\n", script("", initial));
    let mut node = TestNode::new(&text, MODULES);
    node.udp(CALLER, &Phones::request("c1"));
    let sent = node.sent();
    let of = |to: &str| {
        let texts = sent.iter().filter(|(a, _)| a.to_string().starts_with(to));
        Phones::of("c1", texts.map(|(_, text)| text.clone()).collect())
    };
    (node, of("127.0.0.2"), of("127.0.0.3"))
}

fn branches_have_their_callees() {
    let name = "if ($rU == \"carol\") dialoginfo_set_branch_callee(\"sip:carol@c.test\");";
    let (mut node, bob, carol) = forked(name);
    let mut server = Server::default();
    node.udp(CALLEE, &bob.reply(180));
    assert_eq!(states(&server.serve(&mut node)), both("early"));
    let ring = carol.reply(180).replace("tag=t", "tag=u");
    node.udp("127.0.0.3:5060", &ring);
    let rings = server.serve(&mut node);
    assert_eq!(states(&rings), ["sip:carol@c.test early"]);
    assert!(rings[0].text.contains("<dialog id=\"c1.1\""), "{}", rings[0].text);
    node.udp(CALLEE, &bob.reply(200));
    let all = states(&server.serve(&mut node));
    assert!(all.contains(&"sip:carol@c.test terminated".to_owned()), "{all:?}");
    assert!(all.contains(&"sip:bob@b.test confirmed".to_owned()), "{all:?}");
    // A branch that is cancelled answers while its end is on its way, which is told once.
    let (mut node, bob, carol) = forked(name);
    let mut server = Server::default();
    node.udp("127.0.0.3:5060", &carol.reply(180).replace("tag=t", "tag=u"));
    server.serve(&mut node);
    node.udp(CALLEE, &bob.reply(200));
    node.udp("127.0.0.3:5060", &carol.reply(487).replace("tag=t", "tag=u"));
    let ends: Vec<_> = server.serve(&mut node);
    let of_carol: Vec<_> = ends.iter().filter(|p| p.uri.contains("carol")).collect();
    assert_eq!(of_carol.len(), 1, "{of_carol:?}");
    assert_eq!(of_carol[0].header("Expires"), "0");
    let (mut node, bob, carol) = forked(name);
    node.udp(CALLEE, &bob.reply(180));
    server.serve(&mut node);
    node.udp("127.0.0.3:5060", &carol.reply(200).replace("tag=t", "tag=u"));
    let all = states(&server.serve(&mut node));
    assert!(all.contains(&"sip:carol@c.test confirmed".to_owned()), "{all:?}");
    assert!(!all.contains(&"sip:bob@b.test confirmed".to_owned()), "{all:?}");
}

fn branches_are_kept_quiet() {
    let told = |mute: &str| {
        let (mut node, bob, carol) = forked(&format!("if ($rU == \"carol\") {mute}"));
        node.udp("127.0.0.3:5060", &carol.reply(180).replace("tag=t", "tag=u"));
        let quiet = states(&Server::default().serve(&mut node));
        node.udp(CALLEE, &bob.reply(180));
        (quiet, states(&Server::default().serve(&mut node)))
    };
    let all = both("early").to_vec();
    assert_eq!(told("dialoginfo_mute_branch();"), (Vec::new(), all.clone()));
    let (quiet, then) = told("dialoginfo_mute_branch(\"A\");");
    assert_eq!((quiet, then), (vec![all[1].clone()], vec![all[0].clone()]));
    let (quiet, then) = told("dialoginfo_mute_branch(\"B\");");
    assert_eq!((quiet, then), (vec![all[0].clone()], vec![all[1].clone()]));
}
