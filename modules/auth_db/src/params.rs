//! Parameters of the module.

use bytes::Bytes;
use tandem_db::Name;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};
use tandem_sip::Algorithm;

/// Columns that `load_credentials` may name.
const LOADED_MAX: usize = 32;

const fn column(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_column), ..param(name, ParamKind::Str, Some(default), help) }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param("db_url", ParamKind::Str, None, "Database of the users; else db_default_url."),
    column("user_column", "username", "Column with the user name."),
    column("domain_column", "domain", "Column with the domain of the user."),
    column("password_column", "ha1", "Column with the password, or with HA1 for MD5."),
    column("hash_column_sha256", "ha1_sha256", "Column with HA1 for SHA-256."),
    column("hash_column_sha512t256", "ha1_sha512t256", "Column with HA1 for SHA-512-256."),
    column("uri_user_column", "username", "Column with the user name, for the db_*() functions."),
    column("uri_domain_column", "domain", "Column with the domain, for the db_*() functions."),
    column("uri_uriuser_column", "uri_user", "Column with the user of the URI that may be used."),
    param(
        "calculate_ha1",
        ParamKind::Int,
        Some("0"),
        "1: password_column holds the plain password; 0: the columns hold HA1.",
    ),
    param("use_domain", ParamKind::Int, Some("1"), "1: the domain must match, too."),
    ParamSig {
        check: Some(check_loaded),
        ..param(
            "load_credentials",
            ParamKind::Str,
            Some(""),
            "Columns to load when the password is right: \"$avp(x)=column;column\".",
        )
    },
    param("skip_version_check", ParamKind::Int, Some("0"), "1: do not look at table versions."),
];

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) database: DatabaseId,
    pub(crate) user: Name,
    pub(crate) domain: Name,
    password: Name,
    hash_sha256: Name,
    hash_sha512_256: Name,
    pub(crate) uri_user: Name,
    pub(crate) uri_domain: Name,
    pub(crate) uri_uriuser: Name,
    pub(crate) calculate_ha1: bool,
    pub(crate) use_domain: bool,
    /// Name of the AVP, and the column it gets.
    pub(crate) loaded: Vec<(Bytes, Name)>,
    pub(crate) check_versions: bool,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let Some(database) = build.database_param("db_url")? else {
            return Err(BuildError::new("db_url", "auth_db needs a database")
                .help("set `db_url` of auth_db, or the global `db_default_url`"));
        };
        let column = |name: &str| Name::from(build.text(name).unwrap_or_default().to_owned());
        let is_on = |name: &str| build.int(name).unwrap_or(0) != 0;
        let loaded = loaded(build.text("load_credentials").unwrap_or_default());
        Ok(Self {
            database,
            user: column("user_column"),
            domain: column("domain_column"),
            password: column("password_column"),
            hash_sha256: column("hash_column_sha256"),
            hash_sha512_256: column("hash_column_sha512t256"),
            uri_user: column("uri_user_column"),
            uri_domain: column("uri_domain_column"),
            uri_uriuser: column("uri_uriuser_column"),
            calculate_ha1: is_on("calculate_ha1"),
            use_domain: is_on("use_domain"),
            loaded: loaded.map_err(|why| BuildError::new("load_credentials", why))?,
            check_versions: !is_on("skip_version_check"),
        })
    }

    /// The column with what proves a password under an algorithm.
    pub(crate) fn secret_column(&self, algorithm: Algorithm) -> Name {
        match algorithm.base() {
            _ if self.calculate_ha1 => self.password.clone(),
            Algorithm::Sha256 => self.hash_sha256.clone(),
            Algorithm::Sha512_256 => self.hash_sha512_256.clone(),
            _ => self.password.clone(),
        }
    }
}

/// Reads `$avp(x)=column;column`; a column alone goes into the AVP of its name.
fn loaded(text: &str) -> Result<Vec<(Bytes, Name)>, String> {
    let items = text.split(';').map(str::trim).filter(|item| !item.is_empty());
    let loaded: Result<Vec<_>, String> = items.map(loaded_one).collect();
    match loaded? {
        many if many.len() > LOADED_MAX => Err(format!("at most {LOADED_MAX} columns are loaded")),
        fine => Ok(fine),
    }
}

fn loaded_one(item: &str) -> Result<(Bytes, Name), String> {
    let (avp, column) = match item.split_once('=') {
        None => (item, item),
        Some((avp, column)) => {
            let name = avp.trim().strip_prefix("$avp(").and_then(|rest| rest.strip_suffix(')'));
            let name = name.filter(|name| !name.is_empty());
            (name.ok_or_else(|| format!("`{}` is not of the form $avp(name)", avp.trim()))?, column)
        }
    };
    let column = column.trim();
    tandem_db::check_name(column).map_err(|e| e.to_string())?;
    Ok((Bytes::copy_from_slice(avp.trim().as_bytes()), column.to_owned().into()))
}

fn check_loaded(text: &str) -> Result<(), String> {
    loaded(text).map(|_| ())
}

fn check_column(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_to_load_have_an_avp_each() {
        let read = loaded("$avp(a)=x; y ;").unwrap();
        let wanted = [(Bytes::from("a"), "x".into()), (Bytes::from("y"), "y".into())];
        assert_eq!(read, wanted);
        assert!(loaded("$var(a)=x").is_err() && loaded("$avp(a)=x y").is_err());
        assert!(loaded("$avp()=x").is_err() && loaded(&"a;".repeat(33)).is_err());
    }
}
