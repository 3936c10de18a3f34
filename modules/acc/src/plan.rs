//! What a dialog keeps of a call's account until its end.
//!
//! The values of the fields stand in values of the dialog, packed as stock nodes pack them, so
//! that either kind of node can write the record of a call that the other kind has set up:
//! `accX_core` (the standard fields and the time of the answer), `accX_extra`, `accX_leg`,
//! `accX_flags`, `accX_table` and `accX_created`. Numbers are little endian; a text has its length
//! in two bytes before it.
//!
//! What stock nodes have no place for stands in the section of this module: the tags of the fields,
//! since another node may declare them in another order. Its fields, since version 1: a number
//! without a meaning any more, tags of the extra fields, tags of the leg fields.

use bytes::{BufMut, Bytes};
use tandem_db::Name;
use tandem_dialog::record::{Dialog, Text, Val};

use crate::account::State;
use crate::cdr::{Cdr, CdrId};
use crate::fields::{FIELDS_MAX, Fields, Values};
use crate::marks::{ACC, Backend, CDR, FAILED, MISSED, Marks};
use crate::pack::{Reader, put_text};
use crate::record::Record;

const CORE: &[u8] = b"accX_core";
const EXTRA: &[u8] = b"accX_extra";
const LEG: &[u8] = b"accX_leg";
const FLAGS: &[u8] = b"accX_flags";
const TABLE: &[u8] = b"accX_table";
const CREATED: &[u8] = b"accX_created";
const VERSION: u8 = 1;
/// The call is accounted with its dialog.
const WITH_DIALOG: u8 = 2;
const LEGS_MAX: usize = crate::account::LEGS_MAX;

/// What a call that ends is to leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Without its end.
    pub(crate) cdr: Cdr,
    pub(crate) marks: Marks,
    pub(crate) table: Option<Name>,
}

/// Whether a dialog has a plan, of whatever kind of node.
pub(crate) fn is_in(dialog: &Dialog) -> bool {
    dialog.value(CORE).is_some()
}

/// The values that keep a plan.
pub(crate) fn values(
    record: &Record,
    state: &State,
    table: &Name,
    (extra, legs): (&Fields, &Fields),
) -> Vec<(Text, Val)> {
    let mut core = Vec::with_capacity(128);
    let texts = [
        &record.method,
        &record.from_tag,
        &record.to_tag,
        &record.call_id,
        &record.code,
        &record.reason,
    ];
    texts.into_iter().for_each(|text| put_text(&mut core, text));
    core.put_u16_le(16);
    core.put_u64_le(record.time_s());
    core.put_u64_le(record.time_ms % 1000 * 1000);
    let table = state.table.as_ref().unwrap_or(table);
    let mut all = vec![
        (TABLE.into(), Val::Str(table.as_bytes().into())),
        (CREATED.into(), Val::Str(Box::new(record.created_s().to_le_bytes()))),
        (FLAGS.into(), Val::Str(Box::new(flags(state.marks)))),
    ];
    if !extra.is_empty() {
        all.push((EXTRA.into(), Val::Str(pack_extra(&state.extra, extra).into())));
    }
    all.extend(legs_value(state, legs));
    all.push((CORE.into(), Val::Str(core.into())));
    all
}

/// The value that keeps the extra fields.
pub(crate) fn extra_value(state: &State, extra: &Fields) -> (Text, Val) {
    (EXTRA.into(), Val::Str(pack_extra(&state.extra, extra).into()))
}

/// The value that keeps the legs, if there are any.
pub(crate) fn legs_value(state: &State, legs: &Fields) -> Option<(Text, Val)> {
    if state.legs.is_empty() || legs.is_empty() {
        return None;
    }
    let mut packed = Vec::new();
    packed.put_u16_le(state.legs.len() as u16);
    for leg in &state.legs {
        (0..legs.tags.len()).for_each(|at| put_text(&mut packed, leg.text(at)));
    }
    Some((LEG.into(), Val::Str(packed.into())))
}

