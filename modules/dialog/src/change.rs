//! What can happen to a dialog, and how it changes the record. Nothing else writes one.

use std::sync::Arc;

use bytes::Bytes;

use crate::flags::Flags;
use crate::record::{
    Debt, Dialog, EndReason, LEGS_MAX, Leg, Marker, Membership, PROFILES_MAX, SECTIONS_MAX, Side,
    Stamp, State, TAG_VALUE, Text, VALUE_BYTES_MAX, VALUES_MAX, Val,
};
use crate::replication::merge::merged;
use crate::replication::{fields, stock};
use crate::terms;

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This node: the peers are told.
    Local,
    /// Another node, which also deals with what follows; nothing echoes.
    Peer { node: u32 },
    /// Another node, which knows nothing of what follows: that is this node's.
    Heard { node: u32 },
    /// A row of a database.
    Database,
}

/// A route of the script for a moment of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Answer,
    Timeout,
    Hangup,
}

/// A change of one dialog.
#[derive(Clone, Debug)]
pub enum Change {
    /// A callee is heard of, or heard again before the answer.
    Leg(Box<Leg>),
    /// It rings.
    Ringing,
    /// The callee with this tag answered.
    Answered {
        tag: Text,
    },
    /// The ACK came.
    Acked,
    Ended {
        reason: EndReason,
    },
    /// It ended at these Unix seconds, which is known only now.
    EndedBefore {
        reason: EndReason,
        at_s: u32,
    },
    /// A request with this number went towards a side. Of the `last` one peers hear nothing: they
    /// hear of the end, and a stock peer that takes the two out of their order would have the
    /// dialog again.
    Seen {
        towards: Side,
        callee: u8,
        cseq: u32,
        last: bool,
    },
    /// This node made up a number towards a side.
    Generated {
        towards: Side,
        callee: u8,
        cseq: u32,
    },
    /// What a side told of itself: its Contact and its body.
    Refreshed {
        side: Side,
        callee: u8,
        contact: Option<Text>,
        sdp: Option<Text>,
    },
    /// The body that a side was sent instead of the other's.
    Sent {
        side: Side,
        callee: u8,
        sdp: Text,
    },
    /// From and To as the callee sees them.
    Mangled {
        from: Text,
        to: Text,
    },
    /// The Contact that a side is shown.
    Advertised {
        side: Side,
        callee: u8,
        contact: Text,
    },
    /// `None` removes it.
    Value {
        name: Text,
        value: Option<Val>,
    },
    /// Into a profile; `alone`: out of its other values.
    Join {
        membership: Membership,
        alone: bool,
    },
    /// Out of a profile; without a value out of all of them.
    Leave {
        name: Text,
        marker: Marker,
        value: Option<Text>,
    },
    /// A flag of the script.
    UserFlag {
        bit: u8,
        on: bool,
    },
    Flags {
        set: Flags,
        clear: Flags,
    },
    /// It lives so many seconds from now on.
    Lifetime {
        seconds: u32,
    },
    DeleteDelay {
        seconds: u32,
    },
    Route {
        on: On,
        name: Text,
    },
    /// The section of a module; empty: none.
    Section {
        module: Text,
        bytes: Bytes,
    },
    /// CDRs are owed, or paid.
    Debt(Option<Debt>),
    /// Several, each on its own: what is refused is left out.
    Many(Vec<Self>),
    /// What a peer's whole record says.
    Merge(Box<Dialog>),
    /// What a peer says has changed.
    Patch {
        record: Bytes,
        names: Arc<[String]>,
    },
    /// What a stock peer says of a dialog that is known.
    Stock(Box<Dialog>),
    /// A peer has forgotten the dialog after its end.
    Gone {
        stamp: Stamp,
    },
    /// Exactly this record, as a peer or a row says; the identity stays.
    Replace(Box<Dialog>),
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such dialog")]
    Unknown,
    #[error("the dialog has ended")]
    Over,
    #[error("the dialog has too many of them")]
    TooMany,
    #[error("the value is too long")]
    TooLong,
    #[error("too many dialogs")]
    Full,
    #[error("its fields are cut off or too many")]
    Malformed,
}

