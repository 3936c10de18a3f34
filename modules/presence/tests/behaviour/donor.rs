//! A stock node asks for all publications.

use bytes::Bytes;
use tandem_bin::clusterer::{Body, Extra, Internal};
use tandem_bin::presence::Publish;
use tandem_bin::{Framer, Packet, Trailer};
use tandem_cluster::ConnId;
use tandem_engine::effect::{BinInput, Effect, Input, Out};

use crate::common::*;
use crate::pair::Pair;

const CONN: ConnId = ConnId::Accepted(9_000);

/// Node 2 with a stock node in the place of node 1.
struct Stage {
    pair: Pair,
    /// Packets for the stock node.
    got: Vec<Packet>,
}

impl Stage {
    fn new() -> Self {
        let mut pair = Pair::new(&set("cluster_federation_mode", "\"full-sharing\""));
        pair.kill(0);
        let mut stage = Self { pair, got: Vec::new() };
        let peer = "127.0.1.1:4000".parse().unwrap();
        stage.input(Input::Bin(BinInput::Accepted { conn: CONN, peer }));
        stage.says(&internal(Body::Ping { want_list: true }));
        stage.pass_ms(2_000);
        stage
    }

    fn input(&mut self, input: Input) {
        let mut out = Out::default();
        let now = self.pair.now;
        let worker = self.pair.workers[1].as_mut().unwrap();
        worker.step(now, input, &mut out);
        worker.finish(now, &mut out);
        for effect in out.effects {
            match effect {
                Effect::BinConnect { conn, .. } => {
                    self.input(Input::Bin(BinInput::Connected { conn, local: None }));
                }
                Effect::BinWrite { bytes, .. } => self.reads(&bytes),
                _ => {}
            }
        }
    }

    /// The stock node answers PINGs, and keeps the rest.
    fn reads(&mut self, bytes: &Bytes) {
        let mut framer = Framer::default();
        framer.push(bytes);
        while let Ok(Some(frame)) = framer.next_frame() {
            let packet = Packet::decode(frame).unwrap();
            if packet.trailer.is_none() && packet.packet_type == 0 {
                self.says(&internal(Body::Pong { nodes: Vec::new() }));
            }
            self.got.push(packet);
        }
    }

    fn says(&mut self, bytes: &Bytes) {
        self.input(Input::Bin(BinInput::Data { conn: CONN, bytes: bytes.clone() }));
    }

    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.pair.0.now = self.pair.0.now.plus_ns(10_000_000);
            self.input(Input::Tick);
        }
    }

    /// What a sync holds: users and bodies.
    fn synced(&mut self) -> Vec<(Bytes, Bytes)> {
        let capability = Bytes::from_static(b"presence");
        let request = Extra::SyncReq { capability }.encode(&Trailer::new(1, 1, 2)).unwrap();
        self.got.clear();
        self.says(&request);
        self.pass_ms(500);
        let mut all = Vec::new();
        for packet in self.got.iter().filter(|p| p.capability[..] == *b"clusterer-extra") {
            let extra = Extra::decode(packet.packet_type, packet.version, &packet.payload);
            if let Ok(Extra::Sync(sync)) = extra {
                all.extend(sync.chunks.iter().map(|chunk| Publish::decode(chunk).unwrap()));
            }
        }
        all.iter().map(|p| (p.user.clone(), p.body.clone())).collect()
    }
}

fn internal(body: Body) -> Bytes {
    Internal { cluster: 1, source: 1, body }.encode().unwrap()
}

#[test]
fn a_sync_holds_what_others_have_published_too() {
    let mut stage = Stage::new();
    let publish = Publish {
        user: "bob".into(),
        domain: "a.test".into(),
        event: "presence".into(),
        new_etag: "a.1.2.3.0".into(),
        expires_s: 60,
        body: "open".into(),
        ..Publish::default()
    };
    let packet = Packet {
        capability: Bytes::from_static(b"presence"),
        packet_type: 1,
        version: 1,
        payload: publish.encode().unwrap(),
        trailer: Some(Trailer::new(1, 1, 2)),
    };
    stage.says(&packet.encode().unwrap());
    assert_eq!(stage.synced(), [("bob".into(), "open".into())], "its publisher was restarted");
}
