//! Dialogs in the words of the stock protocol.

use bytes::Bytes;
use tandem_bin::dialog as wire;
use tandem_bin::dialog::entries;

use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{
    Dialog, Leg, Marker, Membership, PROFILES_MAX, Side, State, Text, VALUE_BYTES_MAX, VALUES_MAX,
    Val,
};

/// A dialog as stock peers read it.
pub(crate) fn full(d: &Dialog) -> wire::FullDialog {
    let bytes = |text: &Text| Bytes::copy_from_slice(text);
    let empty = Leg::default();
    wire::FullDialog {
        call_id: bytes(&d.call_id),
        from_uri: bytes(&d.from_uri),
        to_uri: bytes(&d.to_uri),
        id: d.id.id,
        start_unix_s: started(d),
        state: d.state.number().into(),
        caller: leg(&d.caller),
        callee: leg(d.callee().unwrap_or(&empty)),
        mangled_from: bytes(&d.mangled_from),
        mangled_to: bytes(&d.mangled_to),
        variables: variables(d).into(),
        profiles: profiles(d).into(),
        user_flags: d.user_flags,
        module_flags: d.module_flags,
        flags: d.flags.without(Flags::LOCAL).0,
        expires_unix_s: d.expires_s,
        on_answer: bytes(&d.routes.on_answer),
        on_timeout: bytes(&d.routes.on_timeout),
        on_hangup: bytes(&d.routes.on_hangup),
    }
}

/// When a dialog began, as peers and databases know it: with its answer.
pub(crate) fn started(d: &Dialog) -> u32 {
    if d.answered_s != 0 { d.answered_s } else { d.start_s }
}

fn leg(leg: &Leg) -> wire::Leg {
    let bytes = |text: &Text| Bytes::copy_from_slice(text);
    wire::Leg {
        tag: bytes(&leg.tag),
        socket: bytes(&leg.socket),
        cseq: leg.cseq.to_string().into(),
        route_set: bytes(&leg.route_set),
        contact: bytes(&leg.contact),
        sdp_in: bytes(&leg.sdp_in),
        sdp_out: bytes(&leg.sdp_out),
        advertised_contact: bytes(&leg.advertised),
        last_generated_cseq: leg.generated_cseq as i32,
    }
}

/// The values as one text.
pub(crate) fn variables(d: &Dialog) -> Vec<u8> {
    let value = |value: &Val| match value {
        Val::Str(text) => entries::Value::Text(Bytes::copy_from_slice(text)),
        Val::Int(n) => entries::Value::Int(*n),
    };
    let all: Vec<_> = d.values.iter().map(|(name, v)| (&name[..], value(v))).collect();
    entries::encode(all.iter().map(|(name, value)| (*name, value)))
}

/// The profiles as one text, with the markers behind their names.
pub(crate) fn profiles(d: &Dialog) -> Vec<u8> {
    let entry = |p: &Membership| {
        let name = [&p.name[..], p.marker.suffix().as_bytes()].concat();
        (name, entries::Value::Text(Bytes::copy_from_slice(&p.value)))
    };
    let all: Vec<_> = d.profiles.iter().map(entry).collect();
    entries::encode(all.iter().map(|(name, value)| (&name[..], value)))
}

/// What a peer is told again of a dialog. Of one that it changed last itself it knows better: it
/// takes whatever it is told, and would go back to what it said before a separation. An end is
/// told again all the same, as a sync may have brought the dialog back to it.
pub(crate) fn again(d: &Dialog, peer: u32) -> Option<wire::DialogPacket> {
    if !d.state.is_answered() {
        return Some(wire::DialogPacket::Deleted(name(d)));
    }
    (d.stamp.node != peer).then(|| wire::DialogPacket::Updated(Box::new(full(d))))
}

/// How packets name a dialog.
pub(crate) fn name(d: &Dialog) -> wire::DialogName {
    wire::DialogName {
        call_id: Bytes::copy_from_slice(&d.call_id),
        from_tag: Bytes::copy_from_slice(&d.caller.tag),
        to_tag: Bytes::copy_from_slice(d.to_tag()),
        id: Some(d.id.id),
    }
}

/// The packet about a number that this node made up towards a side.
pub(crate) fn cseq(d: &Dialog, towards: Side) -> Option<wire::DialogPacket> {
    let mut name = name(d);
    if towards == Side::Caller {
        std::mem::swap(&mut name.from_tag, &mut name.to_tag);
    }
    let cseq = d.leg(towards)?.generated_cseq as i32;
    Some(wire::DialogPacket::Cseq { name, cseq })
}

