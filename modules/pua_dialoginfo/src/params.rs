//! Parameters.

use bytes::Bytes;
use tandem_engine::module::Build;
use tandem_engine::table::param;
use tandem_script::program::VarId;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::Uri;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    int("include_callid", "1", "1: a dialog has its Call-ID, so that phones can pick it up."),
    int("include_localremote", "1", "1: a dialog says who talks with whom."),
    int("include_tags", "1", "1: a dialog has the tags of both sides."),
    int("caller_confirmed", "0", "1: the caller is shown as talking while it still rings."),
    int("publish_on_trying", "0", "1: a call is published before it rings."),
    ParamSig {
        check: Some(check_server),
        ..param(
            "presence_server",
            ParamKind::Str,
            None,
            "Where PUBLISH goes; unset: to the domain of whom it is about.",
        )
    },
    param(
        "caller_spec_param",
        ParamKind::Var,
        None,
        "A variable with the caller, read by dialoginfo_set(); unset or empty: From.",
    ),
    param(
        "callee_spec_param",
        ParamKind::Var,
        None,
        "A variable with the callee, read by dialoginfo_set(); unset or empty: To.",
    ),
    int(
        "osips_ps",
        "1",
        "1: the presence server puts the calls of a user together itself, and takes what is told \
         with the end of a publication; 0: each document is whole, with a version.",
    ),
    param(
        "nopublish_flag",
        ParamKind::MessageFlag,
        None,
        "A message flag; a re-INVITE that has it is not published.",
    ),
];

fn check_server(text: &str) -> Result<(), String> {
    let uri = Uri::parse(text.as_bytes()).map_err(|e| format!("this is no URI: {e}"))?;
    match uri.is_sip() {
        true => Ok(()),
        false => Err("a presence server is reached by a sip: URI".into()),
    }
}

/// The parameters as they are used.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) shows_call_id: bool,
    pub(crate) shows_sides: bool,
    pub(crate) shows_tags: bool,
    pub(crate) caller_confirmed: bool,
    pub(crate) on_trying: bool,
    /// Empty: none.
    pub(crate) server: Bytes,
    pub(crate) caller: Option<VarId>,
    pub(crate) callee: Option<VarId>,
    pub(crate) server_merges: bool,
    /// 0: none.
    pub(crate) nopublish: u32,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Self {
        let on = |name: &str| build.int(name).unwrap_or(0) != 0;
        Self {
            shows_call_id: on("include_callid"),
            shows_sides: on("include_localremote"),
            shows_tags: on("include_tags"),
            caller_confirmed: on("caller_confirmed"),
            on_trying: on("publish_on_trying"),
            server: Bytes::from(build.text("presence_server").unwrap_or_default().to_owned()),
            caller: build.var(PARAMS, "caller_spec_param"),
            callee: build.var(PARAMS, "callee_spec_param"),
            server_merges: on("osips_ps"),
            nopublish: build.message_flag("nopublish_flag"),
        }
    }
}
