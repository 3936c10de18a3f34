//! The records of whole calls.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::{CALLEE, CALLER, field, lines, modparam, row, rows, sent_to, with_dialogs};
use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Value};
use tandem_engine::testing::{DbState, TestNode};

const INITIAL: &str = "create_dialog(); $acc_extra(who) = $fU; do_accounting(\"log|db\", \"cdr\");";
const COLUMNS: [&str; 11] = [
    "method",
    "from_tag",
    "to_tag",
    "callid",
    "sip_code",
    "sip_reason",
    "time",
    "duration",
    "ms_duration",
    "setuptime",
    "created",
];

fn node(initial: &str, within: &str) -> TestNode {
    with_dialogs(&modparam("extra_fields", "log: who"), initial, within)
}

#[test]
fn a_call_has_one_record_at_its_end() {
    let mut node = node(INITIAL, "");
    let invite = common::dial(&mut node);
    node.advance_ms(1_500);
    let ok = common::answer(&mut node, &invite);
    assert!(lines(&mut node).is_empty(), "nothing is written when a call is answered");
    node.udp(CALLER, &common::within(&ok, "ACK", 1));
    node.advance_ms(10_321);
    common::hang_up(&mut node, &ok);
    node.advance_ms(40);
    let said = lines(&mut node);
    assert_eq!(
        said,
        ["ACC: call ended: created=1800000000;call_start_time=1800000001;duration=11;\
          ms_duration=10321;setuptime=1;method=INVITE;from_tag=f;to_tag=t;call_id=c;code=200;\
          reason=Text200;who=alice"]
    );
    let values = row(&mut node, "acc", &COLUMNS);
    let expected =
        ["INVITE", "f", "t", "c", "200", "Text200", "1800000001", "11", "10321", "1", "1800000000"];
    assert_eq!(values, expected);
    assert_eq!(rows(&mut node, "tandem_cdr").rows.len(), 2, "the database and the call");
}

#[test]
fn a_bye_right_behind_the_200_and_one_from_each_side_make_one_record() {
    let mut node = node(INITIAL, "");
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    // No ACK yet, and both hang up.
    node.udp(CALLER, &common::within(&ok, "BYE", 2));
    node.udp(CALLEE, &common::from_callee(&invite, "BYE", 1));
    node.udp(CALLER, &common::within(&ok, "BYE", 2));
    node.advance_ms(40);
    assert_eq!(lines(&mut node).len(), 1);
    assert_eq!(rows(&mut node, "acc").rows.len(), 1);
}

#[test]
fn the_time_limit_ends_a_call_with_a_record() {
    let params =
        modparam("extra_fields", "log: who") + "modparam(\"dialog\", \"default_timeout\", 5)\n";
    let mut node = with_dialogs(&params, INITIAL, "");
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "ACK", 1));
    node.advance_ms(7_100);
    let said = lines(&mut node);
    assert_eq!(said.len(), 1, "{said:?}");
    let duration: u32 = field(&said[0], "duration").unwrap().parse().unwrap();
    assert!((5..=7).contains(&duration), "{duration}");
}

#[test]
fn a_call_that_nobody_answers_has_no_record_of_a_call() {
    let mut node = node(&INITIAL.replace("\"cdr\"", "\"cdr|missed\""), "");
    let invite = common::dial(&mut node);
    node.udp(CALLEE, &common::reply_to(&invite, 486, ""));
    node.advance_ms(40);
    assert_eq!(lines(&mut node).len(), 1);
    assert_eq!(rows(&mut node, "acc").rows.len(), 0);
    assert_eq!(rows(&mut node, "missed_calls").rows.len(), 1);
}

