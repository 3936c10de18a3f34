//! Every entry of the export table is used here and makes a difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod common;

use common::*;
use serde_json::{Value as Json, json};
use tandem_db::schema;
use tandem_engine::testing::{TestNode, cover};
use tandem_presence::{MODULE, Presence};

#[test]
fn every_entry_is_used_and_makes_a_difference() {
    cover(
        &MODULE,
        &[
            ("param db_url", db_url),
            ("param presentity_table", table_names),
            ("param active_watchers_table", table_names),
            ("param watchers_table", table_names),
            ("param clean_period", clean_period),
            ("param db_update_period", db_update_period),
            ("param expires_offset", expires_offset),
            ("param max_expires_subscribe", max_expires_subscribe),
            ("param max_expires_publish", max_expires_publish),
            ("param contact_user", contact_user),
            ("param server_address", moot_parameters_say_so),
            ("param subs_htable_size", moot_parameters_say_so),
            ("param pres_htable_size", moot_parameters_say_so),
            ("param fallback2db", fallback2db),
            ("param enable_sphere_check", enable_sphere_check),
            ("param waiting_subs_daysno", waiting_subs_daysno),
            ("param mix_dialog_presence", mix_dialog_presence),
            ("param bla_presentity_spec", bla_presentity_spec),
            ("param bla_fix_remote_target", bla_fix_remote_target),
            ("param notify_offline_body", notify_offline_body),
            ("param end_sub_on_timeout", end_sub_on_timeout),
            ("param cluster_id", cluster_id),
            ("param cluster_federation_mode", cluster_federation_mode),
            ("param cluster_be_active_shtag", cluster_be_active_shtag),
            ("param cluster_pres_events", cluster_pres_events),
            ("function handle_publish", handle_publish),
            ("function handle_subscribe", handle_subscribe),
            ("mi presence:refresh_watchers", refresh_watchers),
            ("mi presence:cleanup", cleanup),
            ("mi presence:expose", expose),
            ("mi presence:phtable_list", phtable_list),
            ("mi presence:subs_phtable_list", subs_phtable_list),
            ("event E_PRESENCE_PUBLISH", published_event),
            ("event E_PRESENCE_EXPOSED", expose),
        ],
    );
}

fn open(node: &mut TestNode) -> String {
    etag(&published(node, &publish("bob", "presence", 1, "Expires: 60\n", "open")))
}

fn db_url() {
    let mut node = node(DB);
    open(&mut node);
    let stored = rows(&mut node, "presentity", &["username", "domain", "event"]);
    let row: Vec<_> = stored[0].iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(row, ["bob", "a.test", "presence"]);
}

fn table_names() {
    let params = DB.to_owned()
        + &set("db_update_period", "0")
        + &set("presentity_table", "\"p_x\"")
        + &set("active_watchers_table", "\"a_x\"")
        + &set("watchers_table", "\"w_x\"");
    let names = [("p_x", "presentity"), ("a_x", "active_watchers"), ("w_x", "watchers")];
    let mut node = TestNode::with_database(&script_of(&params, ROUTE), MODULES, |db| {
        for (name, like) in names {
            db.create(&schema::Table { name: name.into(), ..schema::table(like).unwrap().clone() });
        }
    })
    .unwrap();
    open(&mut node);
    Watcher::watch(&mut node, "w", "bob", "presence");
    for (name, like) in names {
        let column = if name == "p_x" { "etag" } else { "presentity_uri" };
        assert_eq!(rows(&mut node, name, &[column]).len(), 1, "{name}");
        assert!(rows(&mut node, like, &[column]).is_empty(), "{like}");
    }
}

fn clean_period() {
    let ended = |params: &str| {
        let mut node = node(params);
        let mut watcher = Watcher::new("w", "bob", "presence");
        watcher.go(&mut node, "Expires: 3\n");
        node.advance_ms(9_000);
        told(&mut node).len()
    };
    assert_eq!(ended(""), 1);
    assert_eq!(ended(&set("clean_period", "0")), 0);
}

fn db_update_period() {
    let mut node = node(&(DB.to_owned() + &set("db_update_period", "30")));
    Watcher::watch(&mut node, "w", "bob", "presence");
    assert!(rows(&mut node, "active_watchers", &["callid"]).is_empty());
    node.advance_ms(31_000);
    assert_eq!(rows(&mut node, "active_watchers", &["callid"]).len(), 1);
}

