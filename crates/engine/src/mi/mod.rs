//! The management interface: commands as data, JSON-RPC 2.0 around them.

mod envelope;
mod registry;

pub use envelope::{
    PARSE_ERROR, Params, Request, RpcError, parse_request, reply_error, reply_result,
};
pub use registry::{Found, Registry};

use serde_json::Value as Json;

use crate::module::Cx;

/// The type a parameter must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MiKind {
    /// A JSON number, or a text of digits.
    Int,
    Str,
    Array,
    /// The command judges it.
    Any,
    /// As [`MiKind::Int`], in a command that takes no positional parameters.
    NamedInt,
    /// As [`MiKind::Str`], in such a command.
    NamedStr,
}

/// A parameter of a command.
#[derive(Clone, Copy, Debug)]
pub struct MiParam {
    pub name: &'static str,
    pub kind: MiKind,
}

/// A command of a module's table.
#[derive(Clone, Copy)]
pub struct MiDef {
    /// Canonical: `usrloc:dump`.
    pub name: &'static str,
    /// Names of 3.x that go on working: `ul_dump`.
    pub old_names: &'static [&'static str],
    /// Positional parameters match a set by count, named ones by their names.
    pub param_sets: &'static [&'static [MiParam]],
    pub help: &'static str,
    pub run: fn(&mut MiCall<'_, '_>) -> MiOutcome,
}

/// A command on its way.
pub struct MiCall<'a, 'b> {
    pub cx: &'a mut Cx<'b>,
    /// Number of the request, for an answer that comes later.
    pub request: u64,
    /// The parameters of the set that matched, in its order.
    pub args: Vec<(&'static str, Json)>,
}

/// How a command ends.
#[derive(Debug)]
pub enum MiOutcome {
    Done(Json),
    Failed(RpcError),
    /// The module answers later through [`Cx::mi_reply`].
    Later,
}

impl MiOutcome {
    /// Success without data.
    pub fn ok() -> Self {
        Self::Done(Json::from("OK"))
    }

    pub fn failed(code: i64, message: impl Into<String>) -> Self {
        Self::Failed(RpcError { code, message: message.into(), data: None })
    }
}

impl MiCall<'_, '_> {
    pub fn has(&self, name: &str) -> bool {
        self.args.iter().any(|(n, _)| *n == name)
    }

    /// A text parameter; numbers are taken as their text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.arg(name)? {
            Json::String(s) => Some(s.clone()),
            Json::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.arg(name)? {
            Json::Number(n) => n.as_i64(),
            Json::String(s) => s.parse().ok(),
            _ => None,
        }
    }

    pub fn array(&self, name: &str) -> Option<&[Json]> {
        self.arg(name)?.as_array().map(Vec::as_slice)
    }

    /// A parameter as it came.
    pub fn arg(&self, name: &str) -> Option<&Json> {
        self.args.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// Executes a request as it came; `None`: nothing is answered now (a notification, or the
/// answer comes later).
pub(crate) fn execute(cx: &mut Cx<'_>, request: u64, text: &[u8]) -> Option<String> {
    let Request { id, method, params } = match parse_request(text) {
        Ok(request) => request,
        Err((id, error)) => return Some(reply_error(&id, &error)),
    };
    let outcome = run_command(cx, request, &method, params);
    let Some(id) = id else {
        // A notification is executed and not answered, whatever becomes of it.
        return None;
    };
    match outcome {
        MiOutcome::Done(result) => Some(reply_result(&id, result)),
        MiOutcome::Failed(error) => Some(reply_error(&id, &error)),
        MiOutcome::Later => {
            if cx.node.park_mi(request, id.clone()) {
                return None;
            }
            let busy = RpcError { code: 500, message: "Too many commands wait".into(), data: None };
            Some(reply_error(&id, &busy))
        }
    }
}

/// Executes a command by name; also for commands that come from another node.
pub fn run_command(cx: &mut Cx<'_>, request: u64, method: &str, params: Params) -> MiOutcome {
    let found = match cx.node.mi.find(method) {
        Ok(found) => found,
        Err(error) => return MiOutcome::Failed(error),
    };
    match registry::match_params(found.def, params) {
        Ok(args) => {
            cx.for_slot(found.slot, |cx| (found.def.run)(&mut MiCall { cx, request, args }))
        }
        Err(error) => MiOutcome::Failed(error),
    }
}
