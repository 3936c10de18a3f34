//! A dialog as Tandem nodes tell it to each other: everything that the stock protocol has no
//! place for included.
//!
//! A record is a list of fields: number (1 byte), length (2 bytes, little endian), value.
//! Integers are 8 bytes, little endian. A field that is absent has its default, or in a patch the
//! value it had. A reader skips numbers it does not know; adding a field is free, and a number is never used again.
//! History:
//!
//! Version 1: 1 Call-ID, 2 dialog id, 3 From URI, 4 To URI, 5 mangled From, 6 mangled To, 7 start,
//! 8 answer, 9 end, 10 state, 11 end reason, 12 CSeq of the INVITE, 13 caller, 14 callee (repeats),
//! 15 one more than the place of the callee that answered, 16 value (repeats), 17 profile (repeats),
//! 18 names of user flags, 19 flags, 20 lifetime, 21 expiry, 22 one more than the delay of the
//! delete, 23 to 25 routes on answer, on timeout, on hangup, 26 section (repeats), 27 identities of
//! owed CDRs, 28 node that owes them, 29 they are paid, 30 creator, 31 stamp (microseconds),
//! 32 node of the stamp, 33 and 34 the stamp that a patch is for, 35 Unix seconds up to which the
//! end is remembered (its presence makes the record one of a dialog that is gone), 36 value to be
//! set among the others, 37 name of a value to be removed, 38 generated CSeq of the caller,
//! 39 place of a callee, 40 its generated CSeq, 41 where the CDRs are written to, 42 Unix
//! milliseconds of the end that they are owed for, 43 when a value was written (repeats), 44 epoch
//! under which lifetime, delay and flags were written, 45 and 46 the stamp of that. A patch leaves
//! those as they are.
//!
//! Inside a leg: 1 tag, 2 contact, 3 route set, 4 socket, 5 SDP in, 6 SDP out, 7 advertised contact,
//! 8 CSeq, 9 generated CSeq. Inside a value: 1 name, 2 text, 3 number raised by 2^31. Inside a
//! profile: 1 name, 2 value, 3 where it is counted (0 here, 1 all nodes, 2 a store). Inside a
//! section: 1 module, 2 content. With the stamp of a value: 1 name, 2 microseconds, 3 node.

use bytes::Bytes;
use tandem_cluster::fields::{Fields, fields, int32, integer};

use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{
    DEBTS_MAX, Debt, Dialog, EndReason, LEGS_MAX, Leg, Marker, Membership, PROFILES_MAX,
    SECTIONS_MAX, Stamp, State, Terms, Text, VALUES_MAX, Val,
};

/// Version of the encoding.
pub(crate) const VERSION: u16 = 1;
/// What is read off the front of a record: whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) call_id: Bytes,
    pub(crate) id: DialogId,
    pub(crate) stamp: Stamp,
    /// The record is a patch of the dialog as it was under this stamp.
    pub(crate) base: Option<Stamp>,
    /// The dialog is gone; its end is remembered up to these Unix seconds.
    pub(crate) until_s: Option<u32>,
}

/// The names of the user flags, in the order of their bits.
pub(crate) type FlagNames<'a> = &'a [String];

/// A whole record.
pub(crate) fn encode(d: &Dialog, names: FlagNames<'_>) -> Bytes {
    let mut w = Fields::with_capacity(1024);
    heading(&mut w, d, None);
    body(&mut w, d, names);
    w.into_bytes().into()
}

/// What a patch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The state, with what an answer, an ACK and an end change, and the debt.
    State,
    /// One value.
    Value(&'a [u8]),
    /// The number that a node made up towards the caller, or a callee.
    Generated { callee: Option<u8> },
}

/// A part of a record, for those who have it as it was under `base`.
pub(crate) fn encode_patch(d: &Dialog, base: Stamp, part: Part<'_>) -> Bytes {
    let mut w = Fields::with_capacity(192);
    heading(&mut w, d, Some(base));
    w.put_number(19, told_flags(d));
    match part {
        Part::State => {
            w.put_number(8, d.answered_s.into());
            w.put_number(9, d.ended_s.into());
            w.put_number(10, d.state.number().into());
            w.put_number(11, d.end_reason.map_or(0, |reason| reason as u64));
            w.put_number(15, d.answered.map_or(0, |at| u64::from(at) + 1));
            debt(&mut w, d.debt.as_ref());
        }
        Part::Value(name) => match d.values.iter().find(|(n, _)| **n == *name) {
            Some(found) => w.put(36, &value(found)),
            None => w.put(37, name),
        },
        Part::Generated { callee: None } => w.put_number(38, d.caller.generated_cseq.into()),
        Part::Generated { callee: Some(at) } => {
            let leg = d.callees.get(usize::from(at));
            w.put_number(39, at.into());
            w.put_number(40, leg.map_or(0, |leg| leg.generated_cseq.into()));
        }
    }
    w.into_bytes().into()
}

