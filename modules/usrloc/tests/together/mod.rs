//! Checks of entries that need a second node or the registrar.

use serde_json::{Value as Json, json};
use tandem_db::{Query, Select};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::{Nodes, TestNode};

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_signaling::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
    ];
    ALL
};

/// Node 1 keeps contacts in memory, node 2 also in rows.
fn script(id: u32, more: &str) -> String {
    let other = 3 - id;
    let seed = if id == 1 { ", flags=seed" } else { "" };
    format!(
        "log_level = 3\nsocket = udp:127.0.1.{id}:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"db_sqlite.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"usrloc.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"usrloc\", \"cluster_mode\", \"full-sharing\")\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\n{more}route {{ exit; }}\n"
    )
}

fn rows_of_node_2(skip: u32) -> (usize, usize) {
    let memory = "modparam(\"usrloc\", \"restart_persistency\", \"sync-from-cluster\")\n";
    let sql = format!(
        "modparam(\"usrloc\", \"restart_persistency\", \"load-from-sql\")\n\
         modparam(\"usrloc\", \"sql_write_mode\", \"write-through\")\n\
         modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n\
         modparam(\"usrloc\", \"skip_replicated_db_ops\", {skip})\n"
    );
    let mut nodes = Nodes::new(MODULES, vec![script(1, memory), script(2, &sql)]);
    nodes.advance_ms(12_000);
    let add = |nodes: &mut Nodes, at: usize, user: &str| {
        let params = json!(["location", user, format!("sip:{user}"), 600, "0.5", 0, "0", 0]);
        let answer = nodes.mi(at, "usrloc:add", params);
        assert_eq!(answer["result"], "OK", "{answer}");
    };
    let rows = |nodes: &mut Nodes| {
        let all = Select { table: "location".into(), ..Select::default() };
        nodes.db.execute(&Query::Select(all)).unwrap().rows.len()
    };
    add(&mut nodes, 0, "alice@x");
    nodes.advance_ms(2000);
    let dump = nodes.mi(1, "usrloc:dump", Json::Null);
    assert!(dump.to_string().contains("alice"), "node 2 knows alice: {dump}");
    let of_a_peer = rows(&mut nodes);
    add(&mut nodes, 1, "bob@x");
    nodes.advance_ms(2000);
    (of_a_peer, rows(&mut nodes))
}

/// `skip_replicated_db_ops`: what a peer changed is its business to write.
pub(super) fn what_peers_changed_is_written_only_if_wanted() {
    assert_eq!(rows_of_node_2(0), (1, 2));
    assert_eq!(rows_of_node_2(1), (0, 1));
}

/// `contact_refresh_timer` and E_UL_CONTACT_REFRESH.
pub(super) fn a_push_contact_is_woken_before_its_end_if_wanted() {
    let woken = |timer: u32| {
        let script = format!(
            "log_level=4\nsocket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
             loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"usrloc.so\"\n\
             loadmodule \"registrar.so\"\n\
             modparam(\"usrloc\", \"contact_refresh_timer\", {timer})\n\
             modparam(\"registrar\", \"pn_enable\", 1)\n\
             modparam(\"registrar\", \"pn_providers\", \"apns\")\n\
             modparam(\"registrar\", \"pn_trigger_interval\", 100)\nroute {{ exit; }}\n\
             event_route[E_UL_CONTACT_REFRESH] {{ xlog(\"#wake $param(uri)\\n\"); }}\n"
        );
        let mut node = TestNode::new(&script, MODULES);
        let uri = "sip:a@10.0.0.9;pn-provider=apns;pn-prid=1";
        // Flag 4: it is woken by push.
        let params = json!(["location", "alice@x", uri, 600, "0.5", 4, "0", 0]);
        assert_eq!(node.mi("usrloc:add", params)["result"], "OK");
        node.advance_ms(590_000);
        node.logs().iter().filter(|(_, line)| line.starts_with("#wake")).count()
    };
    assert_eq!((woken(1), woken(0)), (1, 0));
}
