//! Script functions.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::sockets::SocketId;
use tandem_engine::uri_edit::{Part as UriPart, with_part};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::value::Value;
use tandem_sip::Uri;
use tandem_targets::Origin;

use crate::params::Avps;
use crate::select::{Algorithm, order};
use crate::sets::{Destination, INACTIVE, PROBING, Sets};
use crate::state::{Dispatcher, Part};
use crate::targets::Wish;

pub(crate) const YES: Called = Called::Returned(1);
pub(crate) const NO: Called = Called::Returned(-1);
/// The set has no destination.
const NO_SET: Called = Called::Returned(-2);
/// Stands for no socket in a list whose places count.
const NONE: &[u8] = b"-";
/// Destinations that one choice leaves to try.
const TRIED_MAX: usize = 256;

/// Flags of ds_select_dst().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) failover: bool,
    pub(crate) user_only: bool,
    pub(crate) last_is_default: bool,
    pub(crate) appends: bool,
}

impl Flags {
    fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != ',') {
            let flag = match letter.to_ascii_lowercase() {
                'f' => &mut flags.failover,
                'u' => &mut flags.user_only,
                'd' => &mut flags.last_is_default,
                'a' => &mut flags.appends,
                _ => return Err(format!("`{letter}` is none of the flags f, u, d and a")),
            };
            *flag = true;
        }
        Ok(flags)
    }
}

/// Judges literal flags.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    Flags::parse(text).map(|_| ())
}

/// Which part of the request a destination goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    Hop,
    Domain,
}

fn text(call: &Call<'_, '_, '_>, index: usize) -> String {
    String::from_utf8_lossy(&call.text(index)).into_owned()
}

type Found = (Arc<Dispatcher>, Arc<Part>, Arc<Sets>);

/// The partition that an argument names.
fn partition(call: &mut Call<'_, '_, '_>, index: usize) -> Result<Found, Called> {
    let Some(state) = call.state::<Dispatcher>() else { return Err(NO) };
    let name = call.given(index).then(|| text(call, index));
    match state.part(name.as_deref().map(str::trim)) {
        Some((part, sets)) => Ok((state, part, sets)),
        None => {
            let name = name.unwrap_or_else(|| "default".to_owned());
            Err(call.complain(Level::Error, format!("there is no partition `{name}`")))
        }
    }
}

pub(crate) fn select(call: &mut Call<'_, '_, '_>, into: Into) -> Called {
    let (_, part, sets) = match partition(call, 3) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let number = call.int(1).unwrap_or(-1);
    let flags = match Flags::parse(&text(call, 2)) {
        Ok(flags) => flags,
        Err(why) => return call.complain(Level::Error, why),
    };
    // As documented, so that a script that says so is taken over as it is.
    let algorithm = Algorithm::of(number).unwrap_or_else(|| {
        let why = format!(
            "there is no algorithm {number}: they go from 0 to 10; the first destination is taken"
        );
        call.complain(Level::Warning, why);
        Algorithm::First
    });
    let id = call.int(0).map_or(-1, i64::from);
    let Some(set) = sets.set(id).filter(|set| !set.is_empty()) else {
        call.complain(Level::Error, format!("there is no set {id} in partition {}", part.name));
        return NO_SET;
    };
    let ordered = match order(call, &part, (id, set), algorithm, flags) {
        Ok(ordered) => ordered,
        Err(why) => return call.complain(Level::Error, why),
    };
    let most = call.int(4).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let most = most.unwrap_or(TRIED_MAX).min(TRIED_MAX);
    let Some(first) = ordered.first().cloned() else { return NO };
    let most = if flags.failover { most } else { 1 };
    let last = in_use(call, &part, &sets).and_then(|of| of.socket);
    if let Err(why) = put_aside(call, &part.avps, id, &ordered, (most, flags.appends)) {
        return call.complain(Level::Error, why);
    }
    take(call, &part.avps, &first, into, last)
}

/// Leaves what is to be tried in AVPs, the one in use first.
fn put_aside(
    call: &mut Call<'_, '_, '_>,
    avps: &Avps,
    set: i64,
    ordered: &[Arc<Destination>],
    (most, appends): (usize, bool),
) -> Result<(), String> {
    let ctx = &mut *call.ctx;
    if !appends {
        for name in [&avps.destination, &avps.socket] {
            ctx.avps.set(name, Index::All, Assign::Set, Value::Null)?;
        }
    }
    for of in ordered.iter().take(most) {
        let socket = match of.socket_text.as_bytes() {
            b"" => NONE,
            text => text,
        };
        ctx.avps.insert(&avps.destination, Value::Str(of.uri.clone()), true)?;
        ctx.avps.insert(&avps.socket, Value::str(socket.to_vec()), true)?;
    }
    let set = Value::Int(i32::try_from(set).unwrap_or(i32::MAX));
    ctx.avps.set(&avps.set, Index::All, Assign::Replace, set)?;
    count(call, avps)
}