/// The record of a dialog that is gone.
pub(crate) fn encode_gone(id: DialogId, stamp: Stamp, until_s: u32) -> Bytes {
    let mut w = Fields::with_capacity(64);
    w.put_number(2, id.number());
    stamps(&mut w, 31, stamp);
    w.put_number(35, until_s.into());
    w.into_bytes().into()
}

fn heading(w: &mut Fields, d: &Dialog, base: Option<Stamp>) {
    w.put(1, &d.call_id);
    w.put_number(2, d.id.number());
    stamps(w, 31, d.stamp);
    if let Some(base) = base {
        stamps(w, 33, base);
    }
}

fn stamps(w: &mut Fields, n: u8, stamp: Stamp) {
    w.put_number(n, stamp.time_us);
    w.put_number(n + 1, stamp.node.into());
}

fn told_flags(d: &Dialog) -> u64 {
    d.flags.without(Flags::LOCAL).without(Flags::UNSTORED).0.into()
}

/// Writes what is not as in an empty dialog.
fn body(w: &mut Fields, d: &Dialog, names: FlagNames<'_>) {
    let (routes, flags) = (&d.routes, flag_names(d.user_flags, names));
    for (n, text) in [
        (3, &d.from_uri[..]),
        (4, &d.to_uri),
        (5, &d.mangled_from),
        (6, &d.mangled_to),
        (18, &flags),
        (23, &routes.on_answer),
        (24, &routes.on_timeout),
        (25, &routes.on_hangup),
    ] {
        if !text.is_empty() {
            w.put(n, text);
        }
    }
    for (n, number) in [
        (7, d.start_s.into()),
        (8, d.answered_s.into()),
        (9, d.ended_s.into()),
        (10, d.state.number().into()),
        (11, d.end_reason.map_or(0, |reason| reason as u64)),
        (12, d.invite_cseq.into()),
        (15, d.answered.map_or(0, |at| u64::from(at) + 1)),
        (19, told_flags(d)),
        (20, d.lifetime_s.into()),
        (21, d.expires_s.into()),
        (22, d.delete_delay_s.map_or(0, |s| u64::from(s) + 1)),
        (30, d.creator.into()),
    ] {
        if number != 0 {
            w.put_number(n, number);
        }
    }
    w.put(13, &leg(&d.caller));
    d.callees.iter().for_each(|one| w.put(14, &leg(one)));
    d.values.iter().for_each(|one| w.put(16, &value(one)));
    d.value_stamps.encoded().for_each(|one| w.put(43, &one));
    d.profiles.iter().for_each(|one| w.put(17, &membership(one)));
    d.sections.iter().for_each(|one| w.put(26, &section(one)));
    if d.debt.is_some() {
        debt(w, d.debt.as_ref());
    }
    if d.terms != Terms::NONE {
        w.put_number(44, d.terms.epoch);
        stamps(w, 45, d.terms.stamp);
    }
}

fn debt(w: &mut Fields, debt: Option<&Debt>) {
    let ids = debt.map(|debt| &debt.ids[..]).unwrap_or_default();
    let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    w.put(27, &ids);
    w.put_number(28, debt.map_or(0, |debt| debt.node.into()));
    w.put_number(29, debt.map_or(0, |debt| debt.paid.into()));
    w.put_number(41, debt.map_or(0, |debt| debt.place));
    w.put_number(42, debt.map_or(0, |debt| debt.ended_ms));
}

fn leg(leg: &Leg) -> Vec<u8> {
    let texts = leg.texts();
    let bytes: usize = texts.iter().map(|text| text.len() + 3).sum();
    let mut w = Fields::with_capacity(bytes + 22);
    for (n, text) in (1..).zip(texts) {
        if !text.is_empty() {
            w.put(n, text);
        }
    }
    w.put_number(8, leg.cseq.into());
    w.put_number(9, leg.generated_cseq.into());
    w.into_bytes()
}

fn value((name, value): &(Text, Val)) -> Vec<u8> {
    let mut w = Fields::with_capacity(32);
    w.put(1, name);
    match value {
        Val::Str(text) => w.put(2, text),
        Val::Int(n) => w.put_number(3, (i64::from(*n) - i64::from(i32::MIN)) as u64),
    }
    w.into_bytes()
}

fn membership(m: &Membership) -> Vec<u8> {
    let mut w = Fields::with_capacity(32);
    w.put(1, &m.name);
    w.put(2, &m.value);
    w.put_number(3, m.marker as u64);
    w.into_bytes()
}

