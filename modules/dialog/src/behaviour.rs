//! What a dialog does on another node: one that was snapshotted and restored behaves as the
//! original, whatever happens to both.

use ahash::RandomState;
use proptest::prelude::*;
use tandem_clock::{MS, Now};

use crate::change::{Change, On, Origin, Refused};
use crate::flags::Flags;
use crate::id::DialogId;
use crate::index::Profile;
use crate::local::Local;
use crate::record::{
    Dialog, EndReason, Leg, Marker, Membership, Routes, Side, State, TAG_VALUE, Text, Val,
};
use crate::replication::{empty, fields};
use crate::table::{Sink, Table, Told};

const CALL_ID: &[u8] = b"call";
const START: Now = Now { mono_ns: 1_000_000 * MS, unix_ms: 1_800_000_000_000 };

/// Tells nobody.
struct Nobody;

impl Sink for Nobody {
    fn changed(&self, _: usize, _: &mut Dialog, _: Option<&Told>, _: Origin) -> u64 {
        0
    }
}

fn table() -> Table {
    let profile = |name: &str, has_value, marker| Profile { name: name.into(), has_value, marker };
    let profiles = vec![
        profile("p", true, Marker::Bin),
        profile("q", true, Marker::Local),
        profile("n", false, Marker::Local),
    ];
    Table::new(4096, profiles, RandomState::with_seeds(1, 2, 3, 4))
}

fn dialog(table: &Table) -> Dialog {
    let id = DialogId { entry: table.entry_of(CALL_ID), id: 7 };
    let start_s = START.unix_s() as u32;
    Dialog {
        start_s,
        lifetime_s: 100,
        expires_s: start_s + 100,
        caller: Leg { tag: b"f"[..].into(), ..Leg::default() },
        // A snapshot has a stamp.
        stamp: crate::record::Stamp { time_us: 1, node: 1 },
        ..empty(id, CALL_ID)
    }
}

fn word() -> impl Strategy<Value = Text> {
    "[a-c]{0,2}".prop_map(|s| s.into_bytes().into())
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Caller), Just(Side::Callee)]
}

fn value() -> impl Strategy<Value = Option<Val>> {
    prop::option::of(prop_oneof![word().prop_map(Val::Str), (-2i32..3).prop_map(Val::Int)])
}

fn membership() -> impl Strategy<Value = Membership> {
    prop_oneof![
        word().prop_map(|value| (b"p"[..].into(), value, Marker::Bin)),
        word().prop_map(|value| (b"q"[..].into(), value, Marker::Local)),
        Just((b"n"[..].into(), Text::default(), Marker::Local)),
    ]
    .prop_map(|(name, value, marker)| Membership { name, value, marker })
}

/// What messages and time do.
fn event() -> impl Strategy<Value = Change> {
    let leg = (word(), word(), word(), 0u32..5).prop_map(|(tag, contact, sdp_in, cseq)| {
        Change::Leg(Box::new(Leg { tag, contact, sdp_in, cseq, ..Leg::default() }))
    });
    let reason = (0..EndReason::ALL.len()).prop_map(|at| EndReason::ALL[at]);
    prop_oneof![
        leg,
        Just(Change::Ringing),
        word().prop_map(|tag| Change::Answered { tag }),
        Just(Change::Acked),
        reason.prop_map(|reason| Change::Ended { reason }),
        (side(), 0u8..3, 0u32..9).prop_map(|(towards, callee, cseq)| Change::Seen {
            towards,
            callee,
            cseq,
            last: false,
        }),
        (side(), 0u8..3, 0u32..9).prop_map(|(towards, callee, cseq)| Change::Generated {
            towards,
            callee,
            cseq
        }),
        (side(), 0u8..3, prop::option::of(word()), prop::option::of(word())).prop_map(
            |(side, callee, contact, sdp)| Change::Refreshed { side, callee, contact, sdp }
        ),
        (side(), 0u8..3, word()).prop_map(|(side, callee, sdp)| Change::Sent { side, callee, sdp }),
        (word(), word()).prop_map(|(from, to)| Change::Mangled { from, to }),
        (side(), 0u8..3, word()).prop_map(|(side, callee, contact)| Change::Advertised {
            side,
            callee,
            contact
        }),
    ]
}

