//! Parameters, which are all of the state.

use std::sync::Arc;

use tandem_engine::context::Hides;
use tandem_engine::keys::{Key, Keys};
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_engine::node::Node;
use tandem_engine::sockets::SocketId;
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::{Edits, Message};

use crate::code::{self, Scheme};
use crate::hide;

/// What everybody has who has set nothing: it keeps no secret.
const PASSWORD_OF_ALL: &str = "ToPoCtPaSS";
/// What the Contact is sealed for.
const PURPOSE: &str = "topology_hiding";

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
        Some(PASSWORD_OF_ALL),
        "Key of what the Contact holds, so that nobody makes one up; as it stands, that of the node, \
         which its peers know.",
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
    param(
        "force_dialog",
        ParamKind::Int,
        Some("0"),
        "Whether every hidden call gets a dialog, as with flag D.",
    ),
    ParamSig {
        check: Some(check_token),
        ..param(
            "th_contact_caller_username_var",
            ParamKind::Str,
            Some("_th_contact_caller_username_var_"),
            "Value of the dialog with the user of Contact that the caller is shown.",
        )
    },
    ParamSig {
        check: Some(check_token),
        ..param(
            "th_contact_callee_username_var",
            ParamKind::Str,
            Some("_th_contact_callee_username_var_"),
            "The same for the callee.",
        )
    },
    param(
        "th_callid_loop_protection",
        ParamKind::Int,
        Some("0"),
        "Whether encoded Call-IDs depend on the caller's tag.",
    ),
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
    /// Seals what the Contact holds; `None`: the node's key does.
    contact_key: Option<Key>,
    pub(crate) contact_param: Vec<u8>,
    pub(crate) scheme: Scheme,
    pub(crate) forces_dialog: bool,
    pub(crate) caller_user: Vec<u8>,
    pub(crate) callee_user: Vec<u8>,
    pub(crate) protects_loops: bool,
}

impl Hiding {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let text = |name: &str| build.text(name).unwrap_or_default().as_bytes().to_vec();
        let list = |name: &str| {
            let names = build.text(name).unwrap_or_default().split(';').map(str::trim);
            names.filter(|n| !n.is_empty()).map(|n| n.as_bytes().to_vec()).collect()
        };
        let is_on = |name: &str| build.int(name).is_some_and(|n| n != 0);
        let scheme = match build.text("th_contact_encode_scheme") {
            Some("base32") => Scheme::Base32,
            _ => Scheme::Base64,
        };
        Ok(Arc::new(Self {
            uri_params: list("th_passed_contact_uri_params"),
            contact_params: list("th_passed_contact_params"),
            call_id_key: text("th_callid_passwd"),
            call_id_prefix: text("th_callid_prefix"),
            contact_key: build
                .text("th_contact_encode_passwd")
                .filter(|given| *given != PASSWORD_OF_ALL)
                .map(|given| Key::of_secret(given.as_bytes())),
            contact_param: text("th_contact_encode_param"),
            scheme,
            forces_dialog: is_on("force_dialog"),
            caller_user: text("th_contact_caller_username_var"),
            callee_user: text("th_contact_callee_username_var"),
            protects_loops: is_on("th_callid_loop_protection"),
        }))
    }
}

impl Hiding {
    /// What the Contact holds, as text.
    pub(crate) fn seal(&self, keys: &Keys, bytes: &[u8]) -> String {
        let sealed = match &self.contact_key {
            Some(key) => key.seal(PURPOSE, bytes),
            None => keys.seal(PURPOSE, bytes),
        };
        code::letters(&sealed, self.scheme)
    }

    /// `None`: neither this node nor one of its peers has made it.
    pub(crate) fn open(&self, keys: &Keys, text: &[u8]) -> Option<Vec<u8>> {
        let sealed = code::read_letters(text, self.scheme)?;
        match &self.contact_key {
            Some(key) => key.open(PURPOSE, &sealed),
            None => keys.open(PURPOSE, &sealed),
        }
    }
}

impl Module for Hiding {
    fn hide_sender(
        &self,
        node: &Node,
        hides: &Hides,
        sockets: (SocketId, SocketId),
        msg: &Message,
        edits: &mut Edits,
    ) {
        hide::sender(self, node, hides, sockets, msg, edits);
    }

    fn hide_reply(
        &self,
        cx: &mut Cx<'_>,
        hides: &Hides,
        sockets: (SocketId, SocketId),
        request: &Message,
        reply: &Message,
        edits: &mut Edits,
    ) {
        hide::reply(self, cx.node, hides, sockets, request, reply, edits);
    }
}

/// Judges a literal.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !"UCDaA".contains(*c)) {
        None => Ok(()),
        Some(c) => Err(format!("there is no flag `{c}`: U, C, D, a and A are known")),
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
