//! Why a number goes where it goes.

use serde_json::{Value as Json, json};

use crate::world::{URL, node, node_with, rule, set};

const ROUTE: &str = "route { exit; }\nroute[say] { exit; }\nroute[refuse] { exit; }";

fn rows<'a>(answer: &'a Json, list: &str, fields: [&str; 3]) -> Vec<[&'a str; 3]> {
    let all = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|row| fields.map(|name| row[name].as_str().unwrap_or_default())).collect()
}

pub(crate) fn number() {
    let mut node = node(URL, ROUTE).unwrap();
    let answer = node.mi("drouting:explain", json!({"number": "4021555", "group_id": 0}));
    let answer = &answer["result"];
    assert_eq!((&answer["Number"], &answer["Group"]), (&json!("4021555"), &json!(0)));
    assert_eq!(
        rows(answer, "Rules", ["Prefix", "Verdict", "Why"]),
        [
            ["4021", "passed over", "its times do not hold then"],
            ["4021", "taken", "the longest prefix that fits"],
            [
                "40",
                "not reached",
                "a rule before it is taken; use_next_gw() comes here with the flag F"
            ],
            ["40", "passed over", "it is of group 7"],
            [
                "",
                "not reached",
                "a rule before it is taken; use_next_gw() comes here with the flag F"
            ],
        ]
    );
    let to = ["Gateway", "Verdict", "URI"];
    assert_eq!(rows(answer, "Destinations", to), [["gw4", "first", "sip:4021555@127.0.1.24"]]);
    assert_eq!(answer["Result"], "sip:4021555@127.0.1.24 by gateway gw4");
    // The times of the rule with the greater priority held then.
    let then = json!({"number": "4021555", "group_id": 0, "time": "2020-01-01T00:30"});
    let answer = node.mi("drouting:explain", then);
    let result = answer["result"]["Result"].as_str().unwrap();
    assert!(result.ends_with("by gateway gw3"), "{answer}");
    assert_eq!(answer["result"]["Time"], "2020-01-01T00:30:00Z");
    let wrong = json!({"number": "4021555", "group_id": 0, "time": "noon"});
    assert_eq!(node.mi("drouting:explain", wrong)["error"]["code"], 400);
    let error = node.mi("drouting:explain", json!({"number": "1"}))["error"].clone();
    assert_eq!(error["code"], 400);
    // Said in the words of those who ask: the parameter, and the flag of the command line.
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("group_id") && text.contains("--group of"), "{text}");
}

pub(crate) fn reasons() {
    let params = format!("{URL}{}", set("default_group", "0"));
    let fill = |db: &mut tandem_db::memory::MemoryDb| {
        crate::world::fill(db);
        rule(db, "0", "6", "gw2=30,#c2=10", &[("sort_alg", "W".into())]);
        rule(db, "0", "7", "gw1", &[("routeid", "say".into())]);
        rule(db, "0", "8", "gw2", &[("sort_alg", "Q".into())]);
    };
    let mut node = node_with(&params, ROUTE, fill).unwrap();
    let mut ask =
        |number: &str| node.mi("drouting:explain", json!({"number": number}))["result"].clone();
    let text = |answer: &Json| answer.to_string();
    let by_weight = ask("61");
    assert_eq!(
        rows(&by_weight, "Destinations", ["Gateway", "Verdict", "Why"]),
        [
            ["gw2", "first", "by weight, first in 75 % of the calls"],
            [
                "gw3",
                "then",
                "by weight, first in 25 % of the calls; by weight, first in 100 % of the calls"
            ],
            ["gw4", "passed over", "the carrier uses its first gateway only"],
        ]
    );
    assert!(text(&ask("71")).contains("route[say] runs first and may refuse"));
    assert!(text(&ask("81")).contains("as written: qrouting is not loaded"));
    let plus = ask("+4021");
    assert!(text(&plus["Note"]).contains("`+` is no part of a prefix"), "{plus}");
    assert_eq!(rows(&plus, "Rules", ["Prefix", "Verdict", "Why"])[0][1], "taken");

    for id in ["gw1", "gw2", "gw3"] {
        node.mi("drouting:gw_status", json!({"gw_id": id, "status": 0}));
    }
    node.mi("drouting:carrier_status", json!({"carrier_id": "c2", "status": 0}));
    let mut ask =
        |number: &str| node.mi("drouting:explain", json!({"number": number}))["result"].clone();
    let dead = ask("4099");
    assert_eq!(dead["Result"], "no gateway of a rule that fits can be used: do_routing() gives -2");
    assert_eq!(
        rows(&dead, "Rules", ["Prefix", "Verdict", "Why"])[0],
        ["40", "no gateway", "none of its destinations can be used"]
    );
    assert!(text(&dead).contains("its state is Disabled MI"), "{dead}");
    assert!(text(&ask("61")).contains("carrier `c2` is off"));
}