/// Carries a change out; false: it was so before.
pub(crate) fn apply(d: &mut Dialog, change: Change, now_s: u32) -> Result<bool, Refused> {
    match change {
        Change::Leg(leg) => hear_of(d, *leg),
        Change::Ringing => Ok(step(d, State::Early, d.state <= State::Unconfirmed)),
        Change::Answered { tag } => Ok(answered(d, &tag, now_s)),
        Change::Acked => Ok(step(d, State::Confirmed, d.state == State::Unacked)),
        Change::Ended { reason } => Ok(ended(d, reason, now_s)),
        Change::EndedBefore { reason, at_s } => Ok(ended(d, reason, at_s.min(now_s))),
        Change::Seen { towards, callee, cseq, .. } => on_leg(d, towards, callee, |leg| {
            let rises = cseq > leg.cseq;
            leg.cseq = leg.cseq.max(cseq);
            rises
        }),
        Change::Generated { towards, callee, cseq } => {
            d.flags = d.flags.with(Flags::CSEQ_ENFORCED);
            on_leg(d, towards, callee, |leg| set(&mut leg.generated_cseq, cseq))
        }
        Change::Refreshed { side, callee, contact, sdp } => on_leg(d, side, callee, |leg| {
            let contact = contact.is_some_and(|c| set(&mut leg.contact, c));
            sdp.is_some_and(|s| set(&mut leg.sdp_in, s)) | contact
        }),
        Change::Sent { side, callee, sdp } => {
            on_leg(d, side, callee, |leg| set(&mut leg.sdp_out, sdp))
        }
        Change::Mangled { from, to } => {
            Ok(set(&mut d.mangled_from, from) | set(&mut d.mangled_to, to))
        }
        Change::Advertised { side, callee, contact } => {
            on_leg(d, side, callee, |leg| set(&mut leg.advertised, contact))
        }
        Change::Many(all) => {
            let each = |changed, change| apply(d, change, now_s).unwrap_or(false) | changed;
            Ok(all.into_iter().fold(false, each))
        }
        Change::Replace(other) => Ok(replace(d, *other)),
        Change::Merge(theirs) => Ok(merge(d, &theirs)),
        Change::Patch { record, names } => {
            let mut theirs = d.clone();
            let laid = fields::lay_over(&mut theirs, &record, &names);
            laid.ok_or(Refused::Malformed)?;
            (theirs.id, theirs.call_id) = (d.id, d.call_id.clone());
            // What went before this patch is not here yet: it must still count as later when it
            // comes, by whatever way.
            let known = d.stamp;
            let lacks = fields::read_heading(&record).is_some_and(|h| h.base > Some(known));
            let changed = merge(d, &theirs);
            if lacks {
                d.stamp = known;
            }
            Ok(changed)
        }
        Change::Stock(told) => {
            let mut new = stock::update(d, &told);
            let rewritten = new.written_terms() != d.written_terms();
            new.write_terms(rewritten);
            let differs = new != *d;
            new.stamp = d.stamp.max(told.stamp);
            Ok(differs && set(d, new))
        }
        Change::Gone { stamp } => Ok(gone(d, stamp, now_s)),
        other => apply_data(d, other, now_s),
    }
}

/// The changes that scripts and operators make.
fn apply_data(d: &mut Dialog, change: Change, now_s: u32) -> Result<bool, Refused> {
    match change {
        Change::Value { name, value } => set_value(d, name, value),
        Change::Join { membership, alone } => join(d, membership, alone),
        Change::Leave { name, marker, value } => {
            let before = d.profiles.len();
            d.profiles.retain(|p| {
                let is_it = p.name == name && p.marker == marker;
                !is_it || value.as_ref().is_some_and(|v| p.value != *v)
            });
            Ok(d.profiles.len() != before)
        }
        Change::UserFlag { bit, on } => {
            let mask = 1u32.checked_shl(u32::from(bit)).unwrap_or(0);
            let flags = if on { d.user_flags | mask } else { d.user_flags & !mask };
            let changed = set(&mut d.user_flags, flags);
            Ok(d.write_terms(changed))
        }
        Change::Flags { set: more, clear } => {
            let flags = d.flags.with(more).without(clear);
            let changed = set(&mut d.flags, flags);
            d.write_terms(changed && terms::is_among(more.with(clear)));
            Ok(changed)
        }
        Change::Lifetime { seconds } => {
            let expires_s = now_s.saturating_add(seconds);
            let changed = set(&mut d.lifetime_s, seconds) | set(&mut d.expires_s, expires_s);
            Ok(d.write_terms(changed))
        }
        Change::DeleteDelay { seconds } => {
            let changed = set(&mut d.delete_delay_s, Some(seconds));
            Ok(d.write_terms(changed))
        }
        Change::Route { on, name } => {
            let routes = &mut d.routes;
            let route = match on {
                On::Answer => &mut routes.on_answer,
                On::Timeout => &mut routes.on_timeout,
                On::Hangup => &mut routes.on_hangup,
            };
            Ok(set(route, name))
        }
        Change::Section { module, bytes } => set_section(d, module, bytes),
        Change::Debt(debt) => Ok(set(&mut d.debt, debt)),
        // The rest is carried out by `apply`.
        _ => Ok(false),
    }
}

fn merge(d: &mut Dialog, theirs: &Dialog) -> bool {
    let both = merged(d, theirs);
    both.is_some_and(|both| set(d, both))
}

fn ended(d: &mut Dialog, reason: EndReason, at_s: u32) -> bool {
    let ends = d.state.is_alive();
    if ends {
        d.end_reason = Some(reason);
        d.ended_s = at_s;
        let is_bye = matches!(reason, EndReason::UpstreamBye | EndReason::DownstreamBye);
        d.flags = if is_bye { d.flags.with(Flags::BYE_SEEN) } else { d.flags };
    }
    step(d, State::Deleted, ends)
}

