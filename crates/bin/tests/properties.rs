//! Arbitrary input never panics, and what is written is read back as it was.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use tandem_bin::clusterer::{
    Body, CapNode, CapUpdate, Description, Extra, FullTopUpdate, Internal, LinkStateUpdate, MiCmd,
    NodeBlock, Sync,
};
use tandem_bin::dialog::{DialogName, DialogPacket, FullDialog, Leg, entries};
use tandem_bin::usrloc::{Aor, BranchFlags, Contact, ContactDelete, MatchMode, SyncRecord, Usrloc};
use tandem_bin::{Packet, Trailer};

fn text() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..24).prop_map(Bytes::from)
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1u32..200, 1..6)
}

fn match_mode() -> impl Strategy<Value = MatchMode> {
    prop_oneof![
        Just(MatchMode::Default),
        Just(MatchMode::Uri),
        Just(MatchMode::UriAndCallId),
        prop::collection::vec(text(), 0..4).prop_map(MatchMode::Params),
    ]
}

prop_compose! {
    fn contact()(
        s in prop::collection::vec(text(), 11), id: u64, times: (i64, i64), n: (i32, i32),
        masks: (u32, u32), names in text(), match_mode in match_mode(),
    ) -> Contact {
        let mut s = s.into_iter();
        let mut next = || s.next().unwrap_or_default();
        Contact {
            table: next(), aor: next(), uri: next(), id, call_id: next(), user_agent: next(),
            path: next(), attr: next(), received: next(), instance: next(),
            expires_unix_s: times.0, q: n.0, socket: next(), cseq: n.1, flags: masks.0,
            branch_flags: BranchFlags::Names(names), methods: masks.1,
            last_modified_unix_s: times.1, key_values: next(), match_mode,
        }
    }
}

prop_compose! {
    fn aor()(table in text(), aor in text(), label: u32, next_contact_label: i32,
             key_values in text()) -> Aor {
        Aor { table, aor, label, next_contact_label, key_values }
    }
}

prop_compose! {
    fn leg()(s in prop::collection::vec(text(), 8), last_generated_cseq: i32) -> Leg {
        let mut s = s.into_iter();
        let mut next = || s.next().unwrap_or_default();
        Leg {
            tag: next(), socket: next(), cseq: next(), route_set: next(), contact: next(),
            sdp_in: next(), sdp_out: next(), advertised_contact: next(), last_generated_cseq,
        }
    }
}

prop_compose! {
    fn full_dialog()(
        s in prop::collection::vec(text(), 10), legs in (leg(), leg()), n: (u32, u32, i32),
        masks: (u32, u32, u32), expires_unix_s: u32,
    ) -> FullDialog {
        let mut s = s.into_iter();
        let mut next = || s.next().unwrap_or_default();
        FullDialog {
            call_id: next(), from_uri: next(), to_uri: next(), id: n.0, start_unix_s: n.1,
            state: n.2, caller: legs.0, callee: legs.1, mangled_from: next(),
            mangled_to: next(), variables: next(), profiles: next(), user_flags: masks.0,
            module_flags: masks.1, flags: masks.2, expires_unix_s, on_answer: next(),
            on_timeout: next(), on_hangup: next(),
        }
    }
}

fn dialog() -> impl Strategy<Value = DialogPacket> {
    let name = || {
        (text(), text(), text(), any::<u32>()).prop_map(|(call_id, from_tag, to_tag, id)| {
            DialogName { call_id, from_tag, to_tag, id: Some(id) }
        })
    };
    let value = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(entries::Value::Text(text))),
        any::<i32>().prop_map(|n| Some(entries::Value::Int(n))),
    ];
    prop_oneof![
        full_dialog().prop_map(|d| DialogPacket::Created(Box::new(d))),
        full_dialog().prop_map(|d| DialogPacket::Updated(Box::new(d))),
        name().prop_map(DialogPacket::Deleted),
        (name(), any::<i32>()).prop_map(|(name, cseq)| DialogPacket::Cseq { name, cseq }),
        (text(), any::<u32>(), text(), value).prop_map(|(call_id, id, name, value)| {
            DialogPacket::Value { call_id, id, name, value }
        }),
    ]
}