fn expires_offset() {
    let end = |params: &str| {
        let mut node = node(&(DB.to_owned() + params));
        open(&mut node);
        rows(&mut node, "presentity", &["expires"])[0][0].as_int().unwrap()
    };
    assert_eq!(end(&set("expires_offset", "17")), end("") + 17);
}

fn max_expires_subscribe() {
    let mut node = node(&set("max_expires_subscribe", "120"));
    let mut watcher = Watcher::new("w", "bob", "presence");
    let (reply, notifies) = watcher.go(&mut node, "Expires: 600\n");
    assert_eq!(header(&reply, "Expires"), "120");
    assert_eq!(header(&notifies[0], "Subscription-State"), "active;expires=120");
}

fn max_expires_publish() {
    let mut node = node(&set("max_expires_publish", "30"));
    let reply = published(&mut node, &publish("bob", "presence", 1, "Expires: 60\n", "open"));
    assert_eq!(header(&reply, "Expires"), "30");
}

fn contact_user() {
    let mut node = node(&set("contact_user", "\"pa\""));
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(header(&first, "Contact"), "<sip:pa@127.0.0.1:5060>");
}

fn moot_parameters_say_so() {
    node(&(set("subs_htable_size", "4") + &set("pres_htable_size", "4")));
    node(&set("server_address", "\"sip:pa@127.0.0.1:5060\""));
    for name in ["server_address", "subs_htable_size", "pres_htable_size"] {
        let param = MODULE.params.iter().find(|p| p.name == name).unwrap();
        assert!(param.moot.is_some(), "{name}");
    }
}

fn fallback2db() {
    let seen = |on: &str| {
        let params = DB.to_owned() + &set("fallback2db", on);
        let mut a = node(&params);
        let mut b = node(&params);
        open(&mut a);
        std::mem::swap(&mut a.db, &mut b.db);
        let (_, first) = Watcher::watch(&mut b, "w", "bob", "presence");
        body(&first).to_owned()
    };
    assert_eq!((seen("0").as_str(), seen("1").as_str()), ("", "open"));
}

fn enable_sphere_check() {
    let state = |on: &str| {
        let mut node = node(&set("enable_sphere_check", on));
        Watcher::watch(&mut node, "w", "bob", "presence");
        published(&mut node, &publish("bob", "presence", 1, "", "at private"));
        let last = told(&mut node).pop().unwrap();
        header(&last, "Subscription-State").to_owned()
    };
    assert!(state("0").starts_with("active"));
    assert_eq!(state("1"), "terminated;reason=rejected");
}

fn waiting_subs_daysno() {
    let left = |days: &str| {
        let params = DB.to_owned() + &set("waiting_subs_daysno", days);
        let mut node = node(&params);
        Watcher::new("pending", "bob", "presence").go(&mut node, "Expires: 600\n");
        let mut node = node.after_restart(26 * 3_600_000);
        node.mi("presence:cleanup", Json::Null);
        rows(&mut node, "watchers", &["status"]).len()
    };
    assert_eq!((left("1"), left("2")), (0, 1));
    let refused = TestNode::try_new(&script_of(&set("waiting_subs_daysno", "31"), ROUTE), MODULES);
    assert!(refused.is_err());
}

fn mix_dialog_presence() {
    let mut node = node(&set("mix_dialog_presence", "1"));
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(body(&first), "free");
    published(&mut node, &publish("bob", "dialog", 1, "", "talks"));
    let notifies = told(&mut node);
    assert_eq!(body(&notifies[0]), "busy");
}

fn bla_presentity_spec() {
    let line = |params: &str| {
        let route = "$avp(line) = \"sip:line@b.test\"; handle_subscribe();";
        let mut node = node_with(params, route);
        Watcher::watch(&mut node, "w", "bob", "dialog;sla");
        list(&mut node, "presence:subs_phtable_list")[0]["pres_uri"].clone()
    };
    assert_eq!(line(""), "sip:w@a.test");
    assert_eq!(line(&set("bla_presentity_spec", "\"$avp(line)\"")), "sip:line@b.test");
}

fn bla_fix_remote_target() {
    let told_target = |params: &str| {
        let mut node = node(params);
        let state = "<remote><target uri=\"sip:w@10.0.0.1\"/></remote>";
        published(&mut node, &publish("w", "dialog;sla", 1, "", state));
        let (_, first) = Watcher::watch(&mut node, "w", "bob", "dialog;sla");
        body(&first).to_owned()
    };
    assert!(told_target("").contains("sip:w@a.test"));
    assert!(told_target(&set("bla_fix_remote_target", "0")).contains("sip:w@10.0.0.1"));
}

