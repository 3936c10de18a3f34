//! Every entry of the export table, on a node in memory.

#![allow(clippy::unwrap_used)]

use crate::together;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_db::{Query, Select, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Module, ModuleDef};
use tandem_engine::table::function;
use tandem_engine::testing::{DbState, TestNode, cover};
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_usrloc::store::Place;
use tandem_usrloc::{MODULE, Table, Usrloc};
use together::{
    a_push_contact_is_woken_before_its_end_if_wanted, what_peers_changed_is_written_only_if_wanted,
};

const MODULES: Modules = {
    static ALL: &[&ModuleDef] =
        &[&CORE, &tandem_proto_udp::MODULE, &tandem_db_sqlite::MODULE, &MODULE, &PINGER];
    ALL
};

fn near(table: &Table, id: u64) -> Place {
    table.domain.place_of(id).expect("a place")
}

/// Stands for nathelper: pings the contact of alice, and is answered.
static PINGER: ModuleDef = ModuleDef {
    name: "pinger",
    help: "For tests.",
    dependencies: &[],
    params: &[],
    functions: &[
        function("ping", &[], Routes::ANY, "Sends one.", |call| {
            let (usrloc, table, id) = alice(call);
            let before = table.domain.all_of(b"alice@example.org")[0].1.ping().sent_ns;
            let lost = match before {
                0 => None,
                sent_ns => usrloc.ping_lost(&table, (id, near(&table, id)), sent_ns),
            };
            usrloc.ping_sent(&table, (id, near(&table, id)), call.cx.now, 1);
            call.cx.log(Level::Notice, format!("lost={lost:?}"));
            Called::Returned(1)
        }),
        function("pong", &[], Routes::ANY, "It is answered.", |call| {
            let (usrloc, table, id) = alice(call);
            assert!(usrloc.ping_answered(call.cx, &table, (id, near(&table, id)), |_| true));
            Called::Returned(1)
        }),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Pinger)),
};

struct Pinger;

impl Module for Pinger {}

fn alice(call: &Call<'_, '_, '_>) -> (Arc<Usrloc>, Arc<Table>, u64) {
    let (_, usrloc) = call.cx.node.find::<Usrloc>().unwrap();
    let table = usrloc.table("location").unwrap();
    let id = usrloc.lookup(&table, b"alice@example.org", call.cx.now)[0].id;
    (usrloc, table, id)
}

const THROUGH: &str = "modparam(\"usrloc\", \"working_mode_preset\", \
                       \"single-instance-sql-write-through\")\n\
                       modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n";
const BACK: &str = "modparam(\"usrloc\", \"working_mode_preset\", \
                    \"single-instance-sql-write-back\")\n\
                    modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n";

fn script(setup: &str) -> String {
    format!(
        "log_level = 3\nsocket = udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"db_sqlite.so\"\n\
         loadmodule \"usrloc.so\"\nloadmodule \"pinger.so\"\n{setup}\n\
         route {{ if ($rm == \"OPTIONS\") ping(); else pong(); }}\n"
    )
}

fn node(setup: &str) -> TestNode {
    TestNode::new(&script(setup), MODULES)
}

fn add(node: &mut TestNode, aor: &str, uri: &str, expires_s: u32) -> Json {
    let params = json!(["location", aor, uri, expires_s, "0.5", 0, "NAT", 0]);
    node.mi("usrloc:add", params)["result"].clone()
}

fn rows(node: &mut TestNode) -> Vec<(String, String)> {
    let columns = vec!["username".into(), "contact".into()];
    let select = Select { table: "location".into(), columns, ..Select::default() };
    let rows = node.db.execute(&Query::Select(select)).unwrap().rows;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect()
}

fn error(answer: &Json) -> (i64, &str) {
    (answer["error"]["code"].as_i64().unwrap(), answer["error"]["message"].as_str().unwrap())
}

