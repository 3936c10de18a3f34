//! Functions and commands.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::world::{URL, destination, node, node_with, request, said, set, states, tells};

const FIRST: &str = "sip:127.0.2.1:5080";

/// A destination with a socket of its own leaves none to the next.
pub(crate) fn sockets() {
    let fill = |db: &mut tandem_db::memory::MemoryDb| {
        let own = [("priority", 9.into()), ("socket", "udp:127.0.0.1:5070".into())];
        destination(db, 1, "sip:127.0.2.1", &own);
        destination(db, 1, "sip:127.0.2.2", &[]);
    };
    let route = "route { ds_select_dst(1, 8, \"f\"); xlog(\"L_NOTICE\", \"# $du $fs\"); \
         ds_next_dst(); xlog(\"L_NOTICE\", \"# $du $fs\"); }";
    let mut node = node_with(URL, route, fill).unwrap();
    node.udp("127.0.0.9:5060", &request("c", ""));
    assert_eq!(said(&mut node), ["sip:127.0.2.1 udp:127.0.0.1:5070", "sip:127.0.2.2 <null>"]);
}

pub(crate) fn select() {
    let told = |code: &str| tells("", code, "$rc $du $ru");
    let plain = "sip:u@here.test";
    assert_eq!(told("ds_select_dst(1, 8);"), format!("1 {FIRST} {plain}"));
    assert_eq!(told("ds_select_domain(1, 8);"), "1 <null> sip:u@127.0.2.1:5080");
    assert_eq!(told("ds_select_dst(9, 8);"), format!("-2 <null> {plain}"));
    // An algorithm that there is not stands for the first destination.
    for call in ["$var(a) = 77; ds_select_dst(1, $var(a));", "ds_select_dst(1, 11);"] {
        assert_eq!(told(call), format!("1 {FIRST} {plain}"));
    }
    assert_eq!(tells("", "ds_select_dst(2, 8);", "$du $fs"), "sip:127.0.2.4 udp:127.0.0.1:5070");
    let left = "$(avp(ds_dst_failover)[*])|$avp(ds_cnt_failover)";
    assert_eq!(tells("", "ds_select_dst(1, 8);", left), format!("{FIRST}|1"));
    let all = format!("{FIRST}, sip:127.0.2.2, sip:127.0.2.3|3");
    assert_eq!(tells("", "ds_select_dst(1, 8, \"f\");", left), all);
    let two = format!("{FIRST}, sip:127.0.2.2|2");
    assert_eq!(tells("", "ds_select_dst(1, 8, \"F\", , 2);", left), two);
    let both = "ds_select_dst(1, 8); ds_select_dst(2, 8, \"a\");";
    assert_eq!(tells("", both, left), format!("{FIRST}, sip:127.0.2.4|2"));
    assert!(node(URL, "route { ds_select_dst(1, 8, \"z\"); }").is_err());
}

/// The destinations of so many calls.
fn chosen(params: &str, call: &str, header: &str, ids: usize) -> Vec<String> {
    let route = format!("route {{ {call} xlog(\"L_NOTICE\", \"# $du\"); }}");
    let mut node = node(&format!("{URL}{params}"), &route).unwrap();
    for id in 0..ids {
        node.udp("127.0.0.9:5060", &request(&format!("call-{id}"), header));
    }
    said(&mut node)
}

fn different(chosen: &[String]) -> usize {
    chosen.iter().collect::<BTreeSet<_>>().len()
}

pub(crate) fn algorithms() {
    let by = |call: &str| different(&chosen("", call, "", 40));
    assert_eq!(by("ds_select_dst(1, 0);"), 3, "by Call-ID");
    for same in [1, 2, 3] {
        assert_eq!(by(&format!("ds_select_dst(1, {same});")), 1);
        assert_eq!(by(&format!("ds_select_dst(1, {same}, \"u\");")), 1);
    }
    let turns = chosen("", "ds_select_dst(1, 4);", "", 6);
    assert_eq!(turns[..3], turns[3..]);
    assert_eq!(different(&turns), 3);
    let user = "Authorization: Digest username=\"me\", realm=\"r\", nonce=\"n\", uri=\"sip:x\", \
         response=\"00000000000000000000000000000000\"\n";
    assert_eq!(different(&chosen("", "ds_select_dst(1, 5);", user, 9)), 1);
    // Without credentials the destinations take turns.
    let turns = chosen("", "ds_select_dst(1, 5);", "", 6);
    assert_eq!((different(&turns), &turns[..3]), (3, &turns[3..]));
    assert_eq!(by("ds_select_dst(1, 6);"), 3, "by chance");
    let format = set("hash_pvar", "x$ci");
    assert_eq!(different(&chosen(&format, "ds_select_dst(1, 7);", "", 40)), 3);
    let fixed = set("hash_pvar", "$fU");
    assert_eq!(different(&chosen(&fixed, "ds_select_dst(1, 7);", "", 40)), 1);
    assert_eq!(chosen("", "ds_select_dst(1, 7);", "", 1), ["<null>"]);
    assert_eq!(by("ds_select_dst(1, 8);"), 1);
    let load = set("pvar_algo_pattern", "$avp(load_%i)");
    let loads = "$avp(load_127.0.2.1) = 5; $avp(load_127.0.2.2) = 9; $avp(load_127.0.2.3) = 2; \
         ds_select_dst(1, 9);";
    assert_eq!(chosen(&load, loads, "", 1), ["sip:127.0.2.3"]);
    assert_eq!(chosen("", "ds_select_dst(1, 9);", "", 1), ["<null>"]);
    assert_eq!(chosen("", "ds_select_dst(1, 10);", "", 1), ["<null>"]);
    by_route();
    // The last one is for the end.
    let turns = chosen("", "ds_select_dst(1, 4, \"d\");", "", 6);
    assert!(!turns.contains(&"sip:127.0.2.3".to_owned()), "{turns:?}");
}

