//! Documents as watchers see them.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use serde_json::json;

const BOB: &str = "bob@b.test";

#[test]
fn what_several_phones_publish_is_told_as_one() {
    let mut node = node(&set("force_active", "1"));
    tuple(&mut node, 1, "desk", "closed");
    tuple(&mut node, 2, "mobile", "open");
    let body = seen_by(&mut node, BOB, 1);
    let at = |id: &str| body.find(&format!("<tuple id=\"{id}\"")).unwrap();
    assert!(at("mobile") < at("desk"), "the newest comes first: {body}");
    assert!(tandem_presence_xml::pidf::check(body.as_bytes()).is_ok());
}

#[test]
fn a_body_that_is_none_is_refused_with_the_reason() {
    let mut node = node(&set("force_active", "1"));
    let kind = "application/pidf+xml";
    let broken = publish(&mut node, 1, "", kind, "<presence");
    assert!(broken.starts_with("SIP/2.0 400 Invalid presence document"), "{broken}");
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
    assert!(publish(&mut node, 2, "", kind, bomb).starts_with("SIP/2.0 400 "));
    let other = publish(&mut node, 3, "", "text/plain", "hello");
    assert!(other.starts_with("SIP/2.0 415 "), "{other}");
    assert_eq!(header(&other, "Accept"), kind);
    let upper = "APPLICATION/PIDF+XML; charset=\"UTF-8\"";
    let fine = publish(&mut node, 4, "", upper, &pidf("t", "open"));
    assert!(fine.starts_with("SIP/2.0 200 "), "{fine}");
}

/// The reply to bob's SUBSCRIBE, the state of his subscription, and what he sees.
fn bob_with(rules: &str) -> (String, String, String) {
    let mut node = node_with("", |db| document(db, "xcap", 2, "index", rules));
    tuple(&mut node, 1, "t1", "open");
    let (reply, notify) = subscribe(&mut node, BOB, 1);
    let body = notify.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (reply[8..11].to_owned(), state(&notify).to_owned(), body.to_owned())
}

#[test]
fn rules_say_who_may_watch() {
    let (code, state, body) = bob_with(&rules("allow"));
    assert_eq!((&*code, &*state, body.contains("open")), ("200", "active", true));
    let (code, state, body) = bob_with(&rules("confirm"));
    assert_eq!((&*code, &*state, body.contains("open")), ("202", "pending", false));
    let (code, state, body) = bob_with(&rules("polite-block"));
    assert_eq!((&*code, &*state), ("200", "active"));
    assert!(body.contains("closed") && !body.contains("t1"), "{body}");
    assert_eq!(bob_with(&rules("block")).0, "403");
    assert_eq!(bob_with(&rules("allow").replace("sip:bob", "sip:carol")).1, "pending");
    assert_eq!(bob_with("<ruleset").1, "pending", "rules that cannot be read decide nothing");
}

#[test]
fn whoever_is_put_off_politely_is_not_told_when_something_changes() {
    let mut node = node_with("", |db| document(db, "xcap", 2, "index", &rules("polite-block")));
    let (_, notify) = subscribe(&mut node, BOB, 1);
    assert!(notify.contains("closed"), "{notify}");
    let shown = |notify: &str| notify.split_once("\r\n\r\n").unwrap().1.to_owned();
    let nobody = shown(&notify);
    tuple(&mut node, 1, "t1", "open");
    tuple(&mut node, 2, "t2", "open");
    let told = told(&mut node);
    assert!(told.is_empty(), "{told:?}");
    // When he asks he is told the same as ever.
    let (_, notify) = subscribe(&mut node, BOB, 2);
    assert_eq!(shown(&notify), nobody);
}

#[test]
fn rules_say_how_much_a_watcher_sees() {
    let with = |transformations: &str| {
        let end = format!("</actions><transformations>{transformations}</transformations>");
        bob_with(&rules("allow").replace("</actions>", &end)).2
    };
    assert!(!with("").contains("<tuple"));
    assert!(with("<provide-services><all-services/></provide-services>").contains("<tuple"));
    let other = "<provide-services><occurrence-id>t2</occurrence-id></provide-services>";
    assert!(!with(other).contains("<tuple"));
}

#[test]
fn rules_that_change_count_from_the_command_on() {
    let params = "modparam(\"xcap\", \"integrated_xcap_server\", 1)\n";
    let mut node = node_with(params, |db| document(db, "xcap", 2, "index", &rules("confirm")));
    tuple(&mut node, 1, "t1", "open");
    let (_, notify) = subscribe(&mut node, BOB, 1);
    assert_eq!(state(&notify), "pending");
    let all = tandem_db::Query::Delete { table: "xcap".into(), conds: Vec::new() };
    node.db.execute(&all).unwrap();
    document(&mut node.db, "xcap", 2, "index", &rules("allow"));
    assert_eq!(state(&subscribe(&mut node, BOB, 2).1), "pending", "it is still kept");
    node.mi("presence:refresh_watchers", json!(["sip:alice@a.test", "presence", "0"]));
    let told = told(&mut node);
    let states: Vec<_> = told.iter().map(|text| state(text)).collect();
    assert_eq!(states, ["active", "active"]);
}