#[test]
fn every_entry_has_a_check() {
    let columns = MODULE.params.iter().map(|p| p.name).filter(|n| n.ends_with("_column"));
    let columns = columns.map(|name| {
        let name: &'static str = format!("param {name}").leak();
        (name, column_names_follow_their_parameters as fn())
    });
    let checks: [(&str, fn()); 42] = [
        ("param working_mode_preset", write_through_writes_at_once_and_deletes_at_once),
        ("param cluster_mode", single_parameters_say_what_a_preset_does),
        ("param restart_persistency", single_parameters_say_what_a_preset_does),
        ("param sql_write_mode", single_parameters_say_what_a_preset_does),
        ("param db_mode", single_parameters_say_what_a_preset_does),
        ("param shared_pinging", older_spellings_are_taken_with_a_note),
        ("param db_url", parameters_that_do_not_fit_are_refused_at_load),
        ("param timer_interval", write_back_writes_by_timer_and_on_command),
        ("param use_domain", use_domain_0_keys_by_user),
        ("param desc_time_order", contacts_are_listed_newest_first_if_wanted),
        ("param matching_mode", hash_size_order_matching_and_key_values_follow_their_parameters),
        ("param cseq_delay", hash_size_order_matching_and_key_values_follow_their_parameters),
        ("param hash_size", hash_size_order_matching_and_key_values_follow_their_parameters),
        ("param nat_bflag", add_show_dump_and_remove_over_management),
        ("param pinging_mode", parameters_that_do_not_fit_are_refused_at_load),
        ("param location_cluster", parameters_that_do_not_fit_are_refused_at_load),
        ("param max_contact_delete", deletes_go_in_groups),
        ("param skip_replicated_db_ops", what_peers_changed_is_written_only_if_wanted),
        ("param regen_broken_contactid", rows_of_another_id_are_taken_if_wanted),
        ("param contact_refresh_timer", a_push_contact_is_woken_before_its_end_if_wanted),
        ("param mi_dump_kv_store", attributes_of_an_aor_are_set_read_and_deleted),
        (
            "param latency_event_min_us",
            a_latency_is_shown_and_reported_within_the_limits_of_the_parameters,
        ),
        (
            "param latency_event_min_us_delta",
            a_latency_is_shown_and_reported_within_the_limits_of_the_parameters,
        ),
        ("function ul_add_key", attributes_of_an_aor_are_set_read_and_deleted),
        ("function ul_get_key", attributes_of_an_aor_are_set_read_and_deleted),
        ("function ul_del_key", attributes_of_an_aor_are_set_read_and_deleted),
        ("mi usrloc:rm", add_show_dump_and_remove_over_management),
        ("mi usrloc:rm_contact", add_show_dump_and_remove_over_management),
        ("mi usrloc:dump", add_show_dump_and_remove_over_management),
        ("mi usrloc:flush", write_back_writes_by_timer_and_on_command),
        ("mi usrloc:add", add_show_dump_and_remove_over_management),
        ("mi usrloc:show_contact", add_show_dump_and_remove_over_management),
        ("mi usrloc:sync", sync_makes_the_rows_equal_to_memory),
        ("mi usrloc:cluster_sync", commands_refuse_with_the_codes_of_the_field),
        ("statistic registered_users", statistics_are_sizes_and_ended_contacts),
        ("event E_UL_AOR_INSERT", events_tell_what_happens_to_contacts),
        ("event E_UL_AOR_DELETE", events_tell_what_happens_to_contacts),
        ("event E_UL_CONTACT_INSERT", events_tell_what_happens_to_contacts),
        ("event E_UL_CONTACT_DELETE", events_tell_what_happens_to_contacts),
        ("event E_UL_CONTACT_UPDATE", events_tell_what_happens_to_contacts),
        (
            "event E_UL_LATENCY_UPDATE",
            a_latency_is_shown_and_reported_within_the_limits_of_the_parameters,
        ),
        ("event E_UL_CONTACT_REFRESH", a_push_contact_is_woken_before_its_end_if_wanted),
    ];
    cover(&MODULE, &checks.into_iter().chain(columns).collect::<Vec<_>>());
}