fn pack_extra(values: &Values, fields: &Fields) -> Vec<u8> {
    let mut packed = Vec::new();
    packed.put_u16_le(fields.tags.len() as u16);
    (0..fields.tags.len()).for_each(|at| put_text(&mut packed, values.text(at)));
    packed
}

/// The section beside the values.
pub(crate) fn section(extra: &Fields, legs: &Fields) -> Bytes {
    let mut out = vec![VERSION];
    out.put_u64_le(0);
    for fields in [extra, legs] {
        out.put_u16_le(fields.tags.len() as u16);
        fields.tags.iter().for_each(|tag| put_text(&mut out, tag));
    }
    out.into()
}

/// The byte of a backend: stock nodes count log, aaa, db, diameter, evi.
fn byte_of(backend: Backend) -> usize {
    match backend {
        Backend::Log => 0,
        Backend::Aaa => 1,
        Backend::Db => 2,
        Backend::Evi => 4,
    }
}

fn flags(marks: Marks) -> [u8; 8] {
    let mut out = [0; 8];
    for backend in Backend::ALL {
        if let Some(place) = out.get_mut(byte_of(backend)) {
            *place = marks.of(backend);
        }
    }
    out[6] = WITH_DIALOG;
    out
}

fn read_flags(bytes: &[u8]) -> Marks {
    let mut marks = Marks::default();
    for backend in Backend::ALL {
        let flags = bytes.get(byte_of(backend)).copied().unwrap_or(0);
        marks.add(backend, flags & (ACC | CDR | MISSED | FAILED));
    }
    marks
}

/// Reads the plan of a dialog; `None`: it has none, or one that cannot be read.
pub(crate) fn read(dialog: &Dialog, extra: &Fields, legs: &Fields) -> Option<Plan> {
    // The texts share one copy.
    let packed = Bytes::copy_from_slice(text_of(dialog, CORE)?);
    let mut core = Reader(&packed);
    let texts = core.texts::<6>()?.map(|text| packed.slice_ref(text));
    let mut time = Reader(core.text()?);
    let answered_ms = time.u64()?.checked_mul(1000)?.checked_add(time.u64()? / 1000)?;
    let created_ms = created_s(dialog).checked_mul(1000)?;
    let section = dialog.section("acc").and_then(|bytes| Section::read(bytes));
    let (extra_tags, leg_tags) = match section {
        Some(Section { extra, legs }) => (extra, legs),
        None => (extra.tags.clone(), legs.tags.clone()),
    };
    let [method, from_tag, to_tag, call_id, code, reason] = texts;
    let time_ms = answered_ms;
    let core = Record { method, from_tag, to_tag, call_id, code, reason, time_ms, created_ms };
    let table = text_of(dialog, TABLE).and_then(|t| std::str::from_utf8(t).ok());
    let table = table.filter(|t| tandem_db::check_name(t).is_ok());
    Some(Plan {
        cdr: Cdr {
            core,
            extra: text_of(dialog, EXTRA)
                .and_then(|t| unpack_extra(t, &extra_tags, extra))
                .unwrap_or_default(),
            legs: text_of(dialog, LEG)
                .and_then(|t| unpack_legs(t, &leg_tags, legs))
                .unwrap_or_default(),
            created_ms,
            answered_ms,
            ended_ms: 0,
            hops: hops(dialog),
        },
        marks: read_flags(text_of(dialog, FLAGS).unwrap_or_default()),
        table: table.map(|t| t.to_owned().into()),
    })
}

/// The identity of the record that a dialog owes, and where it goes; what [`read`] would say.
pub(crate) fn identity(dialog: &Dialog) -> Option<(CdrId, Marks)> {
    let mut core = Reader(text_of(dialog, CORE)?);
    let [_, from_tag, to_tag, call_id, ..] = core.texts::<6>()?;
    let id = CdrId::of_call(call_id, (from_tag, to_tag), created_s(dialog), hops(dialog));
    Some((id, read_flags(text_of(dialog, FLAGS).unwrap_or_default())))
}

