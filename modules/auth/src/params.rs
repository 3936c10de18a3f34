//! Parameters of the module.

use bytes::Bytes;
use tandem_engine::module::Build;
use tandem_engine::table::param;
use tandem_script::program::VarId;
use tandem_script::sig::{ParamKind, ParamSig};

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        check: Some(check_secret),
        ..param(
            "secret",
            ParamKind::Str,
            None,
            "Key of the nonces; the same on nodes that share \
             their users. Unset: made at start, and told to the other Tandem nodes of the cluster.",
        )
    },
    ParamSig {
        check: Some(check_expire),
        ..param("nonce_expire", ParamKind::Int, Some("30"), "Seconds that a nonce can be used.")
    },
    param("rpid_prefix", ParamKind::Str, Some(""), "Text in front of the Remote-Party-ID URI."),
    param(
        "rpid_suffix",
        ParamKind::Str,
        Some(";party=calling;id-type=subscriber;screen=yes"),
        "Text behind the Remote-Party-ID URI.",
    ),
    param("realm_prefix", ParamKind::Str, Some(""), "Cut off a domain to make it a realm."),
    param("rpid_avp", ParamKind::Var, Some("$avp(rpid)"), "AVP with the Remote-Party-ID URI."),
    param("username_spec", ParamKind::Var, None, "Variable with the name pv_*_authorize wants."),
    param("password_spec", ParamKind::Var, None, "Variable with its password, or HA1."),
    param("calculate_ha1", ParamKind::Int, Some("0"), "1: password_spec holds the plain password."),
    param(
        "disable_nonce_check",
        ParamKind::Int,
        Some("0"),
        "1: a nonce can be used until it expires; 0: once.",
    ),
];

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) secret: Option<Bytes>,
    pub(crate) nonce_expire_ms: u64,
    pub(crate) rpid_prefix: Bytes,
    pub(crate) rpid_suffix: Bytes,
    pub(crate) realm_prefix: Bytes,
    /// Name of the AVP.
    pub(crate) rpid_avp: Bytes,
    pub(crate) username: Option<VarId>,
    pub(crate) password: Option<VarId>,
    pub(crate) calculate_ha1: bool,
    pub(crate) once: bool,
}

impl Params {
    pub(crate) fn read(build: &Build<'_>) -> Self {
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned().into();
        let expire_s = build.int("nonce_expire").and_then(|n| u64::try_from(n).ok()).unwrap_or(30);
        Self {
            secret: build.text("secret").map(|s| s.to_owned().into()),
            nonce_expire_ms: expire_s * 1000,
            rpid_prefix: text("rpid_prefix"),
            rpid_suffix: text("rpid_suffix"),
            realm_prefix: text("realm_prefix"),
            rpid_avp: build.avp("rpid_avp").unwrap_or(Bytes::from_static(b"rpid")),
            username: build.var(PARAMS, "username_spec"),
            password: build.var(PARAMS, "password_spec"),
            calculate_ha1: build.int("calculate_ha1").unwrap_or(0) != 0,
            once: build.int("disable_nonce_check").unwrap_or(0) == 0,
        }
    }
}

fn check_secret(text: &str) -> Result<(), String> {
    match text.len() {
        0..8 => Err("a secret has at least 8 characters; 32 random ones are usual".into()),
        _ => Ok(()),
    }
}

fn check_expire(text: &str) -> Result<(), String> {
    match text.parse::<i32>() {
        Ok(1..=86_400) => Ok(()),
        _ => Err("a nonce can be used for 1 to 86400 seconds".into()),
    }
}