#[test]
fn add_show_dump_and_remove_over_management() {
    let mut node = node("modparam(\"usrloc\", \"nat_bflag\", \"NAT\")");
    assert_eq!(add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60), "OK");
    assert_eq!(add(&mut node, "alice@example.org", "sip:b@10.0.0.9", 0), "OK");
    assert_eq!(add(&mut node, "bob@example.org", "sip:b@10.0.0.8", 60), "OK");
    let shown = node.mi("ul_show_contact", json!(["location", "alice@EXAMPLE.org"]));
    let contacts = shown["result"]["Contacts"].as_array().unwrap();
    assert_eq!((&contacts[0]["Expires"], &contacts[0]["Q"]), (&json!(60), &json!("0.5")));
    assert_eq!(
        (&contacts[0]["Cflags"], &contacts[1]["Expires"]),
        (&json!("NAT"), &json!("permanent"))
    );
    let brief = node.mi("usrloc:dump", json!({"brief": 1}));
    let domain = &brief["result"]["Domains"][0];
    assert_eq!((&domain["name"], &domain["hash_size"]), (&json!("location"), &json!(512)));
    let mut aors = domain["AORs"].as_array().unwrap().clone();
    aors.sort_by_key(Json::to_string);
    assert_eq!(aors, [json!({"AOR": "alice@example.org"}), json!({"AOR": "bob@example.org"})]);
    let full = node.mi("ul_dump", Json::Null);
    assert!(full["result"]["Domains"][0]["AORs"][0]["Contacts"].is_array());
    let gone =
        node.mi("usrloc:rm_contact", json!(["location", "alice@example.org", "sip:a@10.0.0.9"]));
    assert_eq!(gone["result"], "OK");
    assert_eq!(node.mi("usrloc:rm", json!(["location", "alice@example.org"]))["result"], "OK");
    let answer = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
    assert_eq!(error(&answer), (404, "AOR not found"));
}

#[test]
fn commands_refuse_with_the_codes_of_the_field() {
    let mut node = node("");
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    for (method, params, expected) in [
        ("usrloc:rm", json!(["nowhere", "a@b"]), (404, "Table not found")),
        ("usrloc:rm", json!(["location", "alice"]), (400, "Domain missing in AOR")),
        ("usrloc:rm_contact", json!(["location", "x@y", "sip:a@b"]), (404, "AOR not found")),
        (
            "usrloc:rm_contact",
            json!(["location", "alice@example.org", "sip:z@b"]),
            (404, "Contact not found"),
        ),
        ("usrloc:show_contact", json!(["location", "alice"]), (400, "Domain missing in AOR")),
        ("usrloc:sync", json!(["location", "x@y"]), (404, "AOR not found")),
        ("usrloc:sync", json!(["location"]), (200, "Contacts already synced")),
        ("usrloc:cluster_sync", Json::Null, (400, "Clustering not enabled")),
        (
            "usrloc:add",
            json!(["location", "a@b", "sip:a@b", 60, "7", 0, "0", 0]),
            (400, "Bad parameter value"),
        ),
    ] {
        assert_eq!(error(&node.mi(method, params.clone())), expected, "{method} {params}");
    }
    assert_eq!(node.mi("usrloc:flush", Json::Null)["result"], "OK");
}

#[test]
fn use_domain_0_keys_by_user() {
    let mut node = node("modparam(\"usrloc\", \"use_domain\", 0)");
    add(&mut node, "alice", "sip:a@10.0.0.9", 60);
    let shown = node.mi("usrloc:show_contact", json!(["location", "alice@anywhere"]));
    assert_eq!(shown["result"]["AOR"], "alice");
}

#[test]
fn hash_size_order_matching_and_key_values_follow_their_parameters() {
    let setup = "modparam(\"usrloc\", \"hash_size\", 4)\n\
                 modparam(\"usrloc\", \"desc_time_order\", 1)\n\
                 modparam(\"usrloc\", \"matching_mode\", 1)\n\
                 modparam(\"usrloc\", \"mi_dump_kv_store\", 1)\n\
                 modparam(\"usrloc\", \"cseq_delay\", 5)";
    let mut node = node(setup);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    let dump = node.mi("usrloc:dump", Json::Null);
    let domain = &dump["result"]["Domains"][0];
    assert_eq!(domain["hash_size"], 16);
    assert_eq!(domain["AORs"][0]["Contacts"][0]["KV-Store"], "");
}

