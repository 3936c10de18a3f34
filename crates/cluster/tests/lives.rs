//! A Tandem node that is started again, played with raw packets: what its earlier life has said
//! may come late.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::scene;

use bytes::Bytes;
use scene::{Scene, Stand as _, ip};
use tandem_bin::{Packet, Trailer};
use tandem_cluster::*;

const OLD: ConnId = ConnId::Accepted(30);
const NEW: ConnId = ConnId::Accepted(31);
const HELLO: u32 = 1;
const ENVELOPE: u32 = 2;
const ACK: u32 = 3;

/// The value of the first field: the life of a HELLO, the number of an ENVELOPE or ACK.
fn first(packet: &Packet) -> u64 {
    u64::from_le_bytes(packet.payload[6..14].try_into().unwrap())
}

/// What node 1 has sent to node 3 last of a type.
fn sent(s: &Scene, kind: u32) -> Packet {
    let all = s.got.iter().filter(|p| p.0 == 3).map(|p| Packet::decode(p.1.clone()).unwrap());
    all.filter(|p| p.capability.as_ref() == b"tandem" && p.packet_type == kind).last().unwrap()
}

/// Node 3 says the like.
fn say(s: &mut Scene, conn: ConnId, like: &Packet, value: u64) {
    let mut payload = like.payload.to_vec();
    payload[6..14].copy_from_slice(&value.to_le_bytes());
    let trailer = Some(Trailer::new(1, 3, 1));
    let packet = Packet { payload: payload.into(), trailer, ..like.clone() };
    let bytes = packet.encode().unwrap();
    s.input(|m, now, out| m.handle_bytes(now, conn, &bytes, out));
}

fn write(s: &mut Scene) -> u64 {
    let (cap, payload) = (s.cap, Bytes::from_static(b"change"));
    s.input(|m, now, out| {
        let stamp = Stamp { time_us: 1, node: 1 };
        m.broadcast(now, cap, 4, 5, &payload, stamp, out).unwrap();
        m.flush(out);
    });
    first(&sent(s, ENVELOPE))
}

/// Node 3 in its second life, the stream of the first still open.
fn scene() -> Scene {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    let hello = sent(&s, HELLO);
    for (conn, life) in [(OLD, 500), (NEW, 501)] {
        s.input(|m, now, out| m.handle_accepted(now, conn, ip(3), out));
        say(&mut s, conn, &hello, life);
    }
    s
}

#[test]
fn what_an_earlier_life_said_last_is_taken_and_acknowledges_nothing_of_this_one() {
    let mut s = scene();
    write(&mut s);
    let envelope = sent(&s, ENVELOPE);
    say(&mut s, NEW, &envelope, 1);
    assert_eq!((first(&sent(&s, ACK)), s.delivered()), (1, 1));
    say(&mut s, OLD, &envelope, 400);
    assert_eq!((first(&sent(&s, ACK)), s.delivered()), (1, 2));
    say(&mut s, NEW, &envelope, 2);
    assert_eq!((first(&sent(&s, ACK)), s.delivered()), (2, 3));
}

/// The old stream stood still, and is read behind the new one.
#[test]
fn a_hello_of_an_earlier_life_does_not_bring_it_back() {
    let mut s = scene();
    let hello = sent(&s, HELLO);
    let states =
        |s: &Scene| s.log.iter().filter(|e| matches!(e, Effect::NodeState { node: 3, .. })).count();
    let told = states(&s);
    say(&mut s, OLD, &hello, 500);
    assert_eq!(states(&s), told, "it was not started again");
    write(&mut s);
    let envelope = sent(&s, ENVELOPE);
    say(&mut s, NEW, &envelope, 1);
    assert_eq!((first(&sent(&s, ACK)), s.delivered()), (1, 1), "it lives, and is acknowledged");
}

/// It was away for less than it takes to miss it.
#[test]
fn a_node_that_was_started_again_is_reported_gone_and_back() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    let hello = sent(&s, HELLO);
    s.input(|m, now, out| m.handle_accepted(now, OLD, ip(3), out));
    say(&mut s, OLD, &hello, 500);
    let before = s.log.len();
    s.input(|m, now, out| m.handle_accepted(now, NEW, ip(3), out));
    say(&mut s, NEW, &hello, 501);
    let told = s.log.iter().skip(before).filter_map(|e| match e {
        Effect::NodeState { node: 3, up, .. } => Some(*up),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_opens_no_gate_and_numbers_go_on_above_it() {
    let mut s = scene();
    assert_eq!(write(&mut s), 1);
    let envelope = sent(&s, ENVELOPE);
    say(&mut s, NEW, &envelope, 1);
    let ack = sent(&s, ACK);
    let acked = |s: &Scene| s.log.iter().filter(|e| matches!(e, Effect::Acked { .. })).count();
    say(&mut s, NEW, &ack, 400);
    assert_eq!(acked(&s), 0, "that was another life of node 1");
    assert_eq!(write(&mut s), 401);
    say(&mut s, NEW, &ack, 401);
    assert_eq!(acked(&s), 1);
    say(&mut s, NEW, &ack, u64::MAX);
    write(&mut s);
    assert_eq!(acked(&s), 1);
}