/// The packet about one value.
pub(crate) fn value(d: &Dialog, name: &[u8]) -> wire::DialogPacket {
    let value = d.value(name).map(|value| match value {
        Val::Str(text) => entries::Value::Text(Bytes::copy_from_slice(text)),
        Val::Int(n) => entries::Value::Int(*n),
    });
    wire::DialogPacket::Value {
        call_id: Bytes::copy_from_slice(&d.call_id),
        id: d.id.id,
        name: Bytes::copy_from_slice(name),
        value,
    }
}

/// The value of a packet.
pub(crate) fn val(value: &entries::Value) -> Val {
    match value {
        entries::Value::Text(text) => Val::Str(text[..].into()),
        entries::Value::Int(n) => Val::Int(*n),
    }
}

/// Reads a text of values; `None`: it cannot be read, or there are more than a dialog has.
pub(crate) fn read_variables(text: &[u8]) -> Option<Vec<(Text, Val)>> {
    let all = entries::decode(text).ok()?;
    let fits = |value: &entries::Value| match value {
        entries::Value::Text(text) => text.len() <= VALUE_BYTES_MAX,
        entries::Value::Int(_) => true,
    };
    let in_bounds = all.len() <= VALUES_MAX && all.iter().all(|(_, value)| fits(value));
    in_bounds.then(|| all.iter().map(|(name, value)| (name[..].into(), val(value))).collect())
}

/// Reads a text of profiles; `None`: it cannot be read, or there are more than a dialog is in.
pub(crate) fn read_profiles(text: &[u8]) -> Option<Vec<Membership>> {
    let all = entries::decode(text).ok()?;
    let one = |(name, value): &(Bytes, entries::Value)| {
        let (name, marker) = match &name[..] {
            [name @ .., b'/', b'b'] => (name, Marker::Bin),
            [name @ .., b'/', b's'] => (name, Marker::Cache),
            name => (name, Marker::Local),
        };
        match value {
            entries::Value::Text(value) => {
                Some(Membership { name: name.into(), value: value[..].into(), marker })
            }
            entries::Value::Int(_) => None,
        }
    };
    if all.len() > PROFILES_MAX {
        return None;
    }
    all.iter().map(one).collect()
}

/// The dialog of a packet; `None`: it contradicts itself.
pub(crate) fn dialog(entry: u32, p: &wire::FullDialog, creator: u32) -> Option<Dialog> {
    let text = |bytes: &Bytes| -> Text { bytes[..].into() };
    let state = u32::try_from(p.state).ok().and_then(State::from_number)?;
    let whole = state.is_answered()
        && p.id != 0
        && !p.call_id.is_empty()
        && !p.caller.tag.is_empty()
        && !p.callee.tag.is_empty();
    if !whole {
        return None;
    }
    let id = DialogId { entry, id: p.id };
    let mut d = super::empty(id, &p.call_id);
    d.from_uri = text(&p.from_uri);
    d.to_uri = text(&p.to_uri);
    d.mangled_from = text(&p.mangled_from);
    d.mangled_to = text(&p.mangled_to);
    (d.start_s, d.answered_s) = (p.start_unix_s, p.start_unix_s);
    d.state = state;
    d.caller = read_leg(&p.caller);
    d.invite_cseq = number(&p.callee.cseq);
    d.callees.push(read_leg(&p.callee));
    d.answered = Some(0);
    d.values = read_variables(&p.variables)?;
    d.profiles = read_profiles(&p.profiles)?;
    d.user_flags = p.user_flags;
    d.flags = Flags(p.flags).without(Flags::LOCAL).without(Flags::UNSTORED);
    d.expires_s = p.expires_unix_s;
    d.lifetime_s = p.expires_unix_s.saturating_sub(p.start_unix_s);
    d.routes.on_answer = text(&p.on_answer);
    d.routes.on_timeout = text(&p.on_timeout);
    d.routes.on_hangup = text(&p.on_hangup);
    d.creator = creator;
    Some(d)
}

fn read_leg(leg: &wire::Leg) -> Leg {
    let text = |bytes: &Bytes| -> Text { bytes[..].into() };
    Leg {
        tag: text(&leg.tag),
        contact: text(&leg.contact),
        route_set: text(&leg.route_set),
        socket: text(&leg.socket),
        sdp_in: text(&leg.sdp_in),
        sdp_out: text(&leg.sdp_out),
        advertised: text(&leg.advertised_contact),
        cseq: number(&leg.cseq),
        generated_cseq: u32::try_from(leg.last_generated_cseq).unwrap_or(0),
    }
}