#[test]
fn statistics_are_sizes_and_ended_contacts() {
    let mut node = node("");
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    add(&mut node, "bob@example.org", "sip:b@10.0.0.8", 90);
    node.advance_ms(61_000);
    let stats = node.mi("get_statistics", json!({"statistics": ["usrloc:"]}))["result"].clone();
    assert_eq!(stats["usrloc:registered_users"], json!(1));
    assert_eq!(stats["usrloc:location-users"], json!(1));
    assert_eq!(stats["usrloc:location-contacts"], json!(1));
    assert_eq!(stats["usrloc:location-expires"], json!(1));
}

#[test]
fn events_tell_what_happens_to_contacts() {
    let route = |event: &str, text: &str| {
        format!("event_route[{event}] {{ xlog(\"{event}|{text}\\n\"); }}\n")
    };
    let contact = "$param(domain)|$param(aor)|$param(uri)|$param(cseq)";
    let routes = [
        route("E_UL_AOR_INSERT", "$param(aor)"),
        route("E_UL_AOR_DELETE", "$param(aor)"),
        route("E_UL_CONTACT_INSERT", contact),
        route("E_UL_CONTACT_UPDATE", contact),
        route("E_UL_CONTACT_DELETE", contact),
    ]
    .concat();
    let mut node = TestNode::new(&format!("{}{routes}", script("")), MODULES);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 90);
    node.advance_ms(95_000);
    let logs: Vec<String> =
        node.logs().into_iter().map(|(_, l)| l).filter(|l| l.starts_with("E_UL")).collect();
    let contact = "location|alice@example.org|sip:a@10.0.0.9|1";
    assert_eq!(
        logs,
        [
            "E_UL_AOR_INSERT|alice@example.org".to_owned(),
            format!("E_UL_CONTACT_INSERT|{contact}"),
            format!("E_UL_CONTACT_UPDATE|{contact}"),
            format!("E_UL_CONTACT_DELETE|{contact}"),
            "E_UL_AOR_DELETE|alice@example.org".to_owned(),
        ]
    );
}

#[test]
fn write_through_writes_at_once_and_deletes_at_once() {
    let mut node = node(THROUGH);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    assert_eq!(rows(&mut node), [("alice".into(), "sip:a@10.0.0.9".into())]);
    let shown = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
    assert_eq!(shown["result"]["Contacts"][0]["State"], "CS_SYNC");
    node.mi("usrloc:rm", json!(["location", "alice@example.org"]));
    assert!(rows(&mut node).is_empty());
    add(&mut node, "bob@example.org", "sip:b@10.0.0.9", 60);
    node.advance_ms(61_000);
    assert!(rows(&mut node).is_empty(), "an ended contact leaves SQL too");
}

#[test]
fn write_back_writes_by_timer_and_on_command() {
    let mut node = node(&format!("{BACK}modparam(\"usrloc\", \"timer_interval\", 10)\n"));
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
    assert!(rows(&mut node).is_empty());
    node.advance_ms(10_500);
    assert_eq!(rows(&mut node).len(), 1);
    add(&mut node, "bob@example.org", "sip:b@10.0.0.9", 600);
    node.mi("usrloc:flush", Json::Null);
    assert_eq!(rows(&mut node).len(), 2);
    node.mi("usrloc:rm", json!(["location", "alice@example.org"]));
    assert_eq!(rows(&mut node).len(), 2);
    node.advance_ms(10_500);
    assert_eq!(rows(&mut node).len(), 1);
}

#[test]
fn sync_makes_the_rows_equal_to_memory() {
    let mut node = node(THROUGH);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
    let delete = Query::Delete { table: "location".into(), conds: Vec::new() };
    node.db.execute(&delete).unwrap();
    let answer = node.mi("usrloc:sync", json!(["location", "alice@example.org"]));
    assert_eq!((answer["result"].as_str(), rows(&mut node).len()), (Some("OK"), 1));
    node.db.execute(&delete).unwrap();
    node.mi("usrloc:sync", json!(["location"]));
    assert_eq!(rows(&mut node).len(), 1);
}

