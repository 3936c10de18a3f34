//! Parameters of the module.

use tandem_db::Name;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

const fn name(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, Some(default), help) }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param("db_url", ParamKind::Str, None, "Database of the domains; else db_default_url."),
    ParamSig {
        check: Some(check_mode),
        ..param("db_mode", ParamKind::Int, Some("0"), "0: ask the database; 1: keep a copy.")
    },
    name("domain_table", "domain", "Table with the domains."),
    name("domain_col", "domain", "Column with the domain."),
    name("attrs_col", "attrs", "Column with the attributes of the domain."),
    name("accept_subdomain_col", "accept_subdomain", "Column: 1 when subdomains are ours, too."),
];

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) database: DatabaseId,
    pub(crate) is_cached: bool,
    pub(crate) table: Name,
    pub(crate) domain: Name,
    pub(crate) attrs: Name,
    pub(crate) accept_subdomain: Name,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let Some(database) = build.database_param("db_url")? else {
            return Err(BuildError::new("db_url", "domain needs a database")
                .help("set `db_url` of domain, or the global `db_default_url`"));
        };
        let name = |param: &str| Name::from(build.text(param).unwrap_or_default().to_owned());
        Ok(Self {
            database,
            is_cached: build.int("db_mode") == Some(1),
            table: name("domain_table"),
            domain: name("domain_col"),
            attrs: name("attrs_col"),
            accept_subdomain: name("accept_subdomain_col"),
        })
    }
}

fn check_mode(text: &str) -> Result<(), String> {
    match text {
        "0" | "1" => Ok(()),
        _ => Err("the mode is 0 (ask the database) or 1 (keep a copy)".into()),
    }
}

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
