//! Parameters, which are all of the state.

use std::sync::Arc;

use tandem_engine::context::{Hides, Source};
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::{Edits, Message};

use crate::code::Scheme;
use crate::hide;

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param(
        "th_passed_contact_uri_params",
        ParamKind::Str,
        None,
        "Parameters of the Contact URI that are shown, separated by `;`.",
    ),
    param(
        "th_passed_contact_params",
        ParamKind::Str,
        None,
        "Parameters of the Contact header that are shown, separated by `;`.",
    ),
    param("th_callid_passwd", ParamKind::Str, Some("OpenSIPS"), "Key of encoded Call-IDs."),
    ParamSig {
        check: Some(check_token),
        ..param("th_callid_prefix", ParamKind::Str, Some("DLGCH_"), "What they begin with.")
    },
    param(
        "th_contact_encode_passwd",
        ParamKind::Str,
        Some("ToPoCtPaSS"),
        "Key of what the Contact holds.",
    ),
    ParamSig {
        check: Some(check_token),
        ..param(
            "th_contact_encode_param",
            ParamKind::Str,
            Some("thinfo"),
            "Parameter of the Contact URI that holds it.",
        )
    },
    ParamSig {
        check: Some(check_scheme),
        ..param(
            "th_contact_encode_scheme",
            ParamKind::Str,
            Some("base64"),
            "base64, or base32 for phones that change the case.",
        )
    },
];

/// The parameters.
#[derive(Debug)]
pub(crate) struct Hiding {
    pub(crate) uri_params: Vec<Vec<u8>>,
    pub(crate) contact_params: Vec<Vec<u8>>,
    pub(crate) call_id_key: Vec<u8>,
    pub(crate) call_id_prefix: Vec<u8>,
    pub(crate) contact_key: Vec<u8>,
    pub(crate) contact_param: Vec<u8>,
    pub(crate) scheme: Scheme,
}

impl Hiding {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let text = |name: &str| build.text(name).unwrap_or_default().as_bytes().to_vec();
        let list = |name: &str| {
            let names = build.text(name).unwrap_or_default().split(';').map(str::trim);
            names.filter(|n| !n.is_empty()).map(|n| n.as_bytes().to_vec()).collect()
        };
        let scheme = match build.text("th_contact_encode_scheme") {
            Some("base32") => Scheme::Base32,
            _ => Scheme::Base64,
        };
        Ok(Arc::new(Self {
            uri_params: list("th_passed_contact_uri_params"),
            contact_params: list("th_passed_contact_params"),
            call_id_key: text("th_callid_passwd"),
            call_id_prefix: text("th_callid_prefix"),
            contact_key: text("th_contact_encode_passwd"),
            contact_param: text("th_contact_encode_param"),
            scheme,
        }))
    }
}

impl Module for Hiding {
    fn hide_reply(
        &self,
        cx: &mut Cx<'_>,
        hides: &Hides,
        source: &Source,
        request: &Message,
        reply: &Message,
        edits: &mut Edits,
    ) {
        hide::reply(self, cx.node, hides, source, request, reply, edits);
    }
}

/// Judges a literal.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !"UCaA".contains(*c)) {
        None => Ok(()),
        Some('D') => Err("flag D needs dialogs, which are not in Tandem yet".into()),
        Some(c) => Err(format!("there is no flag `{c}`: U, C, a and A are known")),
    }
}

fn check_token(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(()),
        false => Err("it has letters, digits and -_. only".into()),
    }
}

fn check_scheme(text: &str) -> Result<(), String> {
    match text {
        "base64" | "base32" => Ok(()),
        _ => Err("the schemes are base64 and base32".into()),
    }
}