/// What the script has done with a call counts while it waits, too: the caller gives up.
#[test]
fn a_call_that_is_cancelled_while_its_script_waits_is_missed_and_its_dialog_ends() {
    for wait in ["async(wait(1000), back);", "wait(1000);"] {
        let initial = format!(
            "create_dialog(); set_dlg_profile(\"calls\"); do_accounting(\"log\", \"cdr|missed\"); \
             t_on_failure(\"f\"); $avp(a) = \"kept\"; dlg_on_hangup(\"over\"); {wait}"
        );
        let routes = "route[back] { t_relay(); } \
             route[over] { get_profile_size(\"calls\", , $var(n)); \
                 xlog(\"L_NOTICE\", \"over $DLG_end_reason $var(n)\"); } \
             failure_route[f] { xlog(\"L_NOTICE\", \"failed $avp(a)\"); }";
        let params = "loadmodule \"waiting.so\"\n\
             modparam(\"dialog\", \"profiles_no_value\", \"calls\")\n";
        let mut node = common::with_dialogs_and(params, &initial, "", routes);
        node.udp(CALLER, &common::request("INVITE", "a", ""));
        node.udp(CALLER, &common::request("CANCEL", "a", ""));
        node.advance_ms(40);
        let said: Vec<_> = node.logs().into_iter().map(|(_, text)| text).collect();
        assert!(said.iter().any(|line| line.starts_with("ACC: call missed")), "{said:?}");
        assert!(said.iter().any(|line| line == "failed kept"), "{said:?}");
        assert!(said.iter().any(|line| line == "over Cancelled 0"), "{said:?}");
        // The script goes on with a call that is over.
        node.advance_ms(2_000);
        assert_eq!(sent_to(&mut node, CALLEE), [] as [String; 0]);
    }
}

#[test]
fn a_bye_that_is_marked_itself_is_a_record_of_its_own() {
    let mut node = node(INITIAL, "do_accounting(\"log\");");
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    common::hang_up(&mut node, &ok);
    let said = lines(&mut node);
    let methods: Vec<_> = said.iter().map(|l| field(l, "method").unwrap()).collect();
    assert_eq!(methods, ["INVITE", "BYE"], "{said:?}");
}

#[test]
fn fields_of_the_dialog_are_shown_and_kept() {
    let within = "if (is_method(\"INFO\")) { acc_load_ctx_from_dlg(); \
         xlog(\"L_NOTICE\", \"in $acc_extra(who)\"); $acc_extra(who) = \"carol\"; \
         acc_unload_ctx_from_dlg(); xlog(\"L_NOTICE\", \"out $acc_extra(who)\"); }";
    let mut node = node(INITIAL, within);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "INFO", 2));
    sent_to(&mut node, CALLEE);
    common::hang_up_as(&mut node, &ok, 3);
    let said: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(said[..2], ["in alice", "out alice"], "{said:?}");
    assert_eq!(field(&said[2], "who"), Some("carol"));
}

#[test]
fn a_branch_route_may_mark_the_transaction() {
    let routes = "route { t_on_branch(\"b\"); t_relay(); }\n\
         branch_route[b] { do_accounting(\"log\"); }";
    let mut node = common::node("", routes);
    common::call(&mut node, "MESSAGE", 200);
    assert_eq!(lines(&mut node).len(), 1);
}

#[test]
fn requests_of_the_callee_are_known_by_the_dialog() {
    let params = modparam("detect_direction", "1") + "modparam(\"rr\", \"append_fromtag\", 0)\n";
    let mut node = with_dialogs(&params, "create_dialog();", "do_accounting(\"log\");");
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "ACK", 1));
    node.udp(CALLEE, &common::from_callee(&invite, "BYE", 1));
    let bye = sent_to(&mut node, CALLER).into_iter().find(|m| m.starts_with("BYE")).unwrap();
    node.udp(CALLER, &common::reply_to(&bye, 200, ""));
    let said = lines(&mut node);
    assert_eq!((field(&said[0], "from_tag"), field(&said[0], "to_tag")), (Some("f"), Some("t")));
}

#[test]
fn what_a_database_does_not_take_waits_on_disk() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    node.db_state = DbState::Down;
    for n in 0..3 {
        one_call(&mut node, n);
    }
    node.advance_ms(3_000);
    let told = node.logs().into_iter().filter(|(_, t)| t.contains("cannot be written")).count();
    assert_eq!(told, 1, "it is said once");
    let kept: usize = node.spool.files.values().map(|f| f.split(|b| *b == b'\n').count() - 1).sum();
    assert_eq!(kept, 3);
    let listed = node.mi("tandem:cdr_spool", serde_json::Value::Null);
    assert_eq!(listed["result"]["Records"].as_array().unwrap().len(), 3, "{listed}");
    node.db_state = DbState::Up;
    node.advance_ms(1_100);
    assert_eq!(rows(&mut node, "acc").rows.len(), 3);
    assert_eq!(rows(&mut node, "tandem_cdr").rows.len(), 4);
    assert!(node.logs().iter().any(|(_, t)| t.contains("takes records again")));
}

