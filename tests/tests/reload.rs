//! `reload_routes` on a running node: the files are read again, and only routes may differ.

use std::fs;

use serde_json::Value as Json;
use tandem_tests::{Phone, Site, mi};

#[test]
fn routes_that_were_edited_serve_without_a_restart_and_globals_are_refused() {
    let site = Site::pair("reload");
    let node = site.start(1);
    let phone = Phone::new("alice", (site.net.ip(9), 5060));
    let file = site.dir().join("node1/node.cfg");
    let before = fs::read_to_string(&file).expect("the script");
    let first = phone.options(node.sip).code();

    let edited = before.replacen(
        "\nroute {",
        "\nroute {\n\tif (is_method(\"OPTIONS\")) { sl_send_reply(299, \"New\"); exit; }",
        1,
    );
    assert_ne!(before, edited);
    assert_eq!(phone.options(node.sip).code(), first, "nothing is read before the command");
    fs::write(&file, &edited).expect("the script");
    assert_eq!(node.mi("reload_routes", Json::Null), "OK");
    assert_eq!(phone.options(node.sip).code(), Some(299));

    // A mistake, and a parameter that differs: the routes go on as they are.
    fs::write(&file, edited.replacen("sl_send_reply", "sl_send_repli", 1)).expect("the script");
    let answer = mi(node.fifo(), "core:reload_routes", Json::Null);
    assert_eq!(answer["error"]["code"], 500, "{answer}");
    let why = answer["error"]["data"].as_str().expect("details");
    assert!(why.contains("did you mean `sl_send_reply`?"), "{why}");
    fs::write(&file, format!("max_while_loops = 5\n{edited}")).expect("the script");
    let answer = mi(node.fifo(), "core:reload_routes", Json::Null);
    let why = answer["error"]["data"].as_str().expect("details");
    assert!(why.contains("is: max_while_loops = 5"), "{why}");
    assert_eq!(phone.options(node.sip).code(), Some(299));
}
