//! What scripts call to choose a destination.

use std::sync::Arc;

use tandem_dialog::{Change, Created, DialogId, Dialogs, Flags as DialogFlags};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::value::Value;
use tandem_targets::{Becomes, Origin};

use crate::choose::{Flags, None as Nowhere, choose};
use crate::load::{join, leave_current, room};
use crate::session::{Session, resources};
use crate::state::LoadBalancer;
use crate::table::Destination;
use crate::targets::{DISABLED, Key};

pub(crate) const YES: Called = Called::Returned(1);
pub(crate) const NO: Called = Called::Returned(-1);
/// All destinations are full.
const FULL: Called = Called::Returned(-2);
/// No destination is enabled.
const NO_DESTINATION: Called = Called::Returned(-3);
/// No destination has such a resource.
const BAD_RESOURCES: Called = Called::Returned(-4);
/// The module's section in a dialog.
const SECTION: &str = "load_balancer";

pub(crate) fn text(call: &Call<'_, '_, '_>, index: usize) -> String {
    String::from_utf8_lossy(&call.text(index)).into_owned()
}

/// The session of a call, if it has one.
fn session(dialogs: &Dialogs, call: &Call<'_, '_, '_>) -> Option<(DialogId, Session)> {
    let id = dialogs.current(call.ctx)?.id;
    let read = dialogs.read(id, |d| d.section(SECTION).and_then(|bytes| Session::parse(bytes)));
    Some((id, read??))
}

fn section(session: Option<&Session>) -> Change {
    let bytes = session.map(Session::to_bytes).unwrap_or_default();
    Change::Section { module: SECTION.as_bytes().into(), bytes }
}

/// The dialog of the call, which is made if there is none.
pub(crate) fn dialog(dialogs: &Dialogs, call: &mut Call<'_, '_, '_>) -> Result<DialogId, Called> {
    match dialogs.create(call.cx, call.ctx, DialogFlags::default()) {
        Ok(Created::New | Created::Known) => {}
        Ok(Created::DealtWith) => return Err(Called::Returned(0)),
        Err(why) => return Err(call.complain(Level::Error, format!("{}: {why}", call.site.name))),
    }
    dialogs.current(call.ctx).map(|current| current.id).ok_or(NO)
}

pub(crate) fn start(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let wanted = Flags::parse(&text(call, 2)).and_then(|f| Ok((f, resources(&text(call, 1))?)));
    let (flags, resources) = match wanted {
        Ok(wanted) => wanted,
        Err(why) => {
            call.complain(Level::Error, why);
            return BAD_RESOURCES;
        }
    };
    let table = state.table();
    let unknown = table.unknown(&resources);
    if let Some(name) = unknown.first() {
        let near = tandem_script::nearest(name, table.resource_names());
        let near = near.map(|n| format!(", did you mean \"{n}\"?")).unwrap_or_default();
        call.complain(Level::Error, format!("no destination has resource \"{name}\"{near}"));
        return BAD_RESOURCES;
    }
    let id = match dialog(&state.dialogs, call) {
        Ok(id) => id,
        Err(called) => return called,
    };
    // One that has begun begins again.
    let old = session(&state.dialogs, call).map(|(_, session)| session);
    let group = i64::from(call.int(0).unwrap_or(-1));
    let new = Session { group, flags, resources, tried: Vec::new() };
    take(call, &state, id, old.as_ref(), new, 3)
}

pub(crate) fn start_or_next(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    match session(&state.dialogs, call) {
        None => start(call),
        Some((id, old)) => take(call, &state, id, Some(&old), old.clone(), 3),
    }
}

pub(crate) fn next(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let Some((id, old)) = session(&state.dialogs, call) else {
        return call.complain(Level::Error, "lb_start() was not called for this call");
    };
    take(call, &state, id, Some(&old), old.clone(), 0)
}

