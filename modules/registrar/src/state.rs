//! The running module.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use regex::bytes::Regex;
use tandem_clock::Now;
use tandem_engine::avp::Avps;
use tandem_engine::context::{Ctx, Source};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_script::flags::{FlagSet, parse};
use tandem_script::host::ArgValue;
use tandem_script::program::Ready;
use tandem_script::sig::FlagSig;
use tandem_script::value::Value;
use tandem_sip::Message;
use tandem_usrloc::{Table, Usrloc};

use crate::aor::{AorError, key_of};
use crate::params::Params;
use crate::waking::Waiting;

/// Expressions of `ua-filtering` that are kept compiled, at most.
const EXPRESSIONS_MAX: usize = 64;

/// The state of the module.
pub struct Registrar {
    pub(crate) params: Params,
    pub(crate) usrloc: Arc<Usrloc>,
    expressions: Mutex<HashMap<String, Arc<Regex>>>,
    /// Requests that wait for a phone.
    pub(crate) waiting: Waiting,
    pub(crate) slot: u16,
}

impl Registrar {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let usrloc = build.module::<Usrloc>();
        let usrloc = usrloc.ok_or_else(|| {
            BuildError::new("", "registrar needs the module usrloc")
                .help("add `loadmodule \"usrloc.so\"` before it")
        })?;
        let params = Params::read(build, usrloc.params.use_domain)?;
        if let Some(push) = &params.push {
            usrloc.refresh_before(push.trigger_interval_s);
        }
        let (expressions, waiting) = Default::default();
        Ok(Arc::new(Self { params, usrloc, expressions, waiting, slot: build.slot }))
    }

    /// The compiled form of an expression; `None` if it is none.
    pub(crate) fn expression(&self, text: &str) -> Option<Arc<Regex>> {
        let mut known = self.expressions.lock();
        if let Some(found) = known.get(text) {
            return Some(Arc::clone(found));
        }
        let made = Arc::new(Regex::new(text).ok()?);
        if known.len() >= EXPRESSIONS_MAX {
            known.clear();
        }
        known.insert(text.to_owned(), Arc::clone(&made));
        Some(made)
    }
}

impl Module for Registrar {
    fn stream_request(&self, cx: &mut Cx<'_>, source: &Source, request: &Message) {
        self.find_phone(cx, source, request);
    }

    fn event(&self, cx: &mut Cx<'_>, event: &str, params: &[(Bytes, Value)]) {
        let text = |name: &[u8]| {
            let value = params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
            value.and_then(Value::text).unwrap_or_default()
        };
        self.registered(cx, event, (&text(b"domain"), &text(b"aor"), &text(b"uri")));
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        self.wait_timer(cx, timer);
    }

    fn statistic(&self, _node: &Node, _now: Now, index: usize) -> u64 {
        match index {
            crate::stat::MAX_EXPIRES => u64::from(self.params.max_expires_s),
            crate::stat::MAX_CONTACTS => self.params.max_contacts as u64,
            crate::stat::DEFAULT_EXPIRE => u64::from(self.params.default_expires_s),
            _ => 0,
        }
    }
}

/// The module and the table that the first argument of a function names.
pub(crate) fn module_and_table(
    call: &mut Call<'_, '_, '_>,
    table_arg: usize,
) -> Option<(Arc<Registrar>, Arc<Table>)> {
    let registrar = call.state::<Registrar>()?;
    let name = call.text(table_arg);
    let table = std::str::from_utf8(&name).ok();
    let table = table.and_then(|name| registrar.usrloc.open_table(call.cx, name));
    if table.is_none() {
        let name = String::from_utf8_lossy(&name).into_owned();
        call.complain(Level::Error, format!("{name:?} cannot be a location table"));
    }
    Some((registrar, table?))
}

/// The key of the AoR: of the argument if it is given, else of `default`.
///
/// # Errors
/// See [`AorError`].
pub(crate) fn key_of_arg(
    call: &Call<'_, '_, '_>,
    params: &Params,
    arg: usize,
    default: impl FnOnce(&Ctx) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, AorError> {
    if call.given(arg) {
        return key_of(&call.text(arg), params);
    }
    key_of(&default(call.ctx).ok_or(AorError::Unreadable)?, params)
}

/// A flag list, prepared at load or computed by the script.
///
/// # Errors
/// What is wrong with a computed list.
pub(crate) fn flags_of_arg(
    call: &Call<'_, '_, '_>,
    arg: usize,
    table: &[FlagSig],
) -> Result<Arc<FlagSet>, String> {
    match call.args.get(arg) {
        Some(ArgValue::Ready(Ready::Flags(flags))) => Ok(Arc::clone(flags)),
        Some(ArgValue::Value(Value::Str(text))) => {
            let text = String::from_utf8_lossy(text);
            parse(table, &text).map(|p| Arc::new(p.flags))
        }
        _ => Ok(Arc::default()),
    }
}

/// The text of an AVP; `None` if it is not set.
pub(crate) fn avp_text(avps: &Avps, name: Option<&Bytes>) -> Option<Bytes> {
    avps.first(name?).into_bytes().filter(|text| !text.is_empty())
}
