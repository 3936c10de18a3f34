//! Records survive, whatever is in them.

use super::*;
use proptest::prelude::*;
use smallvec::SmallVec;

use crate::record::ValueStamps;

fn text() -> impl Strategy<Value = Text> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Into::into)
}

prop_compose! {
    fn any_leg()(s in prop::collection::vec(text(), 7), n: (u32, u32)) -> Leg {
        let mut s = s.into_iter();
        let mut next = || s.next().unwrap_or_default();
        Leg {
            tag: next(), contact: next(), route_set: next(), socket: next(), sdp_in: next(),
            sdp_out: next(), advertised: next(), cseq: n.0, generated_cseq: n.1,
        }
    }
}

fn any_value() -> impl Strategy<Value = Val> {
    prop_oneof![text().prop_map(Val::Str), any::<i32>().prop_map(Val::Int)]
}

fn any_debt() -> impl Strategy<Value = Option<Debt>> {
    let ids = || prop::collection::btree_set(0u64..9, 1..4);
    let debt = (ids(), any::<bool>(), any::<u32>()).prop_map(|(ids, paid, node)| Debt {
        place: u64::from(node) * 7,
        ids: ids.into_iter().collect(),
        node,
        paid,
        ended_ms: u64::from(node) * 11,
    });
    prop::option::of(debt)
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let marker = prop_oneof![Just(Marker::Local), Just(Marker::Bin), Just(Marker::Cache)];
    (text(), text(), marker).prop_map(|(name, value, marker)| Membership { name, value, marker })
}

prop_compose! {
    /// Any dialog of this name.
    pub(in crate::replication) fn any_dialog()(
        s in prop::collection::vec(text(), 7),
        legs in (any_leg(), prop::collection::vec(any_leg(), 0..3)),
        times: (u32, u32, u32, u32, u32, u32), more in (1u32..6, 0usize..15, any::<u32>()),
        values in prop::collection::btree_map(text(), any_value(), 0..4),
        profiles in prop::collection::vec(any_membership(), 0..4),
        sections in prop::collection::vec((text(), text()), 0..3),
        masks in (0u32..8, 0u32..1 << 21), delay in prop::option::of(0u32..9),
        debt in any_debt(), creator: u32, at in (1u64..50, 1u32..4),
    ) -> Dialog {
        let mut s = s.into_iter();
        let mut next = || s.next().unwrap_or_default();
        let callees: SmallVec<[Leg; 1]> = legs.1.into();
        let flags = Flags(masks.1).without(Flags::LOCAL).without(Flags::UNSTORED);
        let sections = sections.into_iter().map(|(name, s)| (name, Bytes::from(s.into_vec())));
        let mut value_stamps = ValueStamps::default();
        if let Some(name) = values.keys().next() {
            value_stamps.put(name, Stamp { time_us: at.0, node: at.1 });
        }
        Dialog {
            id: DialogId { entry: 1, id: 2 }, call_id: b"call"[..].into(), from_uri: next(),
            to_uri: next(), mangled_from: next(), mangled_to: next(), start_s: times.0,
            answered_s: times.1, ended_s: times.2, state: State::from_number(more.0).unwrap(),
            end_reason: EndReason::ALL.get(more.1).copied(), invite_cseq: more.2,
            answered: (!callees.is_empty()).then_some(0), caller: legs.0, callees,
            values: values.into_iter().collect(), profiles, user_flags: masks.0,
            module_flags: 0, flags, lifetime_s: times.3, expires_s: times.4,
            delete_delay_s: delay, sections: sections.collect(), debt, creator,
            routes: crate::record::Routes {
                on_answer: next(), on_timeout: next(), on_hangup: next(),
            },
            stamp: Stamp { time_us: at.0, node: at.1 }, value_stamps,
            terms: Terms {
                epoch: u64::from(masks.0), stamp: Stamp { time_us: at.0, node: at.1 },
            },
        }
    }
}

fn names() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).into()
}

proptest! {
    #[test]
    fn a_restored_snapshot_is_the_dialog(d in any_dialog()) {
        let record = encode(&d, &names());
        let head = read_heading(&record).unwrap();
        prop_assert_eq!((&head.call_id[..], head.id), (&d.call_id[..], d.id));
        prop_assert_eq!((head.stamp, head.base, head.until_s), (d.stamp, None, None));
        let mut read = crate::replication::empty(head.id, &head.call_id);
        lay_over(&mut read, &record, &names()).unwrap();
        prop_assert_eq!(read, d);
    }

    #[test]
    fn a_patch_makes_the_one_the_other(d in any_dialog(), n: u32, value in any_value()) {
        let mut next = d.clone();
        next.stamp.time_us += 1;
        (next.state, next.ended_s) = (State::Deleted, n);
        next.debt = None;
        let patch = encode_patch(&next, d.stamp, Part::State);
        let mut read = d.clone();
        lay_over(&mut read, &patch, &names()).unwrap();
        prop_assert_eq!(&read, &next);
        prop_assert_eq!(read_heading(&patch).unwrap().base, Some(d.stamp));
        let last = next.clone();
        next.values.push((b"a new name of a value"[..].into(), value));
        next.value_stamps.put(b"a new name of a value", next.stamp);
        next.caller.generated_cseq = n;
        let patches = [
            encode_patch(&next, last.stamp, Part::Value(b"a new name of a value")),
            encode_patch(&next, last.stamp, Part::Generated { callee: None }),
        ];
        for patch in patches {
            lay_over(&mut read, &patch, &names()).unwrap();
        }
        prop_assert_eq!(&read, &next);
        let gone = encode_patch(&last, next.stamp, Part::Value(b"a new name of a value"));
        lay_over(&mut read, &gone, &names()).unwrap();
        prop_assert_eq!(read.values, last.values);
    }

    #[test]
    fn a_record_cut_off_is_refused_or_lacks_fields(d in any_dialog(), cut: u16) {
        let record = encode(&d, &names());
        let cut = record.slice(..usize::from(cut) % record.len());
        let _ = read_heading(&cut);
        let mut read = crate::replication::empty(d.id, &d.call_id);
        let _ = lay_over(&mut read, &cut, &names());
    }

    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>, d in any_dialog()) {
        let mut read = d;
        let _ = lay_over(&mut read, &bytes, &names());
        let _ = read_heading(&bytes.into());
    }
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let gone = encode_gone(DialogId { entry: 7, id: 8 }, Stamp { time_us: 5, node: 2 }, 99);
    let mut bytes = gone.to_vec();
    bytes.extend_from_slice(&[200, 1, 0, 9]);
    let head = read_heading(&bytes.into()).unwrap();
    assert_eq!((head.until_s, head.id.id, head.stamp.node), (Some(99), 8, 2));
}
