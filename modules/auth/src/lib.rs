//! `auth`: digest authentication of requests (RFC 3261 22, RFC 8760).
//!
//! `nonce` makes and judges nonces, `window` sees that each is used once, `challenge` asks,
//! `authorize` judges the answer. Where passwords come from is another module's matter: `auth_db`
//! asks a database and uses [`Auth`].

mod authorize;
mod challenge;
mod nonce;
mod params;
mod rpid;
mod window;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, needs, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

pub use authorize::{Auth, Claim, Secret, code};

/// The table of `auth`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "auth",
    help: "Digest authentication of requests (RFC 3261 22, RFC 8760).",
    dependencies: &[needs("signaling")],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: Auth::build,
};

const CHALLENGE: &[ArgSig] = &[
    arg("realm", ArgKind::Str),
    ArgSig { check: Some(challenge::check_qop), ..optional("qop", ArgKind::Str) },
    ArgSig { check: Some(challenge::check_algorithms), ..optional("algorithms", ArgKind::Str) },
];
const REALM: &[ArgSig] = &[arg("realm", ArgKind::Str)];
const AFFIXES: &[ArgSig] = &[optional("prefix", ArgKind::Str), optional("suffix", ArgKind::Str)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "www_challenge",
        CHALLENGE,
        Routes::REQUEST,
        "Answers 401 and asks for credentials; an empty realm is the domain of To (REGISTER) or \
         From.",
        challenge::www_challenge,
    ),
    function(
        "proxy_challenge",
        CHALLENGE,
        Routes::REQUEST,
        "Answers 407 and asks for credentials; an empty realm is the domain of From.",
        challenge::proxy_challenge,
    ),
    function(
        "pv_www_authorize",
        REALM,
        Routes::REQUEST,
        "Checks Authorization with username_spec and password_spec.",
        authorize::pv_www_authorize,
    ),
    function(
        "pv_proxy_authorize",
        REALM,
        Routes::REQUEST,
        "Checks Proxy-Authorization with username_spec and password_spec.",
        authorize::pv_proxy_authorize,
    ),
    function(
        "consume_credentials",
        &[],
        Routes::REQUEST,
        "Removes the credentials that were found right.",
        authorize::consume_credentials,
    ),
    function(
        "is_rpid_user_e164",
        &[],
        Routes::REQUEST,
        "Whether the user of the Remote-Party-ID AVP is an E.164 number.",
        rpid::is_rpid_user_e164,
    ),
    function(
        "append_rpid_hf",
        AFFIXES,
        Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH),
        "Adds a Remote-Party-ID header with the text of the AVP.",
        rpid::append_rpid_hf,
    ),
];