fn notify_offline_body() {
    let mut node = node(&set("notify_offline_body", "1"));
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(body(&first), "offline");
}

fn end_sub_on_timeout() {
    let left = |params: &str| {
        let mut node = node(params);
        let mut watcher = Watcher::new("w", "bob", "presence");
        node.udp(WATCHER, &watcher.subscribe("Expires: 600\n"));
        node.advance_ms(40_000);
        list(&mut node, "presence:subs_phtable_list").len()
    };
    assert_eq!((left(""), left(&set("end_sub_on_timeout", "0"))), (0, 1));
}

/// A node with a cluster of which nobody else is there.
fn clustered(params: &str, route: &str) -> TestNode {
    let cluster = "socket=bin:127.0.0.1:5566\nloadmodule \"proto_bin.so\"\n\
        loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
        modparam(\"clusterer\", \"db_mode\", 0)\n\
        modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:127.0.0.1:5566, \
        flags=seed\")\nmodparam(\"clusterer\", \"sharing_tag\", \"vip/1=active\")\n\
        modparam(\"clusterer\", \"sharing_tag\", \"other/1=backup\")\n";
    let mut node = node_with(&(cluster.to_owned() + &set("cluster_id", "1") + params), route);
    node.advance_ms(15_000);
    node
}

fn cluster_id() {
    let slot_of = |node: &TestNode| node.node().find::<Presence>().unwrap().1.is_replicated();
    assert!(slot_of(&clustered("", ROUTE)));
    assert!(!slot_of(&node("")));
    let alone = set("cluster_federation_mode", "\"full-sharing\"");
    assert!(TestNode::try_new(&script_of(&alone, ROUTE), MODULES).is_err());
}

fn cluster_federation_mode() {
    let name = |params: &str| {
        let node = clustered(params, ROUTE);
        let (_, presence) = node.node().find::<Presence>().unwrap();
        let records = tandem_engine::module::Module::replicated(&*presence);
        records.map(|r| r.capability()).unwrap()
    };
    assert_eq!(name(""), "tandem-presence");
    assert_eq!(name(&set("cluster_federation_mode", "\"full-sharing\"")), "presence");
    let bad = set("cluster_id", "1") + &set("cluster_federation_mode", "\"some\"");
    assert!(TestNode::try_new(&script_of(&bad, ROUTE), MODULES).is_err());
}

fn cluster_be_active_shtag() {
    let notified = |tag: &str| {
        let mut node = clustered(&set("cluster_be_active_shtag", tag), ROUTE);
        let (reply, notifies) =
            Watcher::new("w", "bob", "presence").go(&mut node, "Expires: 600\n");
        assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
        notifies.len()
    };
    assert_eq!((notified("\"vip\""), notified("\"other\"")), (1, 0));
}

fn cluster_pres_events() {
    let params = set("cluster_federation_mode", "\"full-sharing\"");
    let told = |more: &str| {
        let mut node = clustered(&(params.clone() + more), ROUTE);
        open(&mut node);
        let (_, presence) = node.node().find::<Presence>().unwrap();
        presence.params().shares(b"presence")
    };
    assert!(told(""));
    assert!(!told(&set("cluster_pres_events", "\"dialog\"")));
}

fn handle_publish() {
    let mut node = node_with(
        "",
        "if ($rm == \"SUBSCRIBE\") { handle_subscribe(); exit; }\n\
         if (handle_publish(\"sip:w@a.test\")) xlog(\"L_ERR\", \"taken\");\n\
         else xlog(\"L_ERR\", \"not taken\");",
    );
    let (_, _) = Watcher::watch(&mut node, "w", "bob", "presence");
    let (_, _) = Watcher::watch(&mut node, "v", "bob", "presence");
    open(&mut node);
    // The sender himself is not told.
    let notifies = told(&mut node);
    assert_eq!(notifies.len(), 1, "{notifies:?}");
    assert!(notifies[0].contains("NOTIFY sip:v@"));
    published(&mut node, &publish("bob", "weather", 2, "", "x"));
    let said: Vec<_> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["taken", "not taken"]);
}

