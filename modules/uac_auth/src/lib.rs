//! `uac_auth`: the credentials with which this node answers challenges.
//!
//! It has no functions: `uac` asks [`UacAuth::credentials`].

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::avp::Avps;
use tandem_engine::module::{Build, BuildError, Module, ModuleDef, ParamValue};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::{Algorithm, Hex};

/// Credentials in the script.
const CREDENTIALS_MAX: usize = 10_000;

const fn avp(name: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_avp), ..param(name, ParamKind::Str, None, help) }
}

/// The table of `uac_auth`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "uac_auth",
    help: "The credentials with which this node answers challenges.",
    dependencies: &[],
    params: &[
        ParamSig {
            check: Some(check_credential),
            multiple: true,
            ..param(
                "credential",
                ParamKind::Str,
                None,
                "\"user:realm:password\"; a password of 0x and hex digits is HA1.",
            )
        },
        avp("auth_username_avp", "AVP with the user, before the credentials of the script."),
        avp("auth_realm_avp", "AVP with the realm that the challenge must have then."),
        avp("auth_password_avp", "AVP with the password, or 0x and HA1."),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: UacAuth::build,
};

/// Who this node is for a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub user: Bytes,
    pub realm: Bytes,
    password: Bytes,
}

impl Credential {
    /// Reads `user:realm:password`; the password may have colons.
    ///
    /// # Errors
    /// What is wrong, in plain words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (Some(user), Some(realm), Some(password)) = (part(), part(), part()) else {
            return Err("a credential is written \"user:realm:password\"".into());
        };
        let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Ok(Self { user: own(user), realm: own(realm), password: own(password) })
    }

    /// HA1 for an algorithm, in hex; `None` when the password is an HA1 of another one.
    pub fn ha1(&self, algorithm: Algorithm) -> Option<Vec<u8>> {
        let of = |hex: Hex| hex.as_bytes().to_vec();
        match hex_of(&self.password) {
            None => Some(of(algorithm.ha1(&self.user, &self.realm, &self.password))),
            Some(hex) => (hex.len() == algorithm.hex_len()).then(|| hex.to_ascii_lowercase()),
        }
    }
}

/// The hex digits behind `0x`, when they are an HA1.
fn hex_of(password: &[u8]) -> Option<&[u8]> {
    let hex = password.strip_prefix(b"0x")?;
    let is_ha1 = matches!(hex.len(), 32 | 64) && hex.iter().all(u8::is_ascii_hexdigit);
    is_ha1.then_some(hex)
}

/// The state of the module: its parameters.
#[derive(Debug)]
pub struct UacAuth {
    credentials: Vec<Credential>,
    /// Names of the AVPs with user, realm and password.
    avps: [Option<Bytes>; 3],
}

impl UacAuth {
    fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let mut credentials = Vec::new();
        for value in build.all("credential") {
            let ParamValue::Str(text) = value else { continue };
            let read = Credential::parse(text);
            credentials.push(read.map_err(|why| BuildError::new("credential", why))?);
        }
        if credentials.len() > CREDENTIALS_MAX {
            let why = format!("at most {CREDENTIALS_MAX} credentials are kept");
            return Err(BuildError::new("credential", why));
        }
        let names = ["auth_username_avp", "auth_realm_avp", "auth_password_avp"];
        let avps = names.map(|name| build.avp(name));
        let given = avps.iter().flatten().count();
        if given != 0 && given != avps.len() {
            let why = "auth_username_avp, auth_realm_avp and auth_password_avp go together";
            return Err(BuildError::new("", why));
        }
        Ok(Arc::new(Self { credentials, avps }))
    }

    /// The credentials for a realm: those of the message first, then those of the script.
    pub fn credentials(&self, avps: &Avps, realm: &[u8]) -> Option<Credential> {
        let of_message = self.of_message(avps).filter(|found| found.realm == realm);
        of_message.or_else(|| self.credentials.iter().find(|c| c.realm == realm).cloned())
    }

    fn of_message(&self, avps: &Avps) -> Option<Credential> {
        let [user, realm, password] = &self.avps;
        let value = |name: &Option<Bytes>| avps.first(name.as_ref()?).into_bytes();
        Some(Credential { user: value(user)?, realm: value(realm)?, password: value(password)? })
    }
}

impl Module for UacAuth {}

fn check_credential(text: &str) -> Result<(), String> {
    Credential::parse(text).map(|_| ())
}

fn check_avp(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("$avp(").and_then(|rest| rest.strip_suffix(')'));
    match name {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("an AVP is written $avp(name)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_or_be_an_ha1() {
        let plain = Credential::parse("u:r:p:q").unwrap();
        let ha1 = plain.ha1(Algorithm::Md5).unwrap();
        assert_eq!(ha1, Algorithm::Md5.ha1(b"u", b"r", b"p:q").as_bytes());
        let text = format!("u:r:0x{}", String::from_utf8(ha1.clone()).unwrap().to_uppercase());
        let hashed = Credential::parse(&text).unwrap();
        assert_eq!(hashed.ha1(Algorithm::Md5), Some(ha1));
        assert_eq!(hashed.ha1(Algorithm::Sha256), None);
        for wrong in ["", "u", "u:r", "u::p", ":r:p"] {
            assert!(Credential::parse(wrong).is_err(), "{wrong}");
        }
    }
}
