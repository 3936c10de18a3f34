//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_signaling::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                    loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\n";

fn sent(route: &str) -> (TestNode, Vec<String>) {
    let mut node = TestNode::new(&format!("{HEAD}route {{ {route} }}"), MODULES);
    node.udp(
        "127.0.0.9:5060",
        "OPTIONS sip:a@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@127.0.0.9>;tag=f\nTo: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
         Content-Length: 0\n\n",
    );
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (node, sent)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_signaling::MODULE,
        &[
            ("function send_reply", a_reply_uses_the_transaction_if_there_is_one),
            ("variable sig_local_totag", the_tag_is_the_one_of_the_reply),
        ],
    );
}

fn a_reply_uses_the_transaction_if_there_is_one() {
    for (route, in_sl) in
        [("send_reply(404, \"No\");", 1), ("t_newtran(); send_reply(404, \"No\");", 0)]
    {
        let (node, sent) = sent(route);
        assert!(sent[0].starts_with("SIP/2.0 404 No\r\n"), "{sent:?}");
        let counted = node.node().statistic("sl:sent_replies", node.now());
        assert_eq!(counted, Some(in_sl), "{route}");
    }
}

fn the_tag_is_the_one_of_the_reply() {
    let (mut node, sent) =
        sent("xlog(\"L_NOTICE\", \"$sig_local_totag\"); send_reply(404, \"No\");");
    let tag = node.logs().pop().unwrap().1;
    assert!(sent[0].contains(&format!("To: <sip:a@127.0.0.1>;tag={tag}\r\n")), "{sent:?}");
}
