//! In which order the destinations of a set are tried.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_engine::module::Call;
use tandem_script::value::Value;
use tandem_sip::{AuthRole, Uri, sip_hash};

use crate::functions::Flags;
use crate::sets::Destination;
use crate::state::Part;

/// How the first one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    CallId,
    From,
    To,
    RequestUri,
    RoundRobin,
    Credentials,
    Random,
    Format,
    First,
    Load,
    Route,
}

impl Algorithm {
    /// `None`: there is none of that number.
    pub(crate) fn of(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::CallId,
            1 => Self::From,
            2 => Self::To,
            3 => Self::RequestUri,
            4 => Self::RoundRobin,
            5 => Self::Credentials,
            6 => Self::Random,
            7 => Self::Format,
            8 => Self::First,
            9 => Self::Load,
            10 => Self::Route,
            _ => return None,
        })
    }
}

/// The active destinations of a set, the chosen one first. With `d` the last of the set is kept
/// for the end, whatever the algorithm.
pub(crate) fn order(
    call: &mut Call<'_, '_, '_>,
    part: &Part,
    (id, set): (i64, &[Arc<Destination>]),
    algorithm: Algorithm,
    flags: Flags,
) -> Result<Vec<Arc<Destination>>, String> {
    let (set, last) = match set.split_last() {
        Some((last, rest)) if flags.last_is_default && !rest.is_empty() => (rest, Some(last)),
        _ => (set, None),
    };
    let active = |d: &&Arc<Destination>| d.status.bits() == 0;
    let mut active: Vec<Arc<Destination>> = set.iter().filter(active).cloned().collect();
    if algorithm == Algorithm::Route {
        active = by_route(call, active)?;
    }
    if active.len() > 1 {
        let first = match algorithm {
            Algorithm::First => 0,
            Algorithm::RoundRobin => by_weight(&active, u64::from(part.turn(id))),
            Algorithm::Random => by_weight(&active, call.cx.worker.chance.u64()),
            Algorithm::Load => {
                active = by_load(call, active)?;
                0
            }
            // Asked already.
            Algorithm::Route => 0,
            hashed => {
                let text = hashed_text(call, hashed, flags)?;
                let turn = || u64::from(part.turn(id));
                by_weight(&active, text.map_or_else(turn, |text| u64::from(sip_hash(&text))))
            }
        };
        active.rotate_left(first);
    }
    active.extend(last.filter(|d| d.status.bits() == 0).cloned());
    if let Some(first) = active.first() {
        first.memory.hits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(active)
}

/// The destination that a number falls on, when each takes as much room as its weight.
fn by_weight(set: &[Arc<Destination>], number: u64) -> usize {
    let sum: u64 = set.iter().map(|d| u64::from(d.weight.get())).sum();
    if sum == 0 {
        return (number % (set.len().max(1) as u64)) as usize;
    }
    let mut left = number % sum;
    let found = set.iter().position(|d| {
        let weight = u64::from(d.weight.get());
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    });
    // One that was told another weight meanwhile may have moved the end.
    found.unwrap_or(0)
}

/// The least loaded first, by the value of `pvar_algo_pattern` for each.
fn by_load(
    call: &mut Call<'_, '_, '_>,
    set: Vec<Arc<Destination>>,
) -> Result<Vec<Arc<Destination>>, String> {
    let state = call.state::<crate::Dispatcher>().ok_or("the module is gone")?;
    let pattern = &state.params.load_pattern;
    if pattern.is_empty() {
        return Err("algorithm 9 needs the parameter pvar_algo_pattern".into());
    }
    let mut loads = Vec::with_capacity(set.len());
    for destination in set {
        let uri = String::from_utf8_lossy(&destination.uri).into_owned();
        let text = pattern.replace("%u", &uri).replace("%i", &destination.host);
        let value = call.expand(text.as_bytes())?;
        let value = std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse().ok());
        loads.push((value.unwrap_or(0i64), destination));
    }
    loads.sort_by_key(|(load, _)| *load);
    Ok(loads.into_iter().map(|(_, destination)| destination).collect())
}

/// The least loaded first, by what a route returns for each; without those that it passes over.
fn by_route(
    call: &mut Call<'_, '_, '_>,
    set: Vec<Arc<Destination>>,
) -> Result<Vec<Arc<Destination>>, String> {
    let state = call.state::<crate::Dispatcher>().ok_or("the module is gone")?;
    let name = state.params.load_route.as_ref();
    let name = name.ok_or("algorithm 10 needs the parameter algo_route")?;
    let route = call.cx.named_route(name);
    let route = route.ok_or_else(|| format!("the script has no route[{name}] any more"))?;
    let mut loads = Vec::with_capacity(set.len());
    for destination in set {
        let attrs = Value::str(destination.attrs.as_bytes().to_vec());
        let params = [Value::Str(destination.uri.clone()), attrs];
        let (end, load) = call.run_nested(route, &params);
        if !end.failed && load >= 0 {
            loads.push((load, destination));
        }
    }
    loads.sort_by_key(|(load, _)| *load);
    Ok(loads.into_iter().map(|(_, destination)| destination).collect())
}

/// `None`: a request without credentials, which takes its turn.
fn hashed_text(
    call: &mut Call<'_, '_, '_>,
    algorithm: Algorithm,
    flags: Flags,
) -> Result<Option<Vec<u8>>, String> {
    let msg = &call.ctx.msg;
    let uri = match algorithm {
        Algorithm::From => msg.from().map_err(|e| e.to_string())?.uri.to_vec(),
        Algorithm::To => msg.to().map_err(|e| e.to_string())?.uri.to_vec(),
        Algorithm::RequestUri => call.ctx.request_uri().to_vec(),
        Algorithm::Format => {
            let state = call.state::<crate::Dispatcher>().ok_or("the module is gone")?;
            let format = state.params.hash_format.clone();
            if format.is_empty() {
                return Err("algorithm 7 needs the parameter hash_pvar".into());
            }
            return call.expand(format.as_bytes()).map(|text| Some(text.to_vec()));
        }
        Algorithm::Credentials => {
            let found = [AuthRole::Server, AuthRole::Proxy].into_iter().find_map(|role| {
                let credentials = msg.credentials(role).flatten().next()?;
                Some(credentials.username.to_vec())
            });
            return Ok(found);
        }
        _ => return Ok(Some(msg.call_id().unwrap_or_default().to_vec())),
    };
    let parsed = Uri::parse(&uri).map_err(|e| e.to_string())?;
    let user = parsed.user.unwrap_or_default();
    if flags.user_only {
        return Ok(Some(user.to_vec()));
    }
    let port =
        parsed.port.filter(|port| *port != 5060).map(|p| format!(":{p}")).unwrap_or_default();
    Ok(Some([user, b"@", &parsed.host.to_ascii_lowercase(), port.as_bytes()].concat()))
}