/// A number in decimal text; 0 where it is none.
pub(crate) fn number(text: &[u8]) -> u32 {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What a stock node takes over from an update of a dialog that it knows: values that the packet
/// lacks stay, profiles are added, what a call is set up with stays.
pub(crate) fn update(ours: &Dialog, told: &Dialog) -> Dialog {
    let mut d = ours.clone();
    d.state = ours.state.max(told.state);
    let (caller, callee) = (&told.caller, told.callee());
    take_over(&mut d.caller, caller);
    if let Some(callee) = callee
        && let Some(known) = d.callees.iter_mut().find(|leg| leg.tag == callee.tag)
    {
        take_over(known, callee);
    }
    (d.user_flags, d.expires_s) = (told.user_flags, told.expires_s);
    let local = Flags(Flags::LOCAL.0 | Flags::UNSTORED.0);
    d.flags = told.flags.without(local).with(Flags(ours.flags.0 & local.0));
    for (name, value) in &told.values {
        let room = d.values.len() < VALUES_MAX;
        match d.values.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => old.clone_from(value),
            None if room => d.values.push((name.clone(), value.clone())),
            None => {}
        }
    }
    for profile in &told.profiles {
        if d.profiles.len() < PROFILES_MAX && !d.profiles.contains(profile) {
            d.profiles.push(profile.clone());
        }
    }
    d.routes.clone_from(&told.routes);
    d
}

/// CSeqs never go back: between Tandem nodes a packet may come late.
fn take_over(leg: &mut Leg, told: &Leg) {
    leg.cseq = leg.cseq.max(told.cseq);
    leg.contact.clone_from(&told.contact);
    leg.sdp_in.clone_from(&told.sdp_in);
    leg.sdp_out.clone_from(&told.sdp_out);
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::any_dialog;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_stock_protocol_has_a_place_for_survives(mut d in any_dialog()) {
            d.callees.truncate(1);
            prop_assume!(!d.callees.is_empty() && !d.caller.tag.is_empty());
            prop_assume!(!d.callees[0].tag.is_empty());
            // RFC 3261 8.1.1.5: numbers are below 2^31.
            d.caller.generated_cseq &= 0x7fff_ffff;
            d.callees[0].generated_cseq &= 0x7fff_ffff;
            (d.state, d.answered, d.answered_s) = (State::Confirmed, Some(0), d.start_s);
            let told = full(&d);
            prop_assume!(d.profiles.iter().all(|p| !p.name.contains(&b'/')));
            let read = dialog(1, &told, d.creator).unwrap();
            prop_assert_eq!(full(&read), told);
            prop_assert_eq!((read.values, read.profiles), (d.values, d.profiles));
        }
    }

    #[test]
    fn a_stock_node_is_not_told_again_what_it_said_last_itself() {
        let mut d = Dialog::empty(DialogId { entry: 1, id: 2 });
        d.state = State::Confirmed;
        d.stamp.node = 2;
        assert_eq!(again(&d, 2), None);
        assert!(matches!(again(&d, 3), Some(wire::DialogPacket::Updated(_))));
        d.state = State::Deleted;
        assert!(matches!(again(&d, 2), Some(wire::DialogPacket::Deleted(_))));
    }

    #[test]
    fn a_packet_that_contradicts_itself_is_no_dialog() {
        let leg = wire::Leg { tag: "t".into(), cseq: "7".into(), ..wire::Leg::default() };
        let good = wire::FullDialog {
            call_id: "c".into(),
            id: 5,
            state: 4,
            caller: leg.clone(),
            callee: leg,
            ..wire::FullDialog::default()
        };
        assert_eq!(dialog(1, &good, 2).unwrap().callee().unwrap().cseq, 7);
        let bad: [fn(&mut wire::FullDialog); 7] = [
            |p| p.state = 5,
            |p| p.state = -1,
            |p| p.id = 0,
            |p| p.call_id = Bytes::new(),
            |p| p.callee.tag = Bytes::new(),
            |p| p.variables = "a#1#b".into(),
            |p| p.profiles = "a#2#5|".into(),
        ];
        for (at, spoil) in bad.iter().enumerate() {
            let mut packet = good.clone();
            spoil(&mut packet);
            assert_eq!(dialog(1, &packet, 2), None, "{at}");
        }
    }
}
