//! What a script asks servers itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, FunctionDef, Timer};
use tandem_engine::table::arg;
use tandem_radius::client::Kind;
use tandem_radius::dictionary::Dictionary;
use tandem_radius::packet::Avp;
use tandem_radius::value::{self, decode};
use tandem_script::host::Called;
use tandem_script::nearest;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, Routes};
use tandem_script::value::Value;

use crate::avps::keep;
use crate::sets::{SETS_MAX, Set};
use crate::state::{AaaRadius, Asker, DoorId, Outcome};

/// The timer that tells of an answer for a script.
pub(crate) const ANSWERED: u32 = 1;
const REJECTED: i32 = -2;

const AUTH: &[ArgSig] = &[arg("input_set", ArgKind::Str), arg("output_set", ArgKind::Str)];
const ACCT: &[ArgSig] = &[arg("input_set", ArgKind::Str)];

/// A function that `async()` takes as well.
const fn waiting(
    name: &'static str,
    args: &'static [ArgSig],
    help: &'static str,
    run: fn(&mut Call<'_, '_, '_>) -> Called,
) -> FunctionDef {
    let (routes, async_use) = (Routes::ANY, AsyncUse::Both);
    FunctionDef { sig: FunctionSig { name, args, routes, async_use, help }, run }
}

/// The functions of the module.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    waiting(
        "radius_send_auth",
        AUTH,
        "Sends an Access-Request with the attributes of a set; those of the answer go into the \
         variables of another one. 1: accepted; -2: rejected; -1: nobody has answered.",
        radius_send_auth,
    ),
    waiting(
        "radius_send_acct",
        ACCT,
        "Sends an Accounting-Request with the attributes of a set. 1: it was taken; -1: it was not.",
        radius_send_acct,
    ),
];

/// What a script asks with.
pub(crate) struct Scripted {
    door: DoorId,
    sets: Vec<Set>,
    all_values: bool,
    /// Runs that wait, with the set that they want filled.
    waits: Mutex<BTreeMap<u64, Option<usize>>>,
}

impl Scripted {
    pub(crate) fn build(build: &Build<'_>, module: &AaaRadius) -> Result<Option<Self>, BuildError> {
        let mut sets: Vec<Set> = Vec::new();
        let texts = build.texts_with_vars(crate::PARAMS, "sets");
        let path = build.text("radius_config").filter(|path| !path.is_empty());
        let is_used = ["radius_send_auth", "radius_send_acct"]
            .iter()
            .any(|f| build.program.calls(build.slot, f));
        let Some(path) = path else {
            if is_used {
                let why = "the script asks RADIUS servers, and their configuration is not named";
                let help = "set radius_config of aaa_radius: \"/etc/radcli/radiusclient.conf\"";
                return Err(BuildError::new("radius_config", why).help(help));
            }
            return Ok(None);
        };
        let door = module.door(path).map_err(|why| BuildError::new("radius_config", why))?;
        for (place, parts) in texts {
            let set = Set::parse(&parts);
            let set = set.map_err(|why| BuildError::new("sets", format!("{place}: {why}")))?;
            if sets.iter().any(|known| known.name == set.name) || sets.len() >= SETS_MAX {
                let why =
                    format!("{place}: the set `{}` is there before, or one too many", set.name);
                return Err(BuildError::new("sets", why));
            }
            let names: Vec<&str> = set.pairs.iter().map(|(name, _)| name.as_str()).collect();
            module.need(door, &format!("{place}: the set `{}`", set.name), &names);
            sets.push(set);
        }
        for (function, arg) in
            [("radius_send_auth", 0), ("radius_send_auth", 1), ("radius_send_acct", 0)]
        {
            for name in build.program.texts(build.slot, function, arg) {
                found(&sets, name).map_err(|why| BuildError::new("sets", why))?;
            }
        }
        let all_values = build.int("fetch_all_values").unwrap_or(0) != 0;
        Ok(Some(Self { door, sets, all_values, waits: Mutex::default() }))
    }

