//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use tandem_engine::testing::evidence::note;
use tandem_engine::testing::{TestNode, cover};

const BOB: &str = "bob@b.test";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_presence_xml::MODULE,
        &[
            ("param force_active", rules_can_be_left_unasked),
            ("param pidf_manipulation", what_is_kept_counts_as_published),
            ("param xcap_server", nothing_is_fetched),
            ("param pres_rules_auid", rules_are_documents_of_an_application),
            ("param pres_rules_filename", rules_are_in_a_file),
            ("param generate_offline_body", the_end_of_a_publication_is_told),
        ],
    );
}

/// The state of bob's subscription.
fn bobs(params: &str, documents: &[(i64, &str, &str)]) -> String {
    let mut node = node_with(params, |db| {
        for (kind, path, handling) in documents {
            document(db, "xcap", *kind, path, &rules(handling));
        }
    });
    let (_, notify) = subscribe(&mut node, BOB, 1);
    state(&notify).to_owned()
}

fn rules_can_be_left_unasked() {
    assert_eq!(bobs("", &[]), "pending");
    assert_eq!(bobs(&set("force_active", "1"), &[]), "active");
    assert_eq!(bobs("", &[(2, "index", "allow")]), "active");
}

fn what_is_kept_counts_as_published() {
    let seen = |params: &str| {
        let mut node = node_with(&format!("{}{params}", set("force_active", "1")), |db| {
            document(db, "xcap", 16, "index", &pidf("kept", "open"));
        });
        tuple(&mut node, 1, "t1", "open");
        seen_by(&mut node, BOB, 1)
    };
    let body = seen(&set("pidf_manipulation", "1"));
    assert!(body.contains("\"t1\"") && body.contains("\"kept\""), "{body}");
    let body = seen("");
    assert!(body.contains("\"t1\"") && !body.contains("\"kept\""), "{body}");
}

fn nothing_is_fetched() {
    let row = tandem_presence_xml::MODULE.params.iter().find(|p| p.name == "xcap_server").unwrap();
    assert!(row.moot.is_some());
    note("xcap_server");
    let twice = set("xcap_server", "\"10.0.0.1:80\"") + &set("xcap_server", "\"10.0.0.2\"");
    assert_eq!(bobs(&twice, &[(2, "index", "allow")]), "active");
}

fn rules_are_documents_of_an_application() {
    let both = [(2, "index", "confirm"), (32, "pres-rules", "allow")];
    let oma = set("pres_rules_auid", "\"org.openmobilealliance.pres-rules\"");
    assert_eq!((bobs("", &both), bobs(&oma, &both)), ("pending".into(), "active".into()));
    let wrong = script(&set("pres_rules_auid", "\"resource-lists\""));
    let error = TestNode::try_new(&wrong, MODULES).err().unwrap();
    assert!(error.contains("documents of pres-rules"), "{error}");
}

fn rules_are_in_a_file() {
    let both = [
        (2, "/pres-rules/users/sip:alice@a.test/index", "confirm"),
        (2, "/pres-rules/users/sip:alice@a.test/mine", "allow"),
    ];
    let mine = set("pres_rules_filename", "\"mine\"");
    assert_eq!((bobs("", &both), bobs(&mine, &both)), ("pending".into(), "active".into()));
}

fn the_end_of_a_publication_is_told() {
    let last = |params: &str| {
        let mut node = node(&format!("{}{params}", set("force_active", "1")));
        let etag = tuple(&mut node, 1, "t1", "open");
        assert!(seen_by(&mut node, BOB, 1).contains("open"));
        publish(&mut node, 2, &etag, "", "");
        told(&mut node);
        seen_by(&mut node, "carol@c.test", 2)
    };
    let body = last("");
    assert!(body.contains("\"t1\"") && body.contains("closed"), "{body}");
    assert_eq!(last(&set("generate_offline_body", "0")), "");
}