/// Unix seconds of the INVITE.
fn created_s(dialog: &Dialog) -> u64 {
    let created_s = text_of(dialog, CREATED).and_then(|t| Reader(t).u64());
    created_s.unwrap_or(u64::from(dialog.start_s))
}

/// The routes towards the caller.
fn hops(dialog: &Dialog) -> usize {
    dialog.caller.route_set.iter().filter(|b| **b == b'<').count()
}

fn text_of<'a>(dialog: &'a Dialog, name: &[u8]) -> Option<&'a [u8]> {
    match dialog.value(name)? {
        Val::Str(text) => Some(text),
        Val::Int(_) => None,
    }
}

fn unpack_extra(packed: &[u8], tags: &[Bytes], own: &Fields) -> Option<Values> {
    let mut reader = Reader(packed);
    let count = usize::from(reader.u16()?).min(FIELDS_MAX);
    unpack(&mut reader, tags.get(..count.min(tags.len()))?, own)
}

fn unpack_legs(packed: &[u8], tags: &[Bytes], own: &Fields) -> Option<Vec<Values>> {
    let mut reader = Reader(packed);
    let count = usize::from(reader.u16()?).min(LEGS_MAX);
    (0..count).map(|_| unpack(&mut reader, tags, own)).collect()
}

/// Values in the order of `tags`, put where this node has those tags.
fn unpack(reader: &mut Reader<'_>, tags: &[Bytes], own: &Fields) -> Option<Values> {
    let mut values = Values::default();
    for tag in tags {
        let value = reader.text()?;
        if let Some(at) = own.position(tag).filter(|_| !value.is_empty()) {
            values.set(at, Some(Bytes::copy_from_slice(value)));
        }
    }
    Some(values)
}

struct Section {
    extra: Vec<Bytes>,
    legs: Vec<Bytes>,
}