/// Chooses for a session, counts the call there and nowhere else, and sends it there.
fn take(
    call: &mut Call<'_, '_, '_>,
    state: &LoadBalancer,
    id: DialogId,
    old: Option<&Session>,
    mut new: Session,
    attrs: usize,
) -> Called {
    if new.is_full() {
        return NO_DESTINATION;
    }
    let chance = call.cx.worker.chance.u64();
    let chosen = {
        // Nobody else chooses between the look at the loads and the change of one, so that no
        // destination gets more than it can bear.
        let _turn = state.turn(new.group).lock();
        if let Some(old) = old {
            let _ = state.dialogs.change(call.cx, id, Change::Many(leave_current(old)));
        }
        let chosen = best(state, &new, chance);
        if let Ok(of) = &chosen {
            new.tried.push(of.uri.clone());
            let mut changes = join(of.group, &of.uri, &new.resources);
            changes.push(section(Some(&new)));
            let changed = state.dialogs.change(call.cx, id, Change::Many(changes));
            changed
                .map_err(|e| e.to_string())
                .and_then(|_| {
                    let is_in = session(&state.dialogs, call).is_some_and(|(_, kept)| kept == new);
                    is_in.then_some(()).ok_or_else(|| "the dialog has no room for it".to_owned())
                })
                .map(|()| chosen)
        } else {
            Ok(chosen)
        }
    };
    match chosen {
        Ok(Ok(of)) => go(call, &of, attrs),
        Ok(Err(Nowhere::Full)) => FULL,
        Ok(Err(Nowhere::NoDestination)) => NO_DESTINATION,
        Err(why) => call.complain(Level::Error, format!("the call cannot be counted: {why}")),
    }
}

/// The destination with the most room among those that were not tried.
fn best(state: &LoadBalancer, session: &Session, chance: u64) -> Result<Arc<Destination>, Nowhere> {
    let table = state.table();
    let usable = table
        .group(session.group)
        .filter(|of| of.status.is_up() && !session.tried.contains(&of.uri));
    let rooms = usable
        .filter_map(|of| Some((of, room(&state.dialogs, of, &session.resources, session.flags)?)));
    let (candidates, rooms): (Vec<_>, Vec<_>) = rooms.unzip();
    let at = choose(&rooms, session.flags, chance)?;
    candidates.get(at).map(|of| Arc::clone(of)).ok_or(Nowhere::NoDestination)
}

fn go(call: &mut Call<'_, '_, '_>, of: &Destination, attrs: usize) -> Called {
    call.ctx.target.dst_uri = Some(of.uri.clone());
    set_attrs(call, attrs, of)
}

/// Writes the attributes of a destination where the script wants them.
pub(crate) fn set_attrs(call: &mut Call<'_, '_, '_>, index: usize, of: &Destination) -> Called {
    if !call.given_var(index) {
        return YES;
    }
    match call.set_var(index, Value::str(of.attrs.as_bytes().to_vec())) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

pub(crate) fn reset(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let Some((id, old)) = session(&state.dialogs, call) else { return NO };
    let mut changes = leave_current(&old);
    changes.push(section(None));
    match state.dialogs.change(call.cx, id, Change::Many(changes)) {
        Ok(_) => YES,
        Err(why) => call.complain(Level::Error, why.to_string()),
    }
}

pub(crate) fn is_started(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    if session(&state.dialogs, call).is_some() { YES } else { NO }
}

pub(crate) fn disable(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let Some((_, session)) = session(&state.dialogs, call) else {
        return call.complain(Level::Error, "lb_start() was not called for this call");
    };
    let Some(uri) = session.current() else { return NO };
    let key = Key { group: session.group, uri: uri.clone() };
    let origin = Origin::Command("lb_disable_dst() in the script");
    match state.states.change(call.cx, &*state, &key, Becomes::With(DISABLED), origin) {
        tandem_targets::Outcome::Unknown => NO,
        _ => YES,
    }
}
