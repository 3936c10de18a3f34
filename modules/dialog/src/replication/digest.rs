//! A digest that two nodes compute alike: of what is replicated, in no order that is one node's
//! own, and without the stamp. Not keyed, and no secret.

use super::fields::{FlagNames, flag_names};
use crate::record::{Dialog, Leg, Val};

/// Folds fields into 64 bits; what strangers could gain by a collision is a late repair.
struct Digester(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

impl Digester {
    fn number(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n) * u128::from(FACTOR);
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(SEED).rotate_left(23);
    }

    /// A text with its length, so that texts beside each other cannot trade bytes.
    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        for chunk in text.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Things in whatever order.
    fn unordered<T>(&mut self, all: &[T], each: impl Fn(&mut Self, &T)) {
        let one = |item: &T| {
            let mut one = Self(SEED);
            each(&mut one, item);
            one.end()
        };
        let sum = all.iter().map(one).fold(0u64, u64::wrapping_add);
        self.number(sum);
    }

    fn leg(&mut self, leg: &Leg, lives: bool) {
        for text in [
            &leg.tag,
            &leg.contact,
            &leg.route_set,
            &leg.socket,
            &leg.sdp_in,
            &leg.sdp_out,
            &leg.advertised,
        ] {
            self.text(text);
        }
        // Nobody asks for the numbers of what has ended, and peers are not told of the last ones.
        let numbers = u64::from(leg.cseq) << 32 | u64::from(leg.generated_cseq);
        self.number(if lives { numbers } else { 0 });
    }

    fn end(mut self) -> u64 {
        self.number(FACTOR);
        // 0 stands for what is in no digest.
        self.0 | 1
    }
}

/// The digest of a dialog; 0: it is in none. What has ended and owes nothing is about to be
/// forgotten, on each node in its own time.
pub(crate) fn digest(d: &Dialog, names: FlagNames<'_>) -> u64 {
    if !(d.state.is_answered() || (!d.state.is_alive() && d.answered_s != 0 && d.owes())) {
        return 0;
    }
    let mut all = Digester(SEED);
    all.number(d.id.number());
    for text in [
        &d.call_id,
        &d.from_uri,
        &d.to_uri,
        &d.mangled_from,
        &d.mangled_to,
        &d.routes.on_answer,
        &d.routes.on_timeout,
        &d.routes.on_hangup,
    ] {
        all.text(text);
    }
    all.number(d.state.number().into());
    all.number(d.end_reason.map_or(0, |reason| reason as u64));
    for (high, low) in [
        (d.start_s, d.answered_s),
        (d.ended_s, d.expires_s),
        (d.lifetime_s, d.delete_delay_s.map_or(0, |s| s.saturating_add(1))),
        (d.flags.without(crate::flags::Flags::LOCAL).0 & !(1 << 9), d.creator),
    ] {
        all.number(u64::from(high) << 32 | u64::from(low));
    }
    all.text(&flag_names(d.user_flags, names));
    let lives = d.state.is_alive();
    all.leg(&d.caller, lives);
    all.text(d.to_tag());
    all.unordered(&d.callees, |one, leg| one.leg(leg, lives));
    all.unordered(&d.values, |one, (name, value)| {
        one.text(name);
        match value {
            Val::Str(text) => one.text(text),
            Val::Int(n) => one.number(*n as u64),
        }
    });
    all.unordered(&d.profiles, |one, profile| {
        one.text(&profile.name);
        one.text(&profile.value);
        one.number(profile.marker as u64);
    });
    all.unordered(&d.sections, |one, (module, content)| {
        one.text(module);
        one.text(content);
    });
    if let Some(debt) = &d.debt {
        all.unordered(&debt.ids, |one, id| one.number(*id));
        all.number(debt.paid.into());
    }
    all.end()
}
