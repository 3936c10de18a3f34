//! A digest that two nodes compute alike: of what is replicated, in no order that is one node's
//! own, and without the stamp. Not keyed, and no secret.

use tandem_cluster::Digester;

use super::fields::{FlagNames, flag_names};
use crate::record::{Dialog, Leg, Val};

fn fold_leg(all: &mut Digester, leg: &Leg, lives: bool) {
    for text in leg.texts() {
        all.text(text);
    }
    // Nobody asks for the numbers of what has ended, and peers are not told of the last ones.
    let numbers = u64::from(leg.cseq) << 32 | u64::from(leg.generated_cseq);
    all.number(if lives { numbers } else { 0 });
}

/// The digest of a dialog; 0: it is in none. What has ended and owes nothing is about to be
/// forgotten, on each node in its own time.
pub(crate) fn digest(d: &Dialog, names: FlagNames<'_>) -> u64 {
    if !(d.state.is_answered() || (!d.state.is_alive() && d.answered_s != 0 && d.owes())) {
        return 0;
    }
    let mut all = Digester::default();
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
    fold_leg(&mut all, &d.caller, lives);
    all.text(d.to_tag());
    all.unordered(&d.callees, |one, leg| fold_leg(one, leg, lives));
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
    all.end_nonzero()
}
