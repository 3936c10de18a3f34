//! Parameters.

use tandem_engine::module::Build;
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_xcap::Kind;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    int("force_active", "0", "1: everybody may watch everybody; rules are not asked."),
    int(
        "pidf_manipulation",
        "0",
        "1: what a user keeps as pidf-manipulation (RFC 4827) counts as published, behind \
         everything else.",
    ),
    moot(
        "xcap_server",
        ParamKind::Str,
        "nothing is fetched from an XCAP server: documents are read from the table of xcap, where \
         the server has to write them",
    ),
    ParamSig {
        check: Some(check_auid),
        ..param(
            "pres_rules_auid",
            ParamKind::Str,
            None,
            "Id of the application whose documents are the rules: pres-rules (as when it is unset) \
             or org.openmobilealliance.pres-rules.",
        )
    },
    param(
        "pres_rules_filename",
        ParamKind::Str,
        None,
        "Name of the file with the rules, the last part of its path; unset: index, or the first \
         one there is.",
    ),
    int("generate_offline_body", "1", "1: who publishes nothing any more is told to be closed."),
];

fn check_auid(text: &str) -> Result<(), String> {
    match Kind::of_auid(text) {
        Some(Kind::PresRules | Kind::OmaPresRules) => Ok(()),
        _ => Err("rules are documents of pres-rules or org.openmobilealliance.pres-rules".into()),
    }
}

/// The parameters as they are used.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) force_active: bool,
    pub(crate) has_hard_state: bool,
    pub(crate) kind: Kind,
    /// Empty: the first there is.
    pub(crate) file: String,
    pub(crate) tells_end: bool,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Self {
        let on = |name: &str| build.int(name).unwrap_or(0) != 0;
        let kind = build.text("pres_rules_auid").and_then(Kind::of_auid);
        Self {
            force_active: on("force_active"),
            has_hard_state: on("pidf_manipulation"),
            kind: kind.unwrap_or(Kind::PresRules),
            file: build.text("pres_rules_filename").unwrap_or_default().to_owned(),
            tells_end: on("generate_offline_body"),
        }
    }
}