fn section((module, content): &(Text, Bytes)) -> Vec<u8> {
    let mut w = Fields::with_capacity(16 + module.len() + content.len());
    w.put(1, module);
    w.put(2, content);
    w.into_bytes()
}

/// Names of the set flags, separated by spaces.
pub(crate) fn flag_names(set: u32, names: FlagNames<'_>) -> Vec<u8> {
    let is_set = |(bit, _): &(u32, &String)| set >> bit & 1 == 1;
    let names: Vec<&str> = (0..32).zip(names).filter(is_set).map(|(_, n)| &**n).collect();
    names.join(" ").into_bytes()
}

pub(crate) fn flag_bits(text: &[u8], names: FlagNames<'_>) -> u32 {
    let bit = |name: &[u8]| names.iter().take(32).position(|n| n.as_bytes() == name);
    text.split(|b| *b == b' ').filter_map(bit).fold(0, |bits, at| bits | 1 << at)
}

/// Whom a record is about; `None`: it is no record.
pub(crate) fn read_heading(record: &Bytes) -> Option<Heading> {
    let mut head = Heading {
        call_id: Bytes::new(),
        id: DialogId { entry: 0, id: 0 },
        stamp: Stamp { time_us: 0, node: 0 },
        base: None,
        until_s: None,
    };
    let mut base = Stamp { time_us: 0, node: 0 };
    for field in fields(record) {
        let (n, value) = field?;
        match n {
            1 => head.call_id = record.slice_ref(value),
            2 => head.id = DialogId::from_number(integer(value)?),
            31 => head.stamp.time_us = integer(value)?,
            32 => head.stamp.node = int32(value)?,
            33 => base.time_us = integer(value)?,
            34 => base.node = int32(value)?,
            35 => head.until_s = Some(int32(value)?),
            _ => {}
        }
    }
    head.base = (base.time_us != 0).then_some(base);
    let is_named = !head.call_id.is_empty() || head.until_s.is_some();
    (is_named && head.id.id != 0 && head.stamp.time_us != 0).then_some(head)
}

/// Lays a record over `d`: an empty dialog, or for a patch the dialog as it is known here.
/// `None`: it is no record, or too much of one.
pub(crate) fn lay_over(d: &mut Dialog, record: &[u8], names: FlagNames<'_>) -> Option<()> {
    let (mut place, mut is_patch) = (0, false);
    let terms = (d.terms, d.written_terms());
    for field in fields(record) {
        let (n, value) = field?;
        match n {
            13 => d.caller = read_leg(value)?,
            14 if d.callees.len() < LEGS_MAX => d.callees.push(read_leg(value)?),
            16 if d.values.len() < VALUES_MAX => d.values.push(read_value(value)?),
            17 if d.profiles.len() < PROFILES_MAX => d.profiles.push(read_membership(value)?),
            26 if d.sections.len() < SECTIONS_MAX => d.sections.push(read_section(value)?),
            14 | 16 | 17 | 26 => return None,
            18 => d.user_flags = flag_bits(value, names),
            27 => {
                let ids = read_ids(value)?;
                let (node, place, paid, ended_ms) = (0, 0, false, 0);
                let debt = Debt { ids, node, place, paid, ended_ms };
                d.debt = (!debt.ids.is_empty()).then_some(debt);
            }
            28 => {
                let node = int32(value)?;
                d.debt.iter_mut().for_each(|debt| debt.node = node);
            }
            29 => {
                let paid = integer(value)? != 0;
                d.debt.iter_mut().for_each(|debt| debt.paid = paid);
            }
            41 => {
                let place = integer(value)?;
                d.debt.iter_mut().for_each(|debt| debt.place = place);
            }
            42 => {
                let ended_ms = integer(value)?;
                d.debt.iter_mut().for_each(|debt| debt.ended_ms = ended_ms);
            }
            33 => is_patch = true,
            43 => d.value_stamps.lay(value)?,
            44 => d.terms.epoch = integer(value)?,
            45 => d.terms.stamp.time_us = integer(value)?,
            46 => d.terms.stamp.node = int32(value)?,
            36 | 37 => lay_value(d, n, value)?,
            38 => d.caller.generated_cseq = int32(value)?,
            39 => place = usize::try_from(integer(value)?).ok()?,
            40 => d.callees.get_mut(place)?.generated_cseq = int32(value)?,
            1..=12 | 15 | 19..=25 | 30..=32 => lay_plain(d, n, value)?,
            _ => {}
        }
    }
    d.answered = d.answered.filter(|at| usize::from(*at) < d.callees.len());
    if is_patch {
        d.take_terms(terms.0, terms.1);
    }
    Some(())
}