#[test]
fn column_names_follow_their_parameters() {
    let params = MODULE.params.iter().map(|p| p.name).filter(|n| n.ends_with("_column"));
    for param in params {
        let column = match param {
            "user_column" => "username",
            other => other.strip_suffix("_column").unwrap(),
        };
        let setup = format!("{THROUGH}modparam(\"usrloc\", \"{param}\", \"no_such_{column}\")\n");
        let refused = TestNode::try_new(&script(&setup), MODULES).err().unwrap();
        assert!(refused.contains("cannot be loaded"), "{param} has no effect: {refused}");
    }
}

#[test]
fn parameters_that_do_not_fit_are_refused_at_load() {
    for (setup, expected) in [
        ("modparam(\"usrloc\", \"working_mode_preset\", \"sql-only\")", "needs a database"),
        ("modparam(\"usrloc\", \"working_mode_preset\", \"x\")", "no working mode"),
        (
            "modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")",
            "location_cluster",
        ),
        (
            "modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")",
            "needs a database",
        ),
        ("modparam(\"usrloc\", \"hash_size\", 17)", "from 0 to 16"),
        ("modparam(\"usrloc\", \"matching_mode\", 2)", "0 (URI) or 1"),
        ("modparam(\"usrloc\", \"pinging_mode\", \"x\")", "ownership"),
        ("modparam(\"usrloc\", \"cachedb_url\", \"x\")", "not in Tandem yet"),
    ] {
        let errors = TestNode::try_new(&script(setup), MODULES).err().expect(setup);
        assert!(errors.contains(expected), "{setup}:\n{errors}");
    }
}

fn request(method: &str) -> String {
    format!(
        "{method} sip:x SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\nFrom: <sip:a@x>;tag=1\n\
         To: <sip:x>\nCall-ID: c\nCSeq: 1 {method}\nContent-Length: 0\n\n"
    )
}

#[test]
fn pings_that_get_no_answer_are_counted_and_an_answer_forgives_them() {
    let mut node = node("");
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
    let mut lost = Vec::new();
    for method in ["OPTIONS", "OPTIONS", "OPTIONS", "MESSAGE", "OPTIONS"] {
        node.udp("10.0.0.9:5060", &request(method));
        lost.extend(node.logs().into_iter().map(|(_, l)| l).filter(|l| l.starts_with("lost")));
        node.advance_ms(4000);
    }
    assert_eq!(lost, ["lost=None", "lost=Some(1)", "lost=Some(2)", "lost=None"]);
}

#[test]
fn a_latency_is_shown_and_reported_within_the_limits_of_the_parameters() {
    let route = "event_route[E_UL_LATENCY_UPDATE] { xlog(\"latency=$param(latency)\\n\"); }\n";
    for (setup, expected) in [
        ("", vec!["latency=100000", "latency=150000"]),
        ("modparam(\"usrloc\", \"latency_event_min_us\", 120000)", vec!["latency=150000"]),
        ("modparam(\"usrloc\", \"latency_event_min_us_delta\", 50000)", vec!["latency=150000"]),
        ("modparam(\"usrloc\", \"latency_event_min_us_delta\", 60000)", vec![]),
        (
            "modparam(\"usrloc\", \"latency_event_min_us\", 1000000)\n\
             modparam(\"usrloc\", \"latency_event_min_us_delta\", 50000)",
            vec!["latency=150000"],
        ),
    ] {
        let mut node = TestNode::new(&format!("{}{route}", script(setup)), MODULES);
        add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
        for wait_ms in [100, 150] {
            node.udp("10.0.0.9:5060", &request("OPTIONS"));
            node.advance_ms(wait_ms);
            node.udp("10.0.0.9:5060", &request("MESSAGE"));
        }
        let logs: Vec<String> =
            node.logs().into_iter().map(|(_, l)| l).filter(|l| l.starts_with("lat")).collect();
        assert_eq!(logs, expected, "{setup}");
        let shown = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
        assert_eq!(shown["result"]["Contacts"][0]["Ping-Latency"], 150_000);
    }
}