/// Says how many destinations there are.
fn count(call: &mut Call<'_, '_, '_>, avps: &Avps) -> Result<(), String> {
    let left = call.ctx.avps.iter().filter(|(name, _)| **name == avps.destination).count();
    let left = Value::Int(i32::try_from(left).unwrap_or(i32::MAX));
    call.ctx.avps.set(&avps.count, Index::All, Assign::Replace, left)
}

/// Sends the request to a destination. A socket that was chosen for the `last` one goes, one that
/// the script has chosen stays.
fn take(
    call: &mut Call<'_, '_, '_>,
    avps: &Avps,
    of: &Destination,
    into: Into,
    last: Option<SocketId>,
) -> Called {
    match into {
        Into::Hop => call.ctx.target.dst_uri = Some(of.uri.clone()),
        Into::Domain => {
            let ruri = call.ctx.request_uri().to_vec();
            let Some(uri) = with_part(&ruri, UriPart::HostPort, of.hostport.as_bytes()) else {
                return call.complain(Level::Error, "the R-URI takes no such domain");
            };
            let Some(uri) = with_transport(&uri, of.transport.as_deref()) else {
                return call.complain(Level::Error, "the R-URI takes no such transport");
            };
            call.ctx.target.uri = Some(uri);
        }
    }
    if of.socket.is_some() || (last.is_some() && call.ctx.target.socket == last) {
        call.ctx.target.socket = of.socket;
    }
    let script = of.memory.script_attrs.read().clone();
    for (name, value) in [(&avps.attrs, &of.attrs), (&avps.script_attrs, &script)] {
        let Some(name) = name else { continue };
        let value = Value::str(value.as_bytes().to_vec());
        if let Err(why) = call.ctx.avps.set(name, Index::All, Assign::Replace, value) {
            return call.complain(Level::Error, why);
        }
    }
    YES
}

/// A URI with another transport, if there is one.
fn with_transport(uri: &Bytes, transport: Option<&str>) -> Option<Bytes> {
    let Some(transport) = transport else { return Some(uri.clone()) };
    let host = Uri::parse(uri).ok()?.host;
    let at = (host.as_ptr() as usize).saturating_sub(uri.as_ptr() as usize) + host.len();
    let (head, behind) = uri.split_at_checked(at)?;
    let headers = behind.iter().position(|b| *b == b'?').unwrap_or(behind.len());
    let (params, headers) = behind.split_at(headers);
    let mut params = params.split(|b| *b == b';');
    let mut out = [head, params.next().unwrap_or_default()].concat();
    for param in params {
        let name = param.split(|b| *b == b'=').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(b"transport") {
            out.push(b';');
            out.extend_from_slice(param);
        }
    }
    out.extend_from_slice(b";transport=");
    out.extend_from_slice(transport.as_bytes());
    out.extend_from_slice(headers);
    Uri::parse(&out).ok()?;
    Some(Bytes::from(out))
}

/// Takes the next destination that can be used.
pub(crate) fn next(call: &mut Call<'_, '_, '_>, into: Into) -> Called {
    let (_, part, sets) = match partition(call, 0) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let last = in_use(call, &part, &sets).and_then(|of| of.socket);
    loop {
        for name in [&part.avps.destination, &part.avps.socket] {
            let _ = call.ctx.avps.set(name, Index::None, Assign::Set, Value::Null);
        }
        if let Err(why) = count(call, &part.avps) {
            return call.complain(Level::Error, why);
        }
        let Some(uri) = call.ctx.avps.first(&part.avps.destination).into_bytes() else { return NO };
        let set = set_in_use(call, &part);
        let known = sets.find(set, &uri).or_else(|| sets.all().find(|d| d.uri == uri));
        // One that went away or down meanwhile is passed over.
        if let Some(known) = known.filter(|d| d.status.bits() == 0).cloned() {
            return take(call, &part.avps, &known, into, last);
        }
    }
}

fn set_in_use(call: &Call<'_, '_, '_>, part: &Part) -> i64 {
    call.ctx.avps.first(&part.avps.set).int().map_or(-1, i64::from)
}

/// The destination that the request goes to now.
fn in_use(call: &Call<'_, '_, '_>, part: &Part, sets: &Sets) -> Option<Arc<Destination>> {
    let uri = call.ctx.avps.first(&part.avps.destination).into_bytes()?;
    sets.find(set_in_use(call, part), &uri).cloned()
}

pub(crate) fn mark(call: &mut Call<'_, '_, '_>) -> Called {
    let (state, part, sets) = match partition(call, 1) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let wanted = text(call, 0);
    let wish = match wanted.trim() {
        "" | "i" | "I" | "0" => Wish::Inactive,
        "a" | "A" | "1" => Wish::Active,
        "p" | "P" | "2" => Wish::Failed,
        other => return call.complain(Level::Error, format!("`{other}` is none of i, a and p")),
    };
    if call.ctx.avps.first(&part.avps.destination).into_bytes().is_none() {
        return call.complain(Level::Error, "no destination was chosen for this request");
    }
    let Some(of) = in_use(call, &part, &sets) else { return NO };
    state.wish(call.cx, &part, &of, wish, Origin::Command("ds_mark_dst() in the script"));
    YES
}