#[test]
fn a_node_that_dies_writes_its_records_when_it_is_back() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    node.db_state = DbState::Slow;
    one_call(&mut node, 1);
    one_call(&mut node, 2);
    node.advance_ms(40);
    // The database had them, and the node never heard of it.
    let (spool, written) = (node.spool.clone(), node.db.clone());
    for had_them in [false, true] {
        let mut db = written.clone();
        if had_them {
            node.db = written.clone();
            node.answer_queries();
            db = node.db.clone();
            assert_eq!(rows(&mut node, "acc").rows.len(), 2);
        }
        let mut again = common::restarted(spool.clone(), db);
        again.advance_ms(100);
        assert_eq!(rows(&mut again, "acc").rows.len(), 2, "had them: {had_them}");
        assert_eq!(records(&again), 0, "{:?}", again.spool.files.keys());
    }
}

/// Files of records in the spool; another one tells which database it is.
fn records(node: &TestNode) -> usize {
    node.spool.files.keys().filter(|name| name.starts_with("cdr-")).count()
}

#[test]
fn an_orderly_end_leaves_nothing_in_the_air() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    one_call(&mut node, 1);
    node.advance_ms(2);
    assert_eq!(rows(&mut node, "acc").rows.len(), 0, "it waits for others");
    assert_eq!(records(&node), 1, "and is on disk meanwhile");
    node.step(tandem_engine::effect::Input::Shutdown);
    assert_eq!(rows(&mut node, "acc").rows.len(), 1);
}

#[test]
fn an_orderly_end_leaves_no_file_of_what_is_written() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    one_call(&mut node, 1);
    node.advance_ms(40);
    assert_eq!((rows(&mut node, "acc").rows.len(), records(&node)), (1, 1));
    node.step(tandem_engine::effect::Input::Shutdown);
    assert_eq!(records(&node), 0);
}

#[test]
fn another_database_does_not_get_what_was_meant_for_the_first() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    one_call(&mut node, 1);
    node.advance_ms(40);
    let mut other = MemoryDb::with_tables(tandem_db::schema::tables().iter());
    let number = Value::Int((1 << 40) + 7);
    let row = vec![("cdr_id".into(), "database".into()), ("written_at".into(), number)];
    other.execute(&Query::Insert { table: "tandem_cdr".into(), row }).unwrap();
    let mut again = common::restarted(node.spool.clone(), other);
    again.advance_ms(100);
    assert_eq!(rows(&mut again, "acc").rows.len(), 0);
    let warned = again.logs().into_iter().any(|(_, t)| t.contains("meant for another database"));
    assert!(warned && records(&again) == 1, "{:?}", again.spool.files.keys());
    // It stays so in the next life.
    let mut third = common::restarted(again.spool.clone(), again.db.clone());
    third.advance_ms(100);
    assert_eq!(rows(&mut third, "acc").rows.len(), 0);
    let shown = third.mi("tandem:cdr_spool", serde_json::Value::Null)["result"].clone();
    assert_eq!(shown["files_of_other_databases"], 1, "{shown}");
}

#[test]
fn without_the_table_of_identities_records_are_written_and_it_is_said() {
    let tables = tandem_db::schema::tables().iter().filter(|t| t.name != "tandem_cdr");
    let db = MemoryDb::with_tables(tables);
    let mut node = common::started_with(&modparam("extra_fields", "log: who"), INITIAL, db);
    assert!(node.logs().iter().any(|(_, t)| t.contains("a record may be written twice")));
    one_call(&mut node, 1);
    node.advance_ms(40);
    assert_eq!(rows(&mut node, "acc").rows.len(), 1);
    assert!(node.spool.files.is_empty(), "nothing is left to be written twice");
}