    /// A server has answered a script, or none.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, module: &AaaRadius, timer: Timer) {
        let Some((run, outcome)) = module.take(timer.id) else { return };
        let wait = self.waits.lock().remove(&run).flatten();
        let (code, avps) = match outcome {
            Outcome::Accepted(avps) => (1, avps),
            Outcome::Rejected(avps) => (REJECTED, avps),
            Outcome::Failed(why) => {
                // That a server is silent was said once already.
                cx.log(Level::Debug, format!("aaa_radius: a script asked in vain: {why}"));
                return cx.resume(run, -1);
            }
        };
        if let Some(dictionary) = module.dictionary(self.door) {
            cx.with_suspended(run, |ctx| keep(&dictionary, &avps, ctx));
            if let Some(set) = wait.and_then(|at| self.sets.get(at)) {
                self.fill(cx, run, set, (&dictionary, &avps));
            }
        }
        cx.resume(run, code);
    }

    /// Gives the variables of a set what the attributes of an answer hold.
    fn fill(&self, cx: &mut Cx<'_>, run: u64, set: &Set, (known, avps): (&Dictionary, &[Avp])) {
        for (name, var) in &set.pairs {
            let Ok(attribute) = value::attribute(known, name) else { continue };
            let is_this =
                |avp: &&Avp| (avp.vendor, Some(avp.number)) == (attribute.vendor, attribute.number);
            let most = if self.all_values { usize::MAX } else { 1 };
            let found: Vec<&Avp> = avps.iter().filter(is_this).take(most).collect();
            // The first one ends on top.
            for avp in found.into_iter().rev() {
                let value = shown(decode(attribute, &avp.value));
                if let Err(why) = cx.assign_suspended(run, *var, value) {
                    cx.log(Level::Error, format!("aaa_radius: set `{}`: {name}: {why}", set.name));
                }
            }
        }
    }
}

fn shown(value: value::Value) -> Value {
    match value {
        value::Value::Int(number) => match i32::try_from(number) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::str(number.to_string()),
        },
        value::Value::Text(text) => Value::Str(text.into()),
    }
}

/// The set with this name.
fn found(sets: &[Set], name: &[u8]) -> Result<usize, String> {
    let name = String::from_utf8_lossy(name);
    sets.iter().position(|set| *set.name == *name).ok_or_else(|| {
        let near = nearest(&name, sets.iter().map(|set| set.name.as_str()));
        let near = near.map(|near| format!(": did you mean `{near}`?"));
        format!("there is no set `{name}`{}", near.unwrap_or_default())
    })
}

fn radius_send_auth(call: &mut Call<'_, '_, '_>) -> Called {
    send(call, Kind::Auth)
}

fn radius_send_acct(call: &mut Call<'_, '_, '_>) -> Called {
    send(call, Kind::Acct)
}

fn send(call: &mut Call<'_, '_, '_>, kind: Kind) -> Called {
    let Some(state) = call.state::<AaaRadius>() else { return Called::Returned(-1) };
    let Some(scripted) = &state.scripted else { return Called::Returned(-1) };
    let (input, output) = (call.text(0), call.text(1));
    let asked = asked(call, &state, scripted, &input).and_then(|avps| {
        let fills = kind == Kind::Auth && !output.is_empty();
        Ok((avps, fills.then(|| found(&scripted.sets, &output)).transpose()?))
    });
    let (avps, fills) = match asked {
        Ok(asked) => asked,
        Err(why) => return call.complain(Level::Error, why),
    };
    let run = call.suspend();
    scripted.waits.lock().insert(run, fills);
    let asker = Asker { slot: call.cx.slot, timer: ANSWERED };
    state.ask(call.cx, scripted.door, (kind, avps), (asker, run));
    Called::Suspended
}

/// The attributes of a set, with what their variables hold; those without a value are left out.
fn asked(
    call: &mut Call<'_, '_, '_>,
    state: &Arc<AaaRadius>,
    scripted: &Scripted,
    input: &Bytes,
) -> Result<Vec<Avp>, String> {
    let set = scripted.sets.get(found(&scripted.sets, input)?);
    let mut avps = Vec::new();
    for (name, var) in set.map(|set| set.pairs.as_slice()).unwrap_or_default() {
        if let Some(text) = call.read(*var).into_bytes() {
            avps.push(state.avp(scripted.door, name, &text)?);
        }
    }
    Ok(avps)
}
