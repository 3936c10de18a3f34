//! What a module hears of the transactions that it attached something to.

use crate::common;

use std::sync::Arc;

use common::*;
use parking_lot::Mutex;
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Module, ModuleDef};
use tandem_engine::table::function;
use tandem_engine::testing::TestNode;
use tandem_script::host::Called;
use tandem_script::sig::Routes;

/// Attaches the name of the section, and notes what happens under it.
static WATCH: ModuleDef = ModuleDef {
    name: "watch",
    help: "",
    dependencies: &[],
    params: &[],
    functions: &[
        function("watch", &[], Routes::ANY, "", |call| {
            let slot = call.cx.slot;
            call.ctx.attached.put(slot, Arc::new(Mutex::new(Vec::<String>::new())));
            Called::Returned(1)
        }),
        function("watched", &[], Routes::ANY, "", |call| {
            let heard = call.ctx.attached.get::<Mutex<Vec<String>>>(call.cx.slot);
            let text = heard.map_or_else(|| "nothing".to_owned(), |h| h.lock().join(","));
            call.cx.log(Level::Notice, format!("seen {text}"));
            Called::Returned(1)
        }),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Watch)),
};

struct Watch;

impl Module for Watch {
    fn transaction(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        let text = match moment {
            TxMoment::Sent { branch, to, request, .. } => {
                assert!(request.starts_with(b"INVITE "), "as it left");
                format!("sent{branch}:{to}")
            }
            TxMoment::Received { branch, reply } => format!("got{branch}:{}", reply.status()),
            TxMoment::Replied { code, own, first, reply } => {
                assert!(reply.starts_with(b"SIP/2.0 "));
                format!(
                    "replied:{code}{}{}",
                    if *own { "o" } else { "" },
                    if *first { "" } else { "+" }
                )
            }
            TxMoment::Cancelled => "cancelled".to_owned(),
            TxMoment::Failed { code, branch, .. } => format!("failed:{code}@{branch:?}"),
            TxMoment::Ended => "ended".to_owned(),
        };
        if let Some(heard) = section.downcast_ref::<Mutex<Vec<String>>>() {
            heard.lock().push(text.clone());
        }
        cx.log(Level::Notice, format!("heard {text}"));
    }
}

fn watched(routes: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nlog_level=4\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"watch.so\"\n{routes}"
    );
    let mut modules = MODULES.to_vec();
    modules.push(&WATCH);
    TestNode::new(&script, Vec::leak(modules))
}

/// What was heard and seen since the last call.
fn heard(node: &mut TestNode) -> Vec<String> {
    let lines = node.logs().into_iter().map(|(_, text)| text);
    let ours = |line: String| {
        let at = line.find("heard ").or_else(|| line.find("seen "))?;
        Some(line[at..].trim_start_matches("heard ").to_owned())
    };
    lines.filter_map(ours).collect()
}

#[test]
fn an_answered_call_is_heard_from_the_request_to_the_end() {
    let mut node =
        watched("route { watch(); t_on_reply(\"r\"); t_relay(); } onreply_route[r] { watched(); }");
    let sent = start_call(&mut node);
    assert_eq!(heard(&mut node), ["replied:100o", &format!("sent0:{CALLEE}")]);
    node.udp(CALLEE, &reply_to(&sent, 180, ""));
    let ringing = heard(&mut node);
    assert_eq!(
        ringing,
        ["got0:180", &format!("seen replied:100o,sent0:{CALLEE},got0:180"), "replied:180"]
    );
    node.udp(CALLEE, &reply_to(&sent, 200, ""));
    assert_eq!(heard(&mut node).last().unwrap(), "replied:200");
    node.udp(CALLEE, &reply_to(&sent, 200, ""));
    assert_eq!(
        heard(&mut node),
        [
            "got0:200",
            &format!(
                "seen replied:100o,sent0:{CALLEE},got0:180,replied:180,got0:200,replied:200,got0:200"
            ),
            "replied:200+"
        ]
    );
    node.advance_ms(100_000);
    assert_eq!(heard(&mut node), ["ended"]);
}

#[test]
fn a_failure_is_heard_before_its_route_and_what_that_attaches_counts() {
    let mut node = watched(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { watched(); watch(); t_reply(480, \"No\"); }",
    );
    let sent = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&sent, 486, ""));
    assert_eq!(heard(&mut node), ["seen nothing", "replied:480o"]);
    let mut node = watched(
        "route { watch(); t_on_failure(\"f\"); t_relay(); } failure_route[f] { watched(); }",
    );
    let sent = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&sent, 486, ""));
    let after = heard(&mut node);
    assert_eq!(after[3], "failed:486@Some(0)");
    assert!(after[4].ends_with("failed:486@Some(0)"), "{after:?}");
    assert_eq!(after[5], "replied:486");
}

#[test]
fn what_is_attached_behind_t_newtran_hears_the_reply() {
    let mut node = watched("route { t_newtran(); watch(); t_reply(486, \"Busy\"); }");
    node.udp(CALLER, &invite());
    assert_eq!(heard(&mut node), ["replied:486o"]);
}

#[test]
fn a_cancel_is_heard_once() {
    let mut node = watched("route { if ($rm == \"INVITE\") { watch(); } t_relay(); }");
    let sent = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&sent, 180, ""));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    node.udp(CALLEE, &reply_to(&sent, 487, ""));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    let all = heard(&mut node);
    assert_eq!(all.iter().filter(|line| *line == "cancelled").count(), 1, "{all:?}");
    assert!(all.contains(&"replied:487".to_owned()), "{all:?}");
}
