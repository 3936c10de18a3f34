//! Calls as load.

use serde_json::Value as Json;
use tandem_engine::testing::Nodes;

use crate::cluster::CASE;
use crate::world::{call, invite, loads, loads_in, node};

const RELAY: &str = "route { if (has_totag()) { loose_route(); } \
     else { record_route(); lb_start(1, \"pstn\"); } t_relay(); }";

/// The answer to a request that a node has sent.
fn reply(request: &str, code: u16) -> String {
    let keep = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
    let kept: String = request
        .lines()
        .filter(|line| keep.iter().any(|name| line.starts_with(name)))
        .map(|line| format!("{line}\n"))
        .collect();
    format!(
        "SIP/2.0 {code} X\n{kept}To: <sip:a@to.test>;tag=t\nContact: <sip:u@127.0.2.2>\n\
         Content-Length: 0\n\n"
    )
}

pub(crate) fn end() {
    let mut node = node("", RELAY).unwrap();
    call(&mut node, "c");
    assert_eq!(loads(&mut node, "pstn"), [0, 1, 0]);
    let sent = node.sent();
    let (to, text) = sent.iter().find(|(_, text)| text.starts_with("INVITE")).unwrap();
    assert_eq!(to.to_string(), "127.0.2.2:5060");
    node.udp("127.0.2.2:5060", &reply(text, 486));
    assert_eq!(loads(&mut node, "pstn"), [0, 0, 0]);
}

fn pstn(nodes: &mut Nodes, at: usize) -> Vec<i64> {
    let list = nodes.mi(at, "load_balancer:list", Json::Null);
    loads_in(list["result"]["Destinations"].as_array().unwrap(), "pstn")
}

pub(crate) fn survive() {
    let params = [
        CASE.set("cluster_id", "1"),
        "modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n".to_owned(),
    ];
    let script = |id| CASE.script(id, &params.concat()).replace("route { exit; }", RELAY);
    let mut nodes = Nodes::asleep(CASE.modules, [1, 2].map(script).to_vec());
    (CASE.fill)(&mut nodes.db);
    nodes.boot_all();
    nodes.advance_ms(10_000);
    nodes.udp(0, "127.0.0.9:5060", &invite("c"));
    let sent = nodes.datagrams.iter().find(|(.., text)| text.starts_with("INVITE"));
    let answer = reply(&sent.unwrap().2, 200);
    nodes.udp(0, "127.0.2.2:5060", &answer);
    nodes.advance_ms(100);
    assert_eq!((pstn(&mut nodes, 0), pstn(&mut nodes, 1)), (vec![0, 1, 0], vec![0, 1, 0]));
    nodes.kill(0);
    nodes.advance_ms(5_000);
    assert_eq!(pstn(&mut nodes, 1), [0, 1, 0], "the backup knows what each one bears");
    nodes.udp(1, "127.0.0.9:5060", &invite("d"));
    assert_eq!(pstn(&mut nodes, 1), [0, 2, 0]);
}