#[test]
fn more_records_than_memory_takes_are_on_disk_alone() {
    let mut node = node("t_newtran(); do_accounting(\"db\"); send_reply(200, \"OK\"); exit;", "");
    node.advance_ms(10);
    node.db_state = DbState::Down;
    let calls = 2_300;
    for n in 0..calls {
        let text = common::request("MESSAGE", &format!("m{n}"), "");
        node.udp(CALLER, &text.replace("Call-ID: c\n", &format!("Call-ID: m{n}\n")));
    }
    node.advance_ms(1_000);
    let shown = node.mi("tandem:cdr_spool", serde_json::Value::Null)["result"].clone();
    assert_eq!(shown["on_disk_alone"], true, "{shown}");
    assert_eq!(shown["waiting"], 2_000);
    node.db_state = DbState::Up;
    node.advance_ms(2_000);
    assert_eq!(rows(&mut node, "acc").rows.len(), calls);
    let left = node.mi("tandem:cdr_spool", serde_json::Value::Null)["result"].clone();
    assert_eq!((&left["waiting"], &left["on_disk_alone"]), (&0.into(), &false.into()), "{left}");
}

#[test]
fn a_call_of_an_earlier_life_has_its_record() {
    let params = modparam("extra_fields", "log: who")
        + "modparam(\"dialog\", \"db_url\", \"sqlite:///x\")\n\
           modparam(\"dialog\", \"db_mode\", 1)\n";
    let mut node = with_dialogs(&params, INITIAL, "");
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "ACK", 1));
    node.advance_ms(100);
    let mut again = common::started_with(&params, INITIAL, node.db.clone());
    again.advance_ms(2_500);
    common::hang_up(&mut again, &ok);
    again.advance_ms(40);
    let said = lines(&mut again);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        (field(&said[0], "who"), field(&said[0], "ms_duration")),
        (Some("alice"), Some("2500"))
    );
    assert_eq!(row(&mut again, "acc", &["duration", "callid"]), ["3", "c"]);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let mut node = node(INITIAL, "");
    node.advance_ms(10);
    node.db_state = DbState::Down;
    node.spool.is_full = true;
    one_call(&mut node, 1);
    one_call(&mut node, 2);
    node.advance_ms(2_000);
    let told = node.logs().into_iter().filter(|(_, t)| t.contains("no space left")).count();
    assert_eq!(told, 1);
    node.db_state = DbState::Up;
    node.advance_ms(1_100);
    assert_eq!(rows(&mut node, "acc").rows.len(), 2);
}

#[test]
fn a_record_that_is_refused_does_not_keep_others_waiting() {
    let routes = "create_dialog(); do_accounting(\"db\", \"cdr\", \"no_table\");";
    let mut node = with_dialogs(
        "",
        &format!(
            "if ($ci == \"c1\") {{ {routes} }} else {{ {} }}",
            routes.replace(", \"no_table\"", "")
        ),
        "",
    );
    for n in 0..3 {
        one_call(&mut node, n);
    }
    node.advance_ms(100);
    assert_eq!(rows(&mut node, "acc").rows.len(), 2);
    let aside = node.spool.files.iter().find(|(name, _)| name.starts_with("refused-"));
    let text = String::from_utf8(aside.unwrap().1.clone()).unwrap();
    assert!(text.contains("\"c1\"") && text.lines().count() == 1, "{text}");
}

#[test]
fn texts_that_are_too_long_are_cut_where_the_database_insists() {
    // A database in memory cuts nothing and refuses nothing: the identity is what is looked at.
    let mut node = node(INITIAL, "");
    one_call(&mut node, 1);
    node.advance_ms(40);
    let ids = rows(&mut node, "tandem_cdr");
    let id = ids.rows.iter().find_map(|r| match r.first() {
        Some(Value::Str(text)) if text != "database" => Some(text.clone()),
        _ => None,
    });
    assert_eq!(id.unwrap().len(), 32);
}

fn one_call(node: &mut TestNode, n: usize) {
    let invite = common::dial_as(node, &format!("c{n}"));
    let ok = common::answer(node, &invite);
    common::hang_up(node, &ok);
    sent_to(node, CALLER);
}