/// Algorithm 10: a route tells the load of each destination, or passes it over.
pub(crate) fn by_route() {
    let load = |code: &str| format!("{}route[LOAD] {{ {code} }}\n", set("algo_route", "LOAD"));
    let by_uri = load(
        "if ($param(1) == \"sip:127.0.2.2\") return(1); \
         if ($param(2) == \"first\") return(-1); return(7);",
    );
    let kept = "ds_select_dst(1, 10, \"f\"); $avp(all) = $(avp(ds_dst_failover)[*]);";
    assert_eq!(chosen(&by_uri, kept, "", 1), ["sip:127.0.2.2"]);
    let told = tells(&by_uri, kept, "$avp(all)");
    assert_eq!(told, "sip:127.0.2.2, sip:127.0.2.3", "the first one is passed over");
    let none = load("return(-1);");
    assert_eq!(tells(&none, "ds_select_dst(1, 10);", "$rc $du"), "-1 <null>");
    assert!(node(&format!("{URL}{}", set("algo_route", "NONE")), "route { exit; }").is_err());
}

pub(crate) fn next() {
    let told = |code: &str| tells("", code, "$rc $du $ru");
    let one = "ds_select_dst(1, 8, \"f\"); ds_next_dst();";
    assert_eq!(told(one), "1 sip:127.0.2.2 sip:u@here.test");
    assert_eq!(tells("", one, "$avp(ds_cnt_failover)"), "2");
    let end = "ds_select_dst(1, 8, \"f\"); ds_next_dst(); ds_next_dst(); ds_next_dst();";
    assert!(told(end).starts_with("-1 "));
    let domain = "ds_select_domain(1, 8, \"f\"); ds_next_domain();";
    assert_eq!(told(domain), "1 <null> sip:u@127.0.2.2");
    assert!(told("ds_next_dst();").starts_with("-1 "));
    let down = "ds_select_dst(1, 8, \"f\"); $avp(d) = $avp(ds_dst_failover); ds_next_dst(); \
         ds_mark_dst(); ds_select_dst(1, 8, \"f\"); ds_next_dst();";
    assert_eq!(told(down), "1 sip:127.0.2.3 sip:u@here.test", "one that is down is passed over");
}

pub(crate) fn mark() {
    let count = "ds_count(1, \"a\", $avp(a)); ds_count(1, \"ip\", $avp(x));";
    let told = |code: &str| tells("", &format!("{code} {count}"), "$rc $avp(a) $avp(x)");
    assert_eq!(told(""), "1 3 0");
    assert_eq!(told("ds_select_dst(1, 8); ds_mark_dst();"), "1 2 1");
    assert_eq!(told("ds_select_dst(1, 8); ds_mark_dst(\"p\");"), "1 3 0", "two more are needed");
    let thrice = "ds_select_dst(1, 8); ds_mark_dst(\"p\"); ds_mark_dst(\"p\"); ds_mark_dst(\"p\");";
    assert_eq!(told(thrice), "1 2 1");
    assert_eq!(told("ds_select_dst(1, 8); ds_mark_dst(\"i\"); ds_mark_dst(\"a\");"), "1 3 0");
    assert_eq!(tells("", "ds_mark_dst();", "$rc"), "-1");
    assert_eq!(tells("", "ds_count(7, \"a\", $avp(a));", "$rc"), "-1");
    let route = "route { ds_select_dst(1, 8); ds_mark_dst(); }\n\
         event_route[E_DISPATCHER_STATUS] { xlog(\"L_NOTICE\", \"# $param(partition) $param(group) \
         $param(address) $param(status)\"); }";
    let mut node = node(URL, route).unwrap();
    node.udp("127.0.0.9:5060", &request("c", ""));
    assert_eq!(said(&mut node), [format!("default 1 {FIRST} inactive")]);
    node.mi("ds_set_state", json!(["a", "1", FIRST]));
    assert_eq!(said(&mut node), [format!("default 1 {FIRST} active")]);
}