fn handle_subscribe() {
    let mut node = clustered("", "handle_subscribe(1, \"other\");");
    let mut watcher = Watcher::new("pending", "bob", "presence");
    let (reply, notifies) = watcher.go(&mut node, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert!(notifies.is_empty(), "the tag is not held here: {notifies:?}");
    let entry = &list(&mut node, "presence:subs_phtable_list")[0];
    assert_eq!(entry["sharing_tag"], "other");
    let mut node = clustered("", "handle_subscribe( , \"vip\");");
    let (reply, notifies) = Watcher::new("w", "bob", "presence").go(&mut node, "Expires: 600\n");
    assert!(reply.starts_with("SIP/2.0 200") && notifies.len() == 1);
}

fn refresh_watchers() {
    let mut node = node("");
    Watcher::watch(&mut node, "w", "bob", "presence");
    let mut ask = |params: Json| {
        let answer = node.mi("presence:refresh_watchers", params);
        (answer["result"].clone(), answer["error"]["message"].clone(), told(&mut node).len())
    };
    assert_eq!(ask(json!(["sip:bob@a.test", "presence", "1"])), ("OK".into(), Json::Null, 1));
    assert_eq!(ask(json!(["sip:bob@a.test", "presence", "0"])), ("OK".into(), Json::Null, 0));
    assert_eq!(ask(json!(["", "presence", "0"])).1, "Empty presentity URI");
    assert_eq!(ask(json!(["sip:bob@a.test", "", "0"])).1, "Empty event parameter");
}

fn cleanup() {
    let mut node = node(&(DB.to_owned() + &set("clean_period", "0")));
    open(&mut node);
    node.advance_ms(70_000);
    assert_eq!(rows(&mut node, "presentity", &["etag"]).len(), 1);
    assert_eq!(node.mi("presence:cleanup", Json::Null)["result"], "OK");
    assert!(rows(&mut node, "presentity", &["etag"]).is_empty());
}

fn expose() {
    let event = "event_route[E_PRESENCE_EXPOSED] {\n\
         xlog(\"L_ERR\", \"$param(user) $param(event) $param(body)\"); }\n";
    let script = script_of("", ROUTE) + event;
    let mut node = TestNode::new(&script, MODULES);
    open(&mut node);
    let mut ask = |params: Json| {
        let answer = node.mi("presence:expose", params);
        let said: Vec<_> = node.logs().into_iter().map(|(_, text)| text).collect();
        (answer["result"].clone(), answer["error"]["message"].clone(), said)
    };
    let shown = vec!["bob presence open".to_owned()];
    assert_eq!(ask(json!(["presence"])), ("OK".into(), Json::Null, shown.clone()));
    assert_eq!(ask(json!(["presence", "^sip:bo"])).2, shown);
    assert!(ask(json!(["presence", "^sip:eve"])).2.is_empty());
    assert_eq!(ask(json!(["weather"])).1, "unknown event");
    assert_eq!(ask(json!([""])).1, "Invalid event");
}

fn phtable_list() {
    let mut node = node("");
    let tag = open(&mut node);
    let wanted = json!([{"pres_uri": "sip:bob@a.test", "event": 1, "etag_count": 1, "etag": tag}]);
    assert_eq!(node.mi("presence:phtable_list", Json::Null)["result"], wanted);
}

fn subs_phtable_list() {
    let mut node = node("");
    let (watcher, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    let end = node.now().unix_ms / 1000 + 600;
    let wanted = json!([{
        "pres_uri": "sip:bob@a.test", "event": "presence", "expires": end, "db_flag": 0,
        "version": 1, "to_user": "bob", "to_domain": "a.test", "to_tag": watcher.to_tag,
        "from_user": "w", "from_domain": "a.test", "from_tag": "w",
        "contact": "sip:w@127.0.0.9:5060", "callid": watcher.call_id, "local_cseq": 1,
        "remote_cseq": 1,
    }]);
    assert!(first.starts_with("NOTIFY"));
    assert_eq!(node.mi("presence:subs_phtable_list", Json::Null)["result"], wanted);
    let mut count = |from: &str, to: &str| {
        let params = json!({"from": from, "to": to});
        node.mi("presence:subs_phtable_list", params)["result"].as_array().unwrap().len()
    };
    assert_eq!((count("sip:w@*", "*"), count("x@*", "*"), count("*", "sip:b*")), (1, 0, 1));
}

fn published_event() {
    let event = "event_route[E_PRESENCE_PUBLISH] {\n\
         xlog(\"L_ERR\", \"$param(user) $param(expires) $param(old_etag) $param(body)\"); }\n";
    let script = script_of("", ROUTE) + event;
    let mut node = TestNode::new(&script, MODULES);
    let tag = open(&mut node);
    let remove = format!("SIP-If-Match: {tag}\nExpires: 0\n");
    published(&mut node, &publish("bob", "presence", 2, &remove, ""));
    let said: Vec<_> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["bob 60  open".to_owned(), format!("bob 0 {tag} ")]);
}