/// One value among the others: set, or removed.
fn lay_value(d: &mut Dialog, n: u8, value: &[u8]) -> Option<()> {
    if n == 37 {
        d.value_stamps.put(value, d.stamp);
        d.values.retain(|(name, _)| **name != *value);
        return Some(());
    }
    let (name, value) = read_value(value)?;
    d.value_stamps.put(&name, d.stamp);
    let room = d.values.len() < VALUES_MAX;
    match d.values.iter_mut().find(|(n, _)| *n == name) {
        Some((_, old)) => *old = value,
        None if room => d.values.push((name, value)),
        None => return None,
    }
    Some(())
}

fn lay_plain(d: &mut Dialog, n: u8, value: &[u8]) -> Option<()> {
    let text = || -> Text { value.into() };
    match n {
        1 => d.call_id = text(),
        2 => d.id = DialogId::from_number(integer(value)?),
        3 => d.from_uri = text(),
        4 => d.to_uri = text(),
        5 => d.mangled_from = text(),
        6 => d.mangled_to = text(),
        7 => d.start_s = int32(value)?,
        8 => d.answered_s = int32(value)?,
        9 => d.ended_s = int32(value)?,
        10 => d.state = State::from_number(int32(value)?)?,
        11 => d.end_reason = u8::try_from(integer(value)?).ok().and_then(EndReason::from_number),
        12 => d.invite_cseq = int32(value)?,
        15 => d.answered = u8::try_from(integer(value)?).ok()?.checked_sub(1),
        19 => {
            let local = d.flags.0 & (Flags::LOCAL.0 | Flags::UNSTORED.0);
            let told = Flags(int32(value)?).without(Flags::LOCAL).without(Flags::UNSTORED);
            d.flags = told.with(Flags(local));
        }
        20 => d.lifetime_s = int32(value)?,
        21 => d.expires_s = int32(value)?,
        22 => d.delete_delay_s = int32(value)?.checked_sub(1),
        23 => d.routes.on_answer = text(),
        24 => d.routes.on_timeout = text(),
        25 => d.routes.on_hangup = text(),
        30 => d.creator = int32(value)?,
        31 => d.stamp.time_us = integer(value)?,
        _ => d.stamp.node = int32(value)?,
    }
    Some(())
}

fn read_leg(bytes: &[u8]) -> Option<Leg> {
    let mut leg = Leg::default();
    for field in fields(bytes) {
        let (n, value) = field?;
        match n {
            1 => leg.tag = value.into(),
            2 => leg.contact = value.into(),
            3 => leg.route_set = value.into(),
            4 => leg.socket = value.into(),
            5 => leg.sdp_in = value.into(),
            6 => leg.sdp_out = value.into(),
            7 => leg.advertised = value.into(),
            8 => leg.cseq = int32(value)?,
            9 => leg.generated_cseq = int32(value)?,
            _ => {}
        }
    }
    Some(leg)
}

fn read_value(bytes: &[u8]) -> Option<(Text, Val)> {
    let (mut name, mut val) = (Text::default(), None);
    for field in fields(bytes) {
        let (n, value) = field?;
        match n {
            1 => name = value.into(),
            2 => val = Some(Val::Str(value.into())),
            3 => val = Some(Val::Int(int32(value)?.wrapping_add(i32::MIN as u32) as i32)),
            _ => {}
        }
    }
    Some((name, val?))
}

fn read_membership(bytes: &[u8]) -> Option<Membership> {
    let (name, value, marker) = (Text::default(), Text::default(), Marker::Local);
    let mut m = Membership { name, value, marker };
    for field in fields(bytes) {
        let (n, value) = field?;
        match n {
            1 => m.name = value.into(),
            2 => m.value = value.into(),
            3 => {
                m.marker = match integer(value)? {
                    0 => Marker::Local,
                    1 => Marker::Bin,
                    2 => Marker::Cache,
                    _ => return None,
                }
            }
            _ => {}
        }
    }
    Some(m)
}

fn read_section(bytes: &[u8]) -> Option<(Text, Bytes)> {
    let (mut module, mut content) = (Text::default(), Bytes::new());
    for field in fields(bytes) {
        let (n, value) = field?;
        match n {
            1 => module = value.into(),
            2 => content = Bytes::copy_from_slice(value),
            _ => {}
        }
    }
    Some((module, content))
}

fn read_ids(ids: &[u8]) -> Option<Vec<u64>> {
    let (ids, rest) = ids.as_chunks::<8>();
    let fits = rest.is_empty() && ids.len() <= DEBTS_MAX;
    fits.then(|| ids.iter().map(|id| u64::from_le_bytes(*id)).collect())
}

#[cfg(test)]
pub(super) mod tests;