#[test]
fn fields_of_a_call_are_those_of_its_later_requests() {
    let within = "if (is_method(\"INFO\")) $acc_extra(who) = \"carol\"; \
         if (is_method(\"BYE\")) { xlog(\"L_NOTICE\", \"has $acc_extra(who)\"); \
         do_accounting(\"log\"); }";
    let mut node = node(INITIAL, within);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "INFO", 2));
    sent_to(&mut node, CALLEE);
    common::hang_up_as(&mut node, &ok, 3);
    let said: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert!(said.contains(&"has carol".to_owned()), "{said:?}");
    let records: Vec<_> = said
        .iter()
        .filter(|line| line.starts_with("ACC:"))
        .map(|line| (field(line, "method").unwrap(), field(line, "who").unwrap()))
        .collect();
    assert_eq!(records, [("INVITE", "carol"), ("BYE", "carol")], "{said:?}");
}

#[test]
fn a_field_that_is_set_first_does_not_hide_the_direction() {
    let params = modparam("detect_direction", "1") + &modparam("extra_fields", "log: who");
    let within = "$acc_extra(who) = \"x\"; do_accounting(\"log\");";
    let mut node = with_dialogs(&params, "create_dialog();", within);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "ACK", 1));
    node.udp(CALLEE, &common::from_callee(&invite, "BYE", 1));
    let bye = sent_to(&mut node, CALLER).into_iter().find(|m| m.starts_with("BYE")).unwrap();
    node.udp(CALLER, &common::reply_to(&bye, 200, ""));
    let said = lines(&mut node);
    assert_eq!(field(&said[0], "from_tag"), Some("f"), "{said:?}");
}

#[test]
fn a_call_that_comes_by_twice_has_a_record_for_each_time() {
    // The first time it goes to the node itself, under another name.
    let initial = "create_dialog(); $acc_extra(who) = $rU; do_accounting(\"log|db\", \"cdr\"); \
         if ($rU == \"desk\") { $rU = \"bob\"; $du = \"sip:127.0.0.1\"; }";
    let mut node = node(initial, "");
    let first = common::request("INVITE", "a", "").replace("sip:bob@", "sip:desk@");
    node.udp(CALLER, &first);
    let own = "127.0.0.1:5060";
    let again = sent_to(&mut node, own).pop().unwrap();
    node.udp(own, &again);
    let invite = sent_to(&mut node, CALLEE).pop().unwrap();
    node.udp(CALLEE, &common::reply_to(&invite, 200, ""));
    let inner = sent_to(&mut node, own).pop().unwrap();
    node.udp(own, &inner);
    let ok = sent_to(&mut node, CALLER).pop().unwrap();
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    let ended = node.mi("dialog:end_dlg", serde_json::json!(["c"]));
    assert_eq!(ended["result"], "OK", "{ended}");
    node.mi("dialog:end_dlg", serde_json::json!(["c"]));
    let said = lines(&mut node);
    let mut who: Vec<_> = said.iter().map(|line| field(line, "who").unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, ["bob", "desk"], "{said:?}");
    node.advance_ms(40);
    assert_eq!(rows(&mut node, "acc").rows.len(), 2);
}

/// A call that is sent on by a request within it has a leg more.
#[test]
fn legs_of_requests_within_a_call_are_in_its_record() {
    let initial = "create_dialog(); $acc_leg(to) = \"a\"; do_accounting(\"log\", \"cdr\");";
    let within = "if ($rm == \"INFO\") { $acc_leg(to) = $acc_leg(to) + \"1\"; acc_new_leg(); \
         $acc_leg(to) = \"b\"; $(acc_leg(to)[0]) = $(acc_leg(to)[0]) + \"2\"; }";
    let mut node = with_dialogs(&modparam("leg_fields", "log: to"), initial, within);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &common::within(&ok, "INFO", 8));
    node.advance_ms(1_001);
    common::hang_up_as(&mut node, &ok, 9);
    let line = lines(&mut node).pop().unwrap();
    assert!(line.contains("ACC: call ended: ") && line.ends_with(";to=a12;to=b"), "{line}");
}
