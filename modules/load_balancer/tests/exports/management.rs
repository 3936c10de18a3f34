//! Commands.

use serde_json::{Value as Json, json};
use tandem_db::{Query, Value};

use crate::world::{
    URIS, URL, call, destination, destinations, enabled, fill, loads, node, node_with, said, saying,
};

const START: &str = "lb_start(1, \"pstn\");";

pub(crate) fn list() {
    let mut node = node("", &saying(START, "$du")).unwrap();
    call(&mut node, "c");
    let all = destinations(&mut node);
    let first = json!({
        "uri": URIS[0], "id": 1, "group": 1, "enabled": "yes", "auto-reenable": "on",
        "Resources": [
            {"name": "pstn", "max": 2, "load": 0}, {"name": "transcoding", "max": 1, "load": 0}
        ],
        "attrs": "first"
    });
    let second = json!({
        "uri": URIS[1], "id": 2, "group": 1, "enabled": "yes", "auto-reenable": "on",
        "Resources": [{"name": "pstn", "max": 10, "load": 1}]
    });
    assert_eq!(all[..2], [first, second]);
    assert_eq!(node.mi("lb_list", Json::Null)["result"]["Destinations"][3]["group"], 2);
}

pub(crate) fn resize() {
    let mut node = node("", &saying(START, "$du")).unwrap();
    let mut refused = |args: Json| node.mi("lb_resize", args)["error"].clone();
    let unknown = refused(json!([9, "pstn", 1]));
    assert_eq!(
        (&unknown["code"], &unknown["message"]),
        (&json!(404), &json!("Destination ID not found"))
    );
    assert_eq!(refused(json!([2, "x", 1]))["message"], "Destination has no such resource");
    assert_eq!(refused(json!([2, "pstn", -1]))["code"], 400);
    assert_eq!(node.mi("load_balancer:resize", json!([3, "pstn", 30]))["result"], "OK");
    call(&mut node, "c");
    assert_eq!(said(&mut node), [URIS[2]]);
    assert_eq!(destinations(&mut node)[2]["Resources"][0]["max"], 30);
}

pub(crate) fn status() {
    let mut node = node("", &saying(START, "$du")).unwrap();
    let first = node.mi("load_balancer:status", json!({"destination_id": 1}))["result"].clone();
    assert_eq!(first, json!({"enable": "yes", "attrs": "first"}));
    let unknown = node.mi("lb_status", json!([9]))["error"].clone();
    assert_eq!(unknown["message"], "Destination ID not found");
    assert_eq!(node.mi("lb_status", json!([2, 0]))["result"], "OK");
    assert_eq!(node.mi("lb_status", json!([2]))["result"], json!({"enable": "no"}));
    assert_eq!(destinations(&mut node)[1]["auto-reenable"], "off");
    call(&mut node, "c");
    assert_eq!(said(&mut node), [URIS[2]]);
    node.mi("lb_status", json!([2, 1]));
    assert_eq!(enabled(&mut node), ["yes"; 4]);
}

pub(crate) fn reload() {
    let mut node = node("", &saying(START, "$du")).unwrap();
    call(&mut node, "c");
    node.mi("lb_status", json!([3, 0]));
    destination(&mut node.db, 1, "sip:127.0.2.9", "pstn=100", (0, ""));
    assert_eq!(node.mi("load_balancer:reload", Json::Null)["result"], "OK");
    assert_eq!(enabled(&mut node), ["yes", "yes", "no", "yes", "yes"]);
    assert_eq!(loads(&mut node, "pstn"), [0, 1, 0, 0], "calls stay where they are");
    said(&mut node);
    call(&mut node, "d");
    assert_eq!(said(&mut node), ["sip:127.0.2.9"]);
    // What cannot be used does not take the place of what can.
    let gone = Query::Delete { table: "load_balancer".into(), conds: Vec::new() };
    node.db.execute(&gone).unwrap();
    destination(&mut node.db, 1, "sip:127.0.2.9", "pstn=fs://x", (0, ""));
    let refused = node.mi("lb_reload", Json::Null)["error"].clone();
    assert_eq!((&refused["code"], &refused["message"]), (&json!(500), &json!("Failed to reload")));
    assert_eq!(destinations(&mut node).len(), 5);
    assert!(node.logs().iter().any(|(_, text)| text.contains("the old table stays")));
}

pub(crate) fn refused() {
    let mut node = node_with(URL, &saying(START, "$du"), |db| {
        fill(db);
        destination(db, 1, "sip:127.0.2.2", "pstn=99", (0, ""));
        let mode = |mode: &str| {
            vec![
                ("dst_uri".into(), Value::from("sip:127.0.2.7")),
                ("group_id".into(), 1.into()),
                ("resources".into(), Value::from("a=1")),
                ("probe_mode".into(), Value::from(mode)),
            ]
        };
        db.execute(&Query::Insert { table: "load_balancer".into(), row: mode("often") }).unwrap();
    })
    .unwrap();
    let told = node.mi("load_balancer:refused", Json::Null)["result"].clone();
    assert!(told["Date"].is_string(), "{told}");
    assert_eq!((&told["Destinations"], &told["Refused"]), (&json!(4), &json!(2)), "{told}");
    let row = |why: &str| json!({"Table": "destinations", "Verdict": "refused", "Why": why});
    let rows = [
        row("id 6, destination `sip:127.0.2.7`: probe_mode `often` is none of 0, 1 and 2"),
        row("id 5: group 1 has sip:127.0.2.2 already"),
    ];
    assert_eq!(told["Rows"], json!(rows));
}

pub(crate) fn hostile() {
    let mut node = node_with(URL, &saying(START, "$du"), |db| {
        fill(db);
        for (group, uri, resources, probe) in [
            (1, "nonsense", "pstn=1", 0),
            (1, "tel:1", "pstn=1", 0),
            (1, "sip:127.0.2.2", "pstn=99", 0),
            (1, "sip:127.0.2.7", "", 0),
            (1, "sip:127.0.2.7", "pstn", 0),
            (1, "sip:127.0.2.7", "pstn=many", 0),
            (1, "sip:127.0.2.7", "pstn=fs://:ClueCon@10.0.0.1:8021", 0),
            (1, "sip:127.0.2.7", "pstn=1", 7),
            (1, "sip:127.0.2.7;transport=sctp", "pstn=1", 0),
            (1, "sips:127.0.2.7", "pstn=1", 0),
            (1, "sip:127.0.2.7\r\nERROR all is lost", "pstn=1", 0),
        ] {
            destination(db, group, uri, resources, (probe, ""));
        }
        let row = vec![
            ("dst_uri".into(), Value::from("sip:127.0.2.7")),
            ("group_id".into(), Value::Null),
            ("resources".into(), Value::from("a=1")),
        ];
        let _ = db.execute(&Query::Insert { table: "load_balancer".into(), row });
    })
    .unwrap();
    let logs = node.logs();
    let refused: Vec<_> = logs.iter().filter(|(_, text)| text.contains("left out")).collect();
    assert!(refused.len() >= 11, "{logs:?}");
    assert!(logs.iter().all(|(_, text)| !text.contains(['\r', '\n'])), "{logs:?}");
    assert!(refused.iter().any(|(_, text)| text.contains("FreeSWITCH")), "{refused:?}");
    assert!(logs.iter().any(|(_, text)| text.contains("4 destinations loaded")), "{logs:?}");
    call(&mut node, "c");
    assert_eq!(said(&mut node), [URIS[1]]);
}