/// The peer that forgot it has seen to what was owed.
fn gone(d: &mut Dialog, stamp: Stamp, now_s: u32) -> bool {
    if let Some(debt) = &mut d.debt {
        debt.paid = true;
    }
    let ends = d.state.is_alive();
    if ends {
        (d.end_reason, d.ended_s) = (Some(EndReason::Peer), now_s);
    }
    d.stamp = d.stamp.max(stamp);
    step(d, State::Deleted, ends)
}

fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
    let differs = *place != value;
    *place = value;
    differs
}

fn step(d: &mut Dialog, to: State, may: bool) -> bool {
    if may {
        d.state = to;
    }
    may
}

fn on_leg(
    d: &mut Dialog,
    side: Side,
    callee: u8,
    change: impl FnOnce(&mut Leg) -> bool,
) -> Result<bool, Refused> {
    let leg = match side {
        Side::Caller => Some(&mut d.caller),
        Side::Callee => d.callees.get_mut(usize::from(callee)),
    };
    leg.map(change).ok_or(Refused::Unknown)
}

/// A callee is known by its tag; what it says before the answer replaces what it said.
fn hear_of(d: &mut Dialog, leg: Leg) -> Result<bool, Refused> {
    if let Some(known) = d.callees.iter_mut().find(|known| known.tag == leg.tag) {
        let changed = (!leg.contact.is_empty() && set(&mut known.contact, leg.contact))
            | (!leg.route_set.is_empty() && set(&mut known.route_set, leg.route_set))
            | (!leg.sdp_in.is_empty() && set(&mut known.sdp_in, leg.sdp_in));
        return Ok(changed);
    }
    if d.callees.len() >= LEGS_MAX {
        return Err(Refused::TooMany);
    }
    d.callees.push(leg);
    Ok(true)
}

/// A 2xx beats an end that no BYE made: the caller has been answered after all.
fn answered(d: &mut Dialog, tag: &[u8], now_s: u32) -> bool {
    let over = d.state == State::Deleted && d.flags.has(Flags::BYE_SEEN);
    if d.state.is_answered() || over || (d.state == State::Deleted && d.answered.is_some()) {
        return false;
    }
    d.answered = d.callee_at(tag);
    d.answered_s = now_s;
    d.expires_s = now_s.saturating_add(d.lifetime_s);
    d.write_terms(true);
    (d.end_reason, d.ended_s) = (None, 0);
    if d.flags.has(Flags::CANCELLED) {
        d.flags = d.flags.with(Flags::RACE);
    }
    step(d, State::Unacked, true)
}

fn set_value(d: &mut Dialog, name: Text, value: Option<Val>) -> Result<bool, Refused> {
    let at = d.values.iter().position(|(n, _)| *n == name);
    let Some(value) = value else {
        if let Some(at) = at {
            d.values.remove(at);
            d.value_stamps.touch(&name);
        }
        return Ok(at.is_some());
    };
    if name.len() > VALUE_BYTES_MAX || matches!(&value, Val::Str(s) if s.len() > VALUE_BYTES_MAX) {
        return Err(Refused::TooLong);
    }
    if let Some((_, old)) = at.and_then(|at| d.values.get_mut(at)) {
        let differs = set(old, value);
        if differs {
            d.value_stamps.touch(&name);
        }
        return Ok(differs);
    }
    if d.values.len() >= VALUES_MAX {
        return Err(Refused::TooMany);
    }
    d.value_stamps.touch(&name);
    d.values.push((name, value));
    Ok(true)
}

fn join(d: &mut Dialog, membership: Membership, alone: bool) -> Result<bool, Refused> {
    if !d.state.is_alive() {
        return Err(Refused::Over);
    }
    let before = d.profiles.len();
    if alone {
        d.profiles.retain(|p| {
            let is_it = p.name == membership.name && p.marker == membership.marker;
            !is_it || p.value == membership.value
        });
    }
    let left = before != d.profiles.len();
    if d.profiles.contains(&membership) {
        return Ok(left);
    }
    if d.profiles.len() >= PROFILES_MAX {
        return Err(Refused::TooMany);
    }
    d.profiles.push(membership);
    Ok(true)
}

fn set_section(d: &mut Dialog, module: Text, bytes: Bytes) -> Result<bool, Refused> {
    let at = d.sections.iter().position(|(name, _)| *name == module);
    if bytes.is_empty() {
        d.sections.retain(|(name, _)| *name != module);
        return Ok(at.is_some());
    }
    if let Some((_, old)) = at.and_then(|at| d.sections.get_mut(at)) {
        return Ok(set(old, bytes));
    }
    if d.sections.len() >= SECTIONS_MAX {
        return Err(Refused::TooMany);
    }
    d.sections.push((module, bytes));
    Ok(true)
}

fn replace(d: &mut Dialog, other: Dialog) -> bool {
    let other = Dialog { id: d.id, call_id: d.call_id.clone(), ..other };
    set(d, other)
}

impl Change {
    /// A value of the sharing tag.
    pub fn tag(tag: &str) -> Self {
        let value = Some(Val::Str(tag.as_bytes().into()));
        Self::Value { name: TAG_VALUE.into(), value }
    }
}
