//! Module parameters, which are all of the state.

use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_uac_auth::UacAuth;

use crate::cseq::count_on;
use crate::replace::{Which, rename, restore};

pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        check: Some(check_name),
        ..param(
            "rr_from_store_param",
            ParamKind::Str,
            Some("vsf"),
            "Parameter of the Record-Route that holds the change of From.",
        )
    },
    ParamSig {
        check: Some(check_name),
        ..param(
            "rr_to_store_param",
            ParamKind::Str,
            Some("vst"),
            "Parameter of the Record-Route that holds the change of To.",
        )
    },
    ParamSig {
        check: Some(check_mode),
        ..param(
            "restore_mode",
            ParamKind::Str,
            Some("auto"),
            "auto: replies and requests of the dialog are restored; manual: replies; none: nothing.",
        )
    },
    param(
        "force_dialog",
        ParamKind::Int,
        Some("0"),
        "1: a call whose From or To is changed gets a dialog, if the script has made none.",
    ),
    param("restore_passwd", ParamKind::Str, Some(""), "Key that hides the text in Record-Route."),
];

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    None,
    Manual,
    Auto,
}

/// The parameters.
#[derive(Debug)]
pub(crate) struct Uac {
    pub(crate) from_param: Vec<u8>,
    pub(crate) to_param: Vec<u8>,
    pub(crate) mode: Mode,
    pub(crate) key: Vec<u8>,
    pub(crate) force_dialog: bool,
    pub(crate) auth: Option<Arc<UacAuth>>,
}

impl Uac {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let text = |name: &str| build.text(name).unwrap_or_default().as_bytes().to_vec();
        let mode = match build.text("restore_mode") {
            Some("none") => Mode::None,
            Some("manual") => Mode::Manual,
            _ => Mode::Auto,
        };
        let force_dialog = build.int("force_dialog").is_some_and(|n| n != 0);
        if force_dialog && !build.loads("dialog") {
            let error = BuildError::new("force_dialog", "force_dialog needs the module dialog");
            return Err(error.help("load module dialog: loadmodule \"dialog.so\""));
        }
        Ok(Arc::new(Self {
            force_dialog,
            from_param: text("rr_from_store_param"),
            to_param: text("rr_to_store_param"),
            mode,
            key: text("restore_passwd"),
            auth: build.module::<UacAuth>(),
        }))
    }
}

impl Module for Uac {
    fn route_taken(&self, _cx: &mut Cx<'_>, ctx: &mut Ctx, params: &[u8]) {
        count_on(ctx, params);
        if self.mode == Mode::Auto {
            restore(self, ctx, params, Which::From);
            restore(self, ctx, params, Which::To);
        }
    }

    /// Where no Record-Route says it, as with hidden topology, the dialog does.
    fn names_known(&self, _cx: &mut Cx<'_>, ctx: &mut Ctx, from: &[u8], to: &[u8]) {
        if self.mode == Mode::Auto && !ctx.rewritten.names {
            rename(ctx, Which::From, from);
            rename(ctx, Which::To, to);
        }
    }
}

fn check_mode(text: &str) -> Result<(), String> {
    match text {
        "none" | "manual" | "auto" => Ok(()),
        _ => Err("the modes are none, manual and auto".into()),
    }
}

fn check_name(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(()),
        false => Err("a parameter's name has letters, digits and -_.".into()),
    }
}