#[test]
fn single_parameters_say_what_a_preset_does() {
    let db = "modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n";
    let load = "modparam(\"usrloc\", \"restart_persistency\", \"load-from-sql\")\n";
    let through = "modparam(\"usrloc\", \"sql_write_mode\", \"write-through\")\n";
    let preset = "modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-no-db\")\n";
    for (setup, at_once, after_timer) in [
        (format!("{db}{load}{through}"), 1, 1),
        (format!("{db}{load}"), 0, 1),
        (format!("{db}{load}{through}{preset}"), 0, 0),
        (format!("{db}modparam(\"usrloc\", \"db_mode\", 1)\n"), 1, 1),
        (format!("{db}modparam(\"usrloc\", \"db_mode\", 2)\n"), 0, 1),
        ("modparam(\"usrloc\", \"db_mode\", 0)\n".to_owned(), 0, 0),
    ] {
        let mut node = node(&setup);
        add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
        assert_eq!(rows(&mut node).len(), at_once, "{setup}");
        node.advance_ms(61_000);
        assert_eq!(rows(&mut node).len(), after_timer, "{setup}");
    }
    for (setup, expected) in [
        ("modparam(\"usrloc\", \"db_mode\", 3)", "needs a database"),
        ("modparam(\"usrloc\", \"cluster_mode\", \"federation-cachedb\")", "not in Tandem yet"),
        ("modparam(\"usrloc\", \"cluster_mode\", \"full-sharing\")", "location_cluster"),
        ("modparam(\"usrloc\", \"restart_persistency\", \"sync-from-cluster\")", "no cluster"),
        ("modparam(\"usrloc\", \"sql_write_mode\", \"now\")", "write-through"),
    ] {
        let errors = TestNode::try_new(&script(setup), MODULES).err().expect(setup);
        assert!(errors.contains(expected), "{setup}:\n{errors}");
    }
}

#[test]
fn older_spellings_are_taken_with_a_note() {
    let mut node =
        node("modparam(\"usrloc\", \"shared_pinging\", 1)\nmodparam(\"usrloc\", \"db_mode\", 0)");
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("pinging_mode \\\"cooperation\\\""), "{logs}");
    assert!(logs.contains("working_mode_preset \\\"single-instance-no-db\\\""), "{logs}");
}

#[test]
fn contacts_are_listed_newest_first_if_wanted() {
    for (setup, expected) in [
        ("", ["sip:a@h", "sip:b@h"]),
        ("modparam(\"usrloc\", \"desc_time_order\", 1)", ["sip:b@h", "sip:a@h"]),
    ] {
        let mut node = node(setup);
        for uri in ["sip:a@h", "sip:b@h"] {
            add(&mut node, "alice@example.org", uri, 600);
            node.advance_ms(1500);
        }
        let shown = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
        let shown = shown["result"]["Contacts"].as_array().unwrap().clone();
        let uris: Vec<_> = shown.iter().map(|c| c["Contact"].as_str().unwrap()).collect();
        assert_eq!(uris, expected, "{setup}");
    }
}

#[test]
fn deletes_go_in_groups() {
    let setup = format!("{BACK}modparam(\"usrloc\", \"max_contact_delete\", 3)\n");
    let mut node = node(&setup);
    for n in 0..7 {
        add(&mut node, &format!("u{n}@example.org"), "sip:a@h", 600);
    }
    node.mi("usrloc:flush", Json::Null);
    for n in 0..7 {
        node.mi("usrloc:rm", json!(["location", format!("u{n}@example.org")]));
    }
    node.db_state = DbState::Slow;
    node.mi("usrloc:flush", Json::Null);
    let answered: Vec<usize> = (0..2).map(|_| node.answer_queries()).collect();
    assert_eq!(answered, [3, 0], "seven deletes in groups of three");
    assert!(rows(&mut node).is_empty());
}

