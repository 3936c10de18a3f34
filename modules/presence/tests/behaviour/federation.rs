//! Publications that go to stock nodes, and come from them.

use bytes::Bytes;
use tandem_bin::presence::{PUBLISH, Publish, QUERY, Query, VERSION};
use tandem_bin::{Packet, Trailer};
use tandem_cluster::ConnId;
use tandem_engine::effect::{BinInput, Input};

use crate::common::*;
use crate::pair::Pair;

/// A stock node that speaks to node 2 in the place of node 1.
struct Stock(Pair);

const CONN: ConnId = ConnId::Accepted(9_000);

impl Stock {
    fn new(mode: &str, more: &str) -> Self {
        let params = set("cluster_federation_mode", &format!("\"{mode}\"")) + more;
        let mut pair = Pair::new(&params);
        let peer = "127.0.1.1:4000".parse().unwrap();
        pair.step(1, Input::Bin(BinInput::Accepted { conn: CONN, peer }));
        Self(pair)
    }

    fn says(&mut self, kind: u32, payload: Bytes) {
        let trailer = Some(Trailer::new(1, 1, 2));
        let capability = Bytes::from_static(b"presence");
        let packet = Packet { capability, packet_type: kind, version: VERSION, payload, trailer };
        let bytes = packet.encode().unwrap();
        self.0.step(1, Input::Bin(BinInput::Data { conn: CONN, bytes }));
        self.0.advance_ms(10);
    }

    fn publishes(
        &mut self,
        old: &'static str,
        new: &'static str,
        expires_s: i32,
        body: &'static str,
    ) {
        let publish = Publish {
            user: "bob".into(),
            domain: "a.test".into(),
            event: "presence".into(),
            old_etag: old.into(),
            new_etag: new.into(),
            expires_s,
            received_s: 1_800_000_000,
            body: body.into(),
            ..Publish::default()
        };
        self.says(PUBLISH, publish.encode().unwrap());
    }

    fn bodies(&self) -> Vec<String> {
        let all = self.0.all(1).0;
        all.iter().map(|p| String::from_utf8_lossy(&p.body).into_owned()).collect()
    }
}

#[test]
fn with_full_sharing_every_publication_of_a_stock_node_is_kept() {
    let mut stock = Stock::new("full-sharing", "");
    stock.publishes("", "a.1.2.3.0", 60, "open");
    assert_eq!(stock.bodies(), ["open"]);
    stock.publishes("a.1.2.3.0", "a.1.2.9.1", 60, "away");
    assert_eq!(stock.bodies(), ["away"]);
    // A change without a body prolongs.
    stock.publishes("a.1.2.9.1", "a.1.2.9.2", 60, "");
    assert_eq!(stock.bodies(), ["away"]);
    stock.publishes("a.1.2.9.2", "", 0, "");
    assert!(stock.bodies().is_empty());
    for cut in [0, 3, 20] {
        let whole = Publish { domain: "x".into(), ..Publish::default() }.encode().unwrap();
        stock.says(PUBLISH, whole.slice(..cut));
    }
    stock.says(77, Bytes::new());
    assert!(stock.bodies().is_empty());
}

#[test]
fn on_demand_only_what_somebody_watches_is_kept() {
    let mut stock = Stock::new("on-demand-sharing", "");
    stock.publishes("", "a.1.2.3.0", 60, "open");
    assert!(stock.bodies().is_empty());
    stock.0.subscribe(1, &mut Watcher::new("w", "bob", "presence"), "Expires: 600\n");
    stock.publishes("", "a.1.2.4.0", 60, "open");
    assert_eq!(stock.bodies(), ["open"]);
}

#[test]
fn events_that_are_not_listed_are_not_shared() {
    let more = set("cluster_pres_events", "\"dialog, dialog;sla\"");
    let mut stock = Stock::new("full-sharing", &more);
    stock.publishes("", "a.1.2.3.0", 60, "open");
    assert!(stock.bodies().is_empty());
}

#[test]
fn a_question_of_a_stock_node_is_read() {
    let mut stock = Stock::new("full-sharing", "");
    etag(&stock.0.publish(1, &publish("bob", "presence", 1, "", "open")));
    let query = Query { uri: "sip:bob@a.test".into(), event: "presence".into() };
    stock.says(QUERY, query.encode().unwrap());
    stock.says(QUERY, Bytes::from_static(b"\x01"));
    assert_eq!(stock.bodies(), ["open"]);
}