/// What scripts, operators and modules do.
fn wish() -> impl Strategy<Value = Change> {
    let name = prop_oneof![word(), Just(Text::from(TAG_VALUE))];
    let on = prop_oneof![Just(On::Answer), Just(On::Timeout), Just(On::Hangup)];
    let flags = (0u32..1 << 21).prop_map(|bits| Flags(bits & !Flags::LOCAL.0 & !Flags::UNSTORED.0));
    prop_oneof![
        (name, value()).prop_map(|(name, value)| Change::Value { name, value }),
        (membership(), any::<bool>())
            .prop_map(|(membership, alone)| Change::Join { membership, alone }),
        (membership(), any::<bool>()).prop_map(|(m, all)| Change::Leave {
            name: m.name,
            marker: m.marker,
            value: (!all).then_some(m.value),
        }),
        (0u8..3, any::<bool>()).prop_map(|(bit, on)| Change::UserFlag { bit, on }),
        (flags.clone(), flags).prop_map(|(set, clear)| Change::Flags { set, clear }),
        (0u32..90).prop_map(|seconds| Change::Lifetime { seconds }),
        (0u32..90).prop_map(|seconds| Change::DeleteDelay { seconds }),
        (on, word()).prop_map(|(on, name)| Change::Route { on, name }),
        (word(), word()).prop_map(|(module, bytes)| {
            Change::Section { module, bytes: bytes.into_vec().into() }
        }),
    ]
}

/// A change, and the milliseconds before it.
fn step() -> impl Strategy<Value = (Change, u64)> {
    (prop_oneof![event(), wish()], 0u64..3_000)
}

/// What somebody sees of a change.
fn outcome(
    table: &Table,
    now: Now,
    id: DialogId,
    change: &Change,
) -> Result<(State, State, bool), Refused> {
    let done = table.apply(now, id, Origin::Local, &Nobody, change.clone())?;
    Ok((done.before, done.after, done.changed))
}

/// Every field of a dialog but its stamp; a new one has to be judged here.
fn fields_of(d: &Dialog) -> impl PartialEq + std::fmt::Debug + use<> {
    let Dialog {
        id,
        call_id,
        from_uri,
        to_uri,
        mangled_from,
        mangled_to,
        start_s,
        answered_s,
        ended_s,
        state,
        end_reason,
        invite_cseq,
        caller,
        callees,
        answered,
        values,
        profiles,
        user_flags,
        module_flags,
        flags,
        lifetime_s,
        expires_s,
        delete_delay_s,
        routes,
        sections,
        debt,
        creator,
        stamp: _,
        value_stamps: _,
        terms: _,
    } = d.clone();
    let Routes { on_answer, on_timeout, on_hangup } = routes;
    (
        (id, call_id, from_uri, to_uri, mangled_from, mangled_to, start_s, answered_s, ended_s),
        (state, end_reason, invite_cseq, caller, callees, answered, values, profiles),
        (user_flags, module_flags, flags, lifetime_s, expires_s, delete_delay_s),
        (on_answer, on_timeout, on_hangup, sections, debt, creator),
    )
}

/// What is found of a dialog by its indexes.
fn found(table: &Table) -> impl PartialEq + std::fmt::Debug + use<> {
    let all = |at: usize| {
        (table.profiles.values(at, &|_| true), table.profiles.size(at, None, &|tag| tag != b"a"))
    };
    let tags = ["", "a", "b", "ab"].map(|tag| table.find(CALL_ID, b"f", tag.as_bytes()));
    (all(0), all(1), all(2), tags, table.of_call(CALL_ID), table.ids())
}

fn recounted(table: &Table) -> bool {
    let (states, memberships) = table.recount();
    let all = [1, 2, 3, 4, 5].map(|n| State::from_number(n).unwrap());
    let sizes = (0..3).map(|at| table.profiles.size(at, None, &|_| true)).sum::<usize>();
    all.iter().all(|state| table.in_state(*state) == states[*state as usize])
        && sizes == memberships
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_restored_dialog_behaves_as_the_original(
        before in prop::collection::vec(step(), 0..25),
        after in prop::collection::vec(step(), 0..25)
    ) {
        let (original, restored) = (table(), table());
        let dialog = dialog(&original);
        let (id, mut now) = (dialog.id, START);
        original.insert(now, dialog, Local::default(), Origin::Local, &Nobody).unwrap();
        for (change, ms) in &before {
            now = now.plus_ns(ms * MS);
            let _ = outcome(&original, now, id, change);
            prop_assert!(recounted(&original));
        }
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let snapshot = original.read(id, |e| fields::encode(&e.dialog, &names)).unwrap();
        let mut copy = empty(id, CALL_ID);
        prop_assert!(fields::lay_over(&mut copy, &snapshot, &names).is_some());
        restored.insert(now, copy, Local::default(), Origin::Peer { node: 2 }, &Nobody).unwrap();
        for (change, ms) in &after {
            now = now.plus_ns(ms * MS);
            let ours = outcome(&original, now, id, change);
            prop_assert_eq!(ours, outcome(&restored, now, id, change));
            let of = |table: &Table| table.read(id, |e| fields_of(&e.dialog));
            prop_assert_eq!(of(&original), of(&restored));
            prop_assert_eq!(found(&original), found(&restored));
            prop_assert!(recounted(&original) && recounted(&restored));
        }
        for table in [&original, &restored] {
            table.remove(id);
            prop_assert!(recounted(table) && table.is_empty());
        }
    }
}
