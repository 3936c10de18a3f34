//! A node with gateways, carriers and rules.

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::TestNode;

pub(crate) const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_drouting::MODULE,
    ];
    ALL
};
pub(crate) const LINES: &str = "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.1:5070\n\
     loadmodule \"proto_udp.so\"\nloadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"drouting.so\"\n";
pub(crate) const URL: &str = "modparam(\"drouting\", \"db_url\", \"sqlite:///tmp/x.db\")\n";

pub(crate) fn set(name: &str, value: &str) -> String {
    match value.parse::<i64>() {
        Ok(_) => format!("modparam(\"drouting\", \"{name}\", {value})\n"),
        Err(_) => format!("modparam(\"drouting\", \"{name}\", \"{value}\")\n"),
    }
}

pub(crate) fn insert(db: &mut MemoryDb, table: &str, row: Vec<(&'static str, Value)>) {
    let row = row.into_iter().map(|(name, value)| (name.into(), value)).collect();
    db.execute(&Query::Insert { table: table.to_owned().into(), row }).unwrap();
}

/// id, type, address, strip, prefix, attributes, probe mode, state, socket.
pub(crate) fn gateway(
    db: &mut MemoryDb,
    id: &str,
    kind: i64,
    address: &str,
    more: &[(&str, Value)],
) {
    let mut row: Vec<(&'static str, Value)> =
        vec![("gwid", id.into()), ("type", kind.into()), ("address", address.into())];
    for name in ["strip", "pri_prefix", "attrs", "probe_mode", "state", "socket"] {
        if let Some((_, value)) = more.iter().find(|(n, _)| *n == name) {
            row.push((name, value.clone()));
        }
    }
    insert(db, "dr_gateways", row);
}

pub(crate) fn carrier(db: &mut MemoryDb, id: &str, list: &str, flags: i64, sort: &str) {
    let row = vec![
        ("carrierid", id.into()),
        ("gwlist", list.into()),
        ("flags", flags.into()),
        ("sort_alg", sort.into()),
        ("state", 0.into()),
        ("attrs", format!("of {id}").into()),
    ];
    insert(db, "dr_carriers", row);
}

pub(crate) fn rule(
    db: &mut MemoryDb,
    groups: &str,
    prefix: &str,
    list: &str,
    more: &[(&str, Value)],
) {
    let mut row: Vec<(&'static str, Value)> = vec![
        ("groupid", groups.into()),
        ("prefix", prefix.into()),
        ("gwlist", list.into()),
        ("attrs", format!("rule {prefix}").into()),
    ];
    let defaults: [(&'static str, Value); 5] = [
        ("timerec", "".into()),
        ("priority", 0.into()),
        ("routeid", "".into()),
        ("sort_alg", "N".into()),
        ("sort_profile", Value::Null),
    ];
    for (name, value) in defaults {
        let given = more.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        row.push((name, given.unwrap_or(value)));
    }
    insert(db, "dr_rules", row);
}

/// The gateways gw1 to gw4, the carriers c1 and c2, and rules of group 0.
pub(crate) fn fill(db: &mut MemoryDb) {
    let one = [("strip", 2.into()), ("pri_prefix", "99".into()), ("attrs", "cost=1".into())];
    gateway(db, "gw1", 1, "127.0.1.21:5060", &[&one[..], &[("probe_mode", 2.into())]].concat());
    gateway(db, "gw2", 1, "sip:127.0.1.22", &[("attrs", "cost=2".into())]);
    let tcp = "127.0.1.23:5080;transport=tcp";
    gateway(db, "gw3", 2, tcp, &[("probe_mode", 1.into())]);
    let own = [("socket", "udp:127.0.0.1:5070".into()), ("attrs", "own".into())];
    gateway(db, "gw4", 3, "127.0.1.24", &own);
    carrier(db, "c1", "gw2,gw3", 0, "N");
    carrier(db, "c2", "gw3=1,gw4=0", 1, "W");
    rule(db, "0", "", "#c1", &[]);
    rule(db, "0,7", "40", "gw1,gw2", &[]);
    rule(db, "0", "4021", "gw4", &[("priority", 5.into())]);
    let never = [("timerec", "20200101T000000||PT1H".into()), ("priority", 9.into())];
    rule(db, "0", "4021", "gw3", &never);
    rule(db, "8", "5", "gw1", &[("routeid", "say".into())]);
    rule(db, "8", "6", "gw1", &[("routeid", "refuse".into())]);
    let group = |user: &str, domain: &str, id: i64| {
        vec![("username", user.into()), ("domain", domain.into()), ("groupid", id.into())]
    };
    insert(db, "dr_groups", group("f", "from.test", 7));
    insert(db, "dr_groups", group("g", "other.test", 8));
}

pub(crate) fn node(params: &str, routes: &str) -> Result<TestNode, String> {
    node_with(params, routes, fill)
}

pub(crate) fn node_with(
    params: &str,
    routes: &str,
    fill: impl FnOnce(&mut MemoryDb),
) -> Result<TestNode, String> {
    TestNode::with_database(&format!("{LINES}{params}{routes}"), MODULES, fill)
}

pub(crate) fn request(uri: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
         Content-Length: 0\n\n"
    )
}

/// What a script says, line by line.
pub(crate) fn said(node: &mut TestNode) -> Vec<String> {
    let said =
        node.logs().into_iter().filter_map(|(_, text)| text.strip_prefix("# ").map(str::to_owned));
    said.collect()
}

const TELL: &str = "xlog(\"L_NOTICE\", \"# $rc $ru\");";

/// The return code of a call for a request to `uri`, and the R-URI then.
pub(crate) fn called(params: &str, call: &str, uri: &str) -> String {
    let routes = format!(
        "route {{ {call}; {TELL} }}\nroute[say] {{ $avp(ran) = \"yes\"; }}\n\
         route[refuse] {{ drop; }}"
    );
    let mut node = node(&format!("{URL}{params}"), &routes).unwrap();
    node.udp("127.0.0.9:5060", &request(uri));
    said(&mut node).pop().unwrap()
}

/// The same with a text of the script's choice instead of the R-URI.
pub(crate) fn tells(params: &str, code: &str, text: &str) -> String {
    let routes = format!(
        "route {{ {code} xlog(\"L_NOTICE\", \"# {text}\"); }}\n\
         route[say] {{ $avp(ran) = \"yes\"; }}\n\
         route[refuse] {{ drop; }}"
    );
    let mut node = node(&format!("{URL}{params}"), &routes).unwrap();
    node.udp("127.0.0.9:5060", &request("sip:4012345@here.test"));
    said(&mut node).pop().unwrap()
}