/// Whether a destination is at an address; 0 is any port, a negative set any set.
fn at(sets: &Sets, ip: IpAddr, port: u16, set: i64) -> impl Iterator<Item = &Arc<Destination>> {
    sets.all().filter(move |of| {
        (set < 0 || of.set == set)
            && (port == 0 || of.port == 0 || of.port == port)
            && of.ips.read().contains(&ip)
    })
}

pub(crate) fn is_in_list(call: &mut Call<'_, '_, '_>) -> Called {
    let (state, part, sets) = match partition(call, 3) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let ip = text(call, 0);
    let Ok(ip) = ip.trim().trim_matches(['[', ']']).parse::<IpAddr>() else {
        return call.complain(Level::Error, format!("{ip:?} is no address"));
    };
    let port = call.int(1).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let set = call.int(2).map_or(-1, i64::from);
    let active = call.int(4).is_some_and(|active| active != 0);
    let pattern = call.given(5).then(|| text(call, 5));
    let pattern = match pattern.as_deref().map(tandem_engine::glob::compile).transpose() {
        Ok(pattern) => pattern,
        Err(why) => return call.complain(Level::Error, why),
    };
    let found = at(&sets, ip, port, set).find(|of| {
        (!active || of.status.bits() == 0)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(of.attrs.as_bytes()))
    });
    let Some(found) = found.cloned() else { return NO };
    if let Some(name) = &part.avps.attrs {
        let attrs = Value::str(found.attrs.as_bytes().to_vec());
        if let Err(why) = call.ctx.avps.set(name, Index::All, Assign::Replace, attrs) {
            return call.complain(Level::Error, why);
        }
    }
    if let Some(var) = state.params.set_var {
        let set = Value::Int(i32::try_from(found.set).unwrap_or(i32::MAX));
        if let Err(why) = call.write(var, set) {
            return call.complain(Level::Error, why);
        }
    }
    YES
}

pub(crate) fn count_of(call: &mut Call<'_, '_, '_>) -> Called {
    let (.., sets) = match partition(call, 3) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let filter = text(call, 1).to_ascii_lowercase();
    if let Some(wrong) = filter.chars().find(|c| !"aip012, ".contains(*c)) {
        return call.complain(Level::Error, format!("`{wrong}` is none of the states a, i and p"));
    }
    let wants = |letter: char, digit: char| filter.contains(letter) || filter.contains(digit);
    let (active, inactive, probing) = (wants('a', '1'), wants('i', '0'), wants('p', '2'));
    let id = call.int(0).map_or(-1, i64::from);
    let Some(set) = sets.set(id) else { return NO };
    let counted = set.iter().filter(|of| match of.status.bits() {
        0 => active,
        bits if bits & INACTIVE != 0 => inactive,
        bits => probing && bits & PROBING != 0,
    });
    let counted = i32::try_from(counted.count()).unwrap_or(i32::MAX);
    match call.set_var(2, Value::Int(counted)) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

/// Sets the attributes of the script of what is at an address; how many that were.
pub(crate) fn push_attrs(sets: &Sets, attrs: &str, ip: IpAddr, port: u16, set: i64) -> usize {
    let found = at(sets, ip, port, set).inspect(|of| {
        attrs.clone_into(&mut *of.memory.script_attrs.write());
    });
    found.count()
}

pub(crate) fn push(call: &mut Call<'_, '_, '_>) -> Called {
    let (.., sets) = match partition(call, 4) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let (attrs, ip) = (text(call, 0), text(call, 1));
    let Ok(ip) = ip.trim().parse::<IpAddr>() else {
        return call.complain(Level::Error, format!("{ip:?} is no address"));
    };
    let port = call.int(2).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    match push_attrs(&sets, &attrs, ip, port, call.int(3).map_or(-1, i64::from)) {
        0 => NO,
        _ => YES,
    }
}

pub(crate) fn get(call: &mut Call<'_, '_, '_>) -> Called {
    let (.., sets) = match partition(call, 2) {
        Ok(found) => found,
        Err(called) => return called,
    };
    let set = call.int(1).map_or(-1, i64::from);
    let uri = call.text(0);
    let any = || sets.all().find(|of| of.uri.eq_ignore_ascii_case(&uri));
    let found = if set < 0 { any() } else { sets.find(set, &uri) };
    let Some(found) = found.cloned() else { return NO };
    let attrs = Value::str(found.memory.script_attrs.read().clone());
    match call.set_var(3, attrs) {
        Ok(()) => YES,
        Err(why) => call.complain(Level::Error, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_one_transport() {
        let with = |uri: &'static str, transport| {
            let uri = with_transport(&Bytes::from_static(uri.as_bytes()), transport).unwrap();
            String::from_utf8(uri.to_vec()).unwrap()
        };
        assert_eq!(with("sip:5;x=1@h:1", Some("tcp")), "sip:5;x=1@h:1;transport=tcp");
        assert_eq!(with("sip:h;Transport=udp;lr?a=b", Some("tcp")), "sip:h;lr;transport=tcp?a=b");
        assert_eq!(with("sip:h;transport=udp", None), "sip:h;transport=udp");
    }
}