fn usrloc() -> impl Strategy<Value = Usrloc> {
    prop_oneof![
        aor().prop_map(Usrloc::AorInsert),
        (text(), text()).prop_map(|(table, aor)| Usrloc::AorDelete { table, aor }),
        contact().prop_map(|c| Usrloc::ContactInsert(Box::new(c))),
        contact().prop_map(|c| Usrloc::ContactUpdate(Box::new(c))),
        (text(), text(), any::<i32>(), match_mode()).prop_map(|(a, b, cseq, match_mode)| {
            Usrloc::ContactDelete(ContactDelete {
                table: a.clone(),
                aor: b.clone(),
                uri: a,
                call_id: b,
                cseq,
                match_mode,
            })
        }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let block = (any::<u8>(), prop::option::of((text(), text(), any::<i32>())), ids()).prop_map(
        |(node, d, neighbours)| NodeBlock {
            node: node.into(),
            description: d.map(|(url, sip_addr, n)| Description {
                url,
                sip_addr,
                priority: n,
                ping_retries: n,
            }),
            ls_sequence: -1,
            ls_timestamp: 0,
            neighbours,
        },
    );
    let node = (any::<u32>(), prop::collection::vec((text(), any::<bool>()), 0..5))
        .prop_map(|(node, capabilities)| CapNode { node, capabilities });
    prop_oneof![
        any::<bool>().prop_map(|want_list| Body::Ping { want_list }),
        ids().prop_map(|nodes| Body::Pong { nodes }),
        (any::<i32>(), any::<u32>(), any::<bool>(), ids()).prop_map(|(sequence, t, up, path)| {
            Body::LinkState(LinkStateUpdate { sequence, timestamp: t, neighbour: t, up, path })
        }),
        (any::<i32>(), prop::collection::vec(block, 0..5), ids()).prop_map(
            |(sequence, nodes, path)| {
                Body::FullTop(FullTopUpdate { sequence, timestamp: 5, nodes, path })
            }
        ),
        (any::<i32>(), prop::collection::vec(node, 0..5), any::<bool>(), ids()).prop_map(
            |(sequence, nodes, require_reply, path)| Body::Capabilities(CapUpdate {
                sequence,
                timestamp: 9,
                nodes,
                require_reply,
                path,
                intact: true,
            })
        ),
    ]
}

proptest! {
    #[test]
    fn usrloc_survives_a_round_trip(packet in usrloc()) {
        let payload = packet.encode().unwrap();
        prop_assert_eq!(Usrloc::decode(packet.packet_type(), 5, &payload).unwrap(), packet);
    }

    #[test]
    fn dialogs_survive_a_round_trip(packet in dialog()) {
        let payload = packet.encode().unwrap();
        prop_assert_eq!(DialogPacket::decode(packet.packet_type(), 4, &payload).unwrap(), packet);
    }

    #[test]
    fn a_dialog_cut_off_anywhere_is_refused_or_lacks_its_routes(d in full_dialog(), cut: u16) {
        let whole = d.encode().unwrap();
        let cut = whole.slice(..usize::from(cut) % whole.len());
        if let Ok(read) = FullDialog::decode(4, &cut) {
            let (on_answer, on_timeout) = (read.on_answer.clone(), read.on_timeout.clone());
            prop_assert_eq!(read, FullDialog {
                on_answer, on_timeout, on_hangup: Bytes::new(), ..d
            });
        }
    }

    #[test]
    fn sync_records_survive_a_round_trip(contact in contact(), aor in aor(), which: bool) {
        let record = match which {
            true => SyncRecord::Aor(aor),
            false => SyncRecord::Contact(Box::new(contact)),
        };
        prop_assert_eq!(SyncRecord::decode(5, &record.encode().unwrap()).unwrap(), record);
    }

    #[test]
    fn internal_survives_a_round_trip(body in body(), cluster: u32, source: u32) {
        let packet = Internal { cluster, source, body };
        let read = Packet::decode(packet.encode().unwrap()).unwrap();
        prop_assert_eq!(Internal::from_packet(&read).unwrap(), packet);
    }

    #[test]
    fn extra_survives_a_round_trip(
        chunks in prop::collection::vec(text(), 0..6), capability in text(), data_version: i32,
        which in 0..3,
    ) {
        let packet = match which {
            0 => Extra::Sync(Sync { capability, data_version, chunks, intact: true }),
            1 => Extra::Mi(MiCmd { command: capability, params: chunks }),
            _ => Extra::ShtagActive { tag: capability },
        };
        let trailer = Trailer::new(1, 2, 3);
        let read = Packet::decode(packet.encode(&trailer).unwrap()).unwrap();
        prop_assert_eq!(read.trailer, Some(trailer));
        let decoded = Extra::decode(read.packet_type, read.version, &read.payload);
        prop_assert_eq!(decoded.unwrap(), packet);
    }

    #[test]
    fn arbitrary_payloads_never_panic(
        packet_type in 0u32..16, version in 0u16..7,
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..300),
    ) {
        let payload = Bytes::from(bytes);
        let _ = Internal::decode(packet_type, &payload);
        let _ = Extra::decode(packet_type, version, &payload);
        let _ = Usrloc::decode(packet_type, version, &payload);
        let _ = SyncRecord::decode(version, &payload);
        let _ = DialogPacket::decode(packet_type, version, &payload);
        let _ = FullDialog::decode(version, &payload);
        let _ = Packet::decode(payload);
    }
}