impl Section {
    /// A later version may have more behind what is known.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let mut reader = Reader(rest);
        let _number = reader.u64()?;
        let extra = reader.tags()?;
        let legs = reader.tags()?;
        (*version >= VERSION).then_some(Self { extra, legs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a stock node was seen to have them, for `do_accounting("db|log",
    /// "cdr|missed|failed")` and two extra fields of which the second one was not set.
    const SEEN_CORE: &[u8] = b"\x06\x00INVITE\x05\x00cbob2\x07\x00uaalice\
        \x17\x00call-0.5538328904474118\x03\x00200\x02\x00OK\
        \x10\x00]\xf7\x03k\x00\x00\x00\x00\x96M\x0e\x00\x00\x00\x00\x00";
    const SEEN_CREATED: &[u8] = b"]\xf7\x03k\x00\x00\x00\x00";
    const SEEN_FLAGS: &[u8] = b"\x0f\x00\x0f\x00\x00\x00\x02\x00";
    const SEEN_EXTRA: &[u8] = b"\x02\x00\n\x00127.0.1.51\x00\x00";

    fn fields(text: &str) -> Fields {
        let mut fields = Fields::default();
        fields.declare(text).unwrap();
        fields
    }

    fn dialog(values: Vec<(Text, Val)>, section: Bytes) -> Dialog {
        let mut dialog = Dialog::empty(tandem_dialog::DialogId { entry: 1, id: 2 });
        dialog.values = values;
        if !section.is_empty() {
            dialog.sections = vec![(b"acc"[..].into(), section)];
        }
        dialog
    }

    fn seen() -> (Record, State) {
        let time_ms = 1_795_422_045_937;
        let text = |t: &'static str| Bytes::from_static(t.as_bytes());
        let record = Record {
            method: text("INVITE"),
            from_tag: text("cbob2"),
            to_tag: text("uaalice"),
            call_id: text("call-0.5538328904474118"),
            code: text("200"),
            reason: text("OK"),
            time_ms,
            created_ms: 1_795_422_045_000,
        };
        let mut state = State::default();
        state.marks.add(Backend::Log, ACC | CDR | MISSED | FAILED);
        state.marks.add(Backend::Db, ACC | CDR | MISSED | FAILED);
        state.extra.set(0, Some(text("127.0.1.51")));
        (record, state)
    }

    #[test]
    fn the_plan_of_a_stock_node_is_read() {
        let value = |name: &[u8], value: &[u8]| (name.into(), Val::Str(value.into()));
        let values = vec![
            value(TABLE, b"acc"),
            value(CREATED, SEEN_CREATED),
            value(FLAGS, SEEN_FLAGS),
            value(EXTRA, SEEN_EXTRA),
            value(CORE, SEEN_CORE),
        ];
        let extra = fields("log: src_ip; gw->gateway");
        let plan = read(&dialog(values, Bytes::new()), &extra, &Fields::default()).unwrap();
        let (record, state) = seen();
        assert_eq!((plan.cdr.core.clone(), plan.cdr.extra.clone()), (record, state.extra));
        assert_eq!((plan.marks, plan.table.as_deref()), (state.marks, Some("acc")));
        assert_eq!(
            (plan.cdr.answered_ms, plan.cdr.created_s()),
            (1_795_422_045_937, 1_795_422_045)
        );
    }

    #[test]
    fn a_plan_is_written_as_stock_nodes_write_it() {
        let (record, state) = seen();
        let extra = fields("log: src_ip; gw->gateway");
        let all = values(&record, &state, &"acc".into(), (&extra, &Fields::default()));
        let of = |name: &[u8]| match all.iter().find(|(n, _)| **n == *name) {
            Some((_, Val::Str(text))) => text.to_vec(),
            other => panic!("{other:?}"),
        };
        // The clock of this node counts milliseconds.
        let core = of(CORE);
        assert_eq!(core.get(..core.len() - 8), SEEN_CORE.get(..SEEN_CORE.len() - 8));
        assert_eq!((of(CREATED), of(FLAGS)), (SEEN_CREATED.to_vec(), SEEN_FLAGS.to_vec()));
        assert_eq!((of(EXTRA), of(TABLE)), (SEEN_EXTRA.to_vec(), b"acc".to_vec()));
        assert!(!all.iter().any(|(name, _)| **name == *LEG));
    }

    #[test]
    fn fields_are_found_by_their_tags() {
        let (record, mut state) = seen();
        let legs = fields("db: from; to");
        let mut leg = Values::default();
        leg.set(1, Some(Bytes::from_static(b"bob")));
        state.legs = vec![leg, Values::default()];
        let extra = fields("log: src_ip; gw");
        let all = values(&record, &state, &"acc".into(), (&extra, &legs));
        let section = section(&extra, &legs);
        let (extra, legs) = (fields("log: gw; src_ip"), fields("db: to"));
        let dialog = dialog(all, section);
        let plan = read(&dialog, &extra, &legs).unwrap();
        assert_eq!((plan.cdr.extra.text(1), plan.cdr.extra.get(0)), (&b"127.0.1.51"[..], None));
        assert_eq!((plan.cdr.legs.len(), plan.cdr.legs[0].text(0)), (2, &b"bob"[..]));
        assert_eq!(identity(&dialog), Some((plan.cdr.id(), plan.marks)));
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_a_panic(
            core in proptest::collection::vec(any::<u8>(), 0..80),
            extra in proptest::collection::vec(any::<u8>(), 0..40),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
            cut in 0usize..100,
        ) {
            let value = |name: &[u8], value: &[u8]| (name.into(), Val::Str(value.into()));
            let seen = SEEN_CORE.get(..cut).unwrap_or(SEEN_CORE);
            for core in [seen, &core] {
                let values = vec![
                    value(CORE, core), value(EXTRA, &extra), value(LEG, &extra),
                    value(FLAGS, &rest), value(CREATED, &rest), value(TABLE, &rest),
                ];
                let dialog = dialog(values, Bytes::from(rest.clone()));
                let read = read(&dialog, &fields("log: a; b"), &fields("log: c"));
                if let Some(plan) = read {
                    prop_assert_eq!(identity(&dialog).map(|(id, _)| id), Some(plan.cdr.id()));
                }
            }
        }
    }
}