pub(crate) fn in_list() {
    let params = format!("{}{}", set("setid_pvar", "$avp(set)"), set("attrs_avp", "$avp(attrs)"));
    let told = |code: &str| tells(&params, code, "$rc $avp(set) $avp(attrs)");
    assert_eq!(told("ds_is_in_list(\"127.0.2.1\", 5080);"), "1 1 first");
    assert_eq!(told("ds_is_in_list(\"127.0.2.1\", 9);"), "-1 <null> <null>");
    assert_eq!(told("ds_is_in_list(\"127.0.2.1\", 0);"), "1 1 first");
    assert_eq!(told("ds_is_in_list(\"127.0.2.4\", 0, 1);"), "-1 <null> <null>");
    assert!(told("ds_is_in_list(\"127.0.2.4\", 0, 2);").starts_with("1 2"));
    assert!(told("ds_is_in_list(\"127.0.2.4\", 0, -1);").starts_with("1 2"));
    assert_eq!(told("ds_is_in_list(\"127.0.2.1\", 0, , , , \"fi*\");"), "1 1 first");
    assert_eq!(told("ds_is_in_list(\"127.0.2.1\", 0, , , , \"x*\");"), "-1 <null> <null>");
    let down = "ds_select_dst(1, 8); ds_mark_dst(); ";
    let any = format!("{down} ds_is_in_list(\"127.0.2.1\", 0, 1, , 0);");
    assert!(told(&any).starts_with("1 "));
    let active = format!("{down} ds_is_in_list(\"127.0.2.1\", 0, 1, , 1);");
    assert!(told(&active).starts_with("-1 "));
    assert!(told("ds_is_in_list(\"nonsense\", 0);").starts_with("-1 "));
}

pub(crate) fn attrs() {
    let get = format!("ds_get_script_attrs(\"{FIRST}\", 1, , $avp(s));");
    let told = |code: &str| tells("", &format!("{code} {get}"), "$rc $avp(s)");
    assert_eq!(told("ds_push_script_attrs(\"x=1\", \"127.0.2.1\", 5080, 1);"), "1 x=1");
    assert_eq!(told("ds_push_script_attrs(\"x=1\", \"127.0.2.9\", 0);"), "1 ");
    assert_eq!(tells("", "ds_get_script_attrs(\"sip:x\", 1, , $avp(s));", "$rc"), "-1");
    let mut node = node(URL, "route { exit; }").unwrap();
    let pushed = node.mi("dispatcher:push_script_attrs", json!(["y", "127.0.2.1", 0, 1]));
    assert_eq!(pushed["result"], "OK");
    assert!(node.mi("ds_list", Json::Null).to_string().contains("\"script_attr\":\"y\""));
    let wrong = node.mi("ds_push_script_attrs", json!(["y", "127.0.2.9", 0, 1]));
    assert_eq!(wrong["error"]["message"], "destination not found");
}

pub(crate) fn commands() {
    let mut node = node(URL, "route { exit; }").unwrap();
    let list = node.mi("dispatcher:list", Json::Null)["result"]["PARTITIONS"][0].clone();
    assert_eq!((&list["name"], &list["SETS"][0]["id"]), (&json!("default"), &json!(1)));
    let first = json!({
        "URI": FIRST, "state": "Active", "first_hit_counter": 0, "attr": "first"
    });
    assert_eq!(list["SETS"][0]["Destinations"][0], first);
    let full = node.mi("ds_list", json!({"full": 1}))["result"]["PARTITIONS"][0].clone();
    let full = full["SETS"][0]["Destinations"][0].clone();
    assert_eq!((&full["weight"], &full["priority"]), (&json!(1), &json!(9)));
    assert_eq!(
        (&full["description"], &full["resolved_addresses"]),
        (&json!("A"), &json!(["127.0.2.1"]))
    );
    for (args, why) in [
        (json!(["x", "1", FIRST]), "Bad state value"),
        (json!(["a", "", FIRST]), "group not found"),
        (json!(["a", "z", FIRST]), "bad group value"),
        (json!(["a", "no:1", FIRST]), "ERROR Unknown partition"),
        (json!(["a", "1", ""]), "address not found"),
        (json!(["a", "1", "sip:no"]), "destination not found"),
    ] {
        assert_eq!(node.mi("dispatcher:set_state", args)["error"]["message"], why);
    }
    assert_eq!(node.mi("ds_set_state", json!(["i", "default:1", FIRST]))["result"], "OK");
    node.mi("ds_set_state", json!(["p", "1", "sip:127.0.2.2"]));
    let list = node.mi("dispatcher:list", json!({"partition": "default"}));
    assert_eq!(states(&list), ["Inactive", "Probing", "Active"]);
    node.mi("dispatcher:reload", Json::Null);
    assert_eq!(states(&node.mi("ds_list", Json::Null)), ["Inactive", "Probing", "Active"]);
    node.mi("ds_reload", json!({"inherit_state": 0}));
    assert_eq!(states(&node.mi("ds_list", Json::Null)), ["Active", "Active", "Active"]);
    let unknown = node.mi("dispatcher:reload", json!({"partition": "x"}));
    assert_eq!(unknown["error"]["message"], "ERROR Unknown partition");
}