#[test]
fn rows_of_another_id_are_taken_if_wanted() {
    let id = |hash: u64| ((hash & 0xffff) << 46 | 5 << 14 | 7) as i64;
    let good = id(u64::from(tandem_sip::sip_hash(b"alice@example.org")));
    for (setup, id, loaded) in
        [("", good, 1), ("", good ^ (1 << 50), 0), ("1", good ^ (1 << 50), 1)]
    {
        let setup = match setup {
            "" => THROUGH.to_owned(),
            n => format!("{THROUGH}modparam(\"usrloc\", \"regen_broken_contactid\", {n})\n"),
        };
        let mut node = TestNode::with_database(&script(&setup), MODULES, |db| {
            db.execute(&row(id, "alice", 1_900_000_000)).unwrap();
        })
        .unwrap();
        let users = node.mi("get_statistics", json!({"statistics": ["registered_users"]}));
        assert_eq!(users["result"]["usrloc:registered_users"], json!(loaded), "{setup} {id}");
        let ids = ids(&mut node);
        assert_eq!(ids, [if loaded == 1 { good } else { id }], "the row has the id of the contact");
    }
}

fn row(id: i64, user: &str, expires_s: i64) -> Query {
    let text = |t: &str| Value::Str(t.to_owned());
    Query::Insert {
        table: "location".into(),
        row: vec![
            ("contact_id".into(), Value::Int(id)),
            ("username".into(), text(user)),
            ("domain".into(), text("example.org")),
            ("contact".into(), text("sip:a@10.0.0.9")),
            ("expires".into(), Value::Int(expires_s)),
            ("q".into(), Value::Float(-1.0)),
            ("callid".into(), text("c")),
            ("cseq".into(), Value::Int(1)),
            ("last_modified".into(), Value::Time(1_799_999_000)),
        ],
    }
}

fn ids(node: &mut TestNode) -> Vec<i64> {
    let columns = vec!["contact_id".into()];
    let select = Select { table: "location".into(), columns, ..Select::default() };
    let rows = node.db.execute(&Query::Select(select)).unwrap().rows;
    rows.iter().filter_map(|row| row[0].as_int()).collect()
}

#[test]
fn attributes_of_an_aor_are_set_read_and_deleted() {
    let route = "route { if (!ul_add_key(\"location\", \"nobody@example.org\", \"k\", \"v\")) \
        xlog(\"no aor\\n\"); \
        ul_add_key(\"location\", \"alice@example.org\", \"k\", \"v1\"); \
        ul_add_key(\"location\", \"alice@example.org\", \"l\", \"v2\"); \
        ul_get_key(\"location\", \"sip:alice@EXAMPLE.org\", \"k\", $var(a)); \
        ul_del_key(\"location\", \"alice@example.org\", \"k\"); \
        if (!ul_get_key(\"location\", \"alice@example.org\", \"k\", $var(b))) \
        xlog(\"a=$var(a) gone\\n\"); }\n\
        event_route[E_UL_CONTACT_UPDATE] { xlog(\"E_UL refreshed\\n\"); }\n";
    let setup = "modparam(\"usrloc\", \"mi_dump_kv_store\", 1)\n";
    let script = script(setup);
    let (head, _) = script.split_once("route {").unwrap();
    let mut node = TestNode::new(&format!("{head}{route}"), MODULES);
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 600);
    node.udp("10.0.0.9:5060", &request("OPTIONS"));
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("no aor") && logs.contains("a=v1 gone"), "{logs}");
    assert!(!logs.contains("E_UL refreshed"), "the phone has told nothing: {logs}");
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 900);
    let shown = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
    let kv = &shown["result"]["Contacts"][0]["KV-Store"];
    assert_eq!(kv, r#"{"_urec_kvs":"{\"l\":\"v2\"}"}"#, "they live through a refresh");
}

#[test]
fn a_statistic_of_ended_contacts_is_reset() {
    let mut node = node("");
    add(&mut node, "alice@example.org", "sip:a@10.0.0.9", 60);
    node.advance_ms(62_000);
    let count = |node: &mut TestNode| {
        let answer = node.mi("statistics:get", json!({"statistics": ["location-expires"]}));
        answer["result"]["usrloc:location-expires"].as_u64()
    };
    assert_eq!(count(&mut node), Some(1));
    node.mi("statistics:reset", json!({"statistics": ["location-expires"]}));
    assert_eq!(count(&mut node), Some(0));
}
