//! Destinations by their addresses.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_dialog::Change;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::functions::{NO, YES, dialog, set_attrs, text};
use crate::load::{join, leave};
use crate::session::resources;
use crate::state::LoadBalancer;
use crate::table::Destination;

/// Where arguments 0 and 1 point to.
fn place(call: &mut Call<'_, '_, '_>) -> Result<(IpAddr, u16), Called> {
    let ip = text(call, 0);
    let Ok(ip) = ip.trim().trim_matches(['[', ']']).parse() else {
        return Err(call.complain(Level::Error, format!("{ip:?} is no address")));
    };
    let port = call.int(1).unwrap_or(0);
    match u16::try_from(port) {
        Ok(port) => Ok((ip, port)),
        Err(_) => Err(call.complain(Level::Error, format!("{port} is no port"))),
    }
}

/// The first destination there; a negative group is any.
fn at(
    state: &LoadBalancer,
    (ip, port): (IpAddr, u16),
    group: i64,
    fits: impl Fn(&Destination) -> bool,
) -> Option<Arc<Destination>> {
    let table = state.table();
    let mut all = table.all().iter();
    all.find(|of| (group < 0 || of.group == group) && of.is_at(ip, port) && fits(of)).cloned()
}

pub(crate) fn is_destination(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let place = match place(call) {
        Ok(place) => place,
        Err(called) => return called,
    };
    let group = call.int(2).map_or(-1, i64::from);
    let active = call.int(3).is_some_and(|active| active != 0);
    match at(&state, place, group, |of| !active || of.status.is_up()) {
        Some(of) => set_attrs(call, 4, &of),
        None => NO,
    }
}

pub(crate) fn count_call(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<LoadBalancer>() else { return NO };
    let place = match place(call) {
        Ok(place) => place,
        Err(called) => return called,
    };
    let resources = match resources(&text(call, 3)) {
        Ok(resources) => resources,
        Err(why) => return call.complain(Level::Error, why),
    };
    let group = call.int(2).map_or(-1, i64::from);
    let has = |of: &Destination| resources.iter().all(|name| of.resource(name).is_some());
    let Some(of) = at(&state, place, group, has) else {
        let (ip, port) = place;
        let text = format!("no destination at {ip}:{port} has these resources");
        return call.complain(Level::Info, text);
    };
    let undo = call.int(4).is_some_and(|undo| undo != 0);
    let id = match dialog(&state.dialogs, call) {
        Ok(id) => id,
        Err(called) => return called,
    };
    let change = if undo { leave } else { join };
    let changes = Change::Many(change(of.group, &of.uri, &resources));
    match state.dialogs.change(call.cx, id, changes) {
        Ok(done) if done.changed => YES,
        Ok(_) => NO,
        Err(why) => call.complain(Level::Error, why.to_string()),
    }
}
