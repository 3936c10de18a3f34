//! Parameters, which are all of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_db::{DbError, Name, Rows};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

/// Schemes of one script.
const SCHEMES_MAX: usize = 256;

const fn column(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_column), ..param(name, ParamKind::Str, Some(default), help) }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    ParamSig {
        check: Some(check_url),
        multiple: true,
        ..param(
            "db_url",
            ParamKind::Str,
            None,
            "A database, with the number that db_id means in front: \"1 sqlite:///x\"; without \
             one it is 0. Else db_default_url.",
        )
    },
    column("usr_table", "usr_preferences", "Table of the preferences."),
    param("use_domain", ParamKind::Int, Some("1"), "1: the domain is part of a user's key."),
    column("uuid_column", "uuid", "Column with the id of a user."),
    column("attribute_column", "attribute", "Column with the name of the AVP."),
    column("value_column", "value", "Column with its value."),
    column("type_column", "type", "Column with its type: 2 is a number."),
    column("username_column", "username", "Column with the user name."),
    column("domain_column", "domain", "Column with the domain."),
    ParamSig {
        check: Some(check_scheme),
        multiple: true,
        ..param(
            "db_scheme",
            ParamKind::Str,
            None,
            "Another layout of preferences: \"name:table=t;uuid_col=c;username_col=c;\
             domain_col=c;value_col=c;value_type=integer\".",
        )
    },
    moot("ps_id_max_buf_len", ParamKind::Int, "statements are prepared by the driver"),
    param(
        "bigint_to_str",
        ParamKind::Int,
        Some("0"),
        "1: a number that 32 bits cannot hold becomes a text; 0: it wraps.",
    ),
];

/// Where preferences stand.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) table: Name,
    pub(crate) uuid: Name,
    pub(crate) username: Name,
    pub(crate) domain: Name,
    pub(crate) value: Name,
    /// The type that a scheme gives to its values.
    pub(crate) is_integer: bool,
}

/// Names of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    pub table: &'static str,
    pub use_domain: &'static str,
    pub uuid: &'static str,
    pub attribute: &'static str,
    pub value: &'static str,
    pub kind: &'static str,
    pub username: &'static str,
    pub domain: &'static str,
    pub scheme: &'static str,
}

/// The state of the module.
#[derive(Debug)]
pub struct Sql {
    databases: BTreeMap<i64, DatabaseId>,
    pub(crate) layout: Layout,
    pub(crate) attribute: Name,
    pub(crate) kind: Name,
    pub(crate) use_domain: bool,
    pub(crate) bigint_to_str: bool,
    pub(crate) schemes: BTreeMap<String, Layout>,
}

impl Sql {
    /// Reads the parameters, under the names that a module has for them.
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn build(build: &mut Build<'_>, names: &Names) -> Result<Arc<dyn Module>, BuildError> {
        let name = |param: &str, standard: &str| {
            Name::from(build.text(param).unwrap_or(standard).to_owned())
        };
        let layout = Layout {
            table: name(names.table, "usr_preferences"),
            uuid: name(names.uuid, "uuid"),
            username: name(names.username, "username"),
            domain: name(names.domain, "domain"),
            value: name(names.value, "value"),
            is_integer: false,
        };
        let (attribute, kind) = (name(names.attribute, "attribute"), name(names.kind, "type"));
        let mut schemes = BTreeMap::new();
        for text in texts(build, names.scheme) {
            let (name, scheme) =
                scheme(&text, &layout).map_err(|why| BuildError::new(names.scheme, why))?;
            schemes.insert(name, scheme);
        }
        if schemes.len() > SCHEMES_MAX {
            let why = format!("at most {SCHEMES_MAX} schemes are kept");
            return Err(BuildError::new(names.scheme, why));
        }
        Ok(Arc::new(Self {
            use_domain: build.int(names.use_domain) == Some(1),
            bigint_to_str: build.int("bigint_to_str") == Some(1),
            databases: databases(build)?,
            layout,
            attribute,
            kind,
            schemes,
        }))
    }

    /// The database of an argument; complains without one.
    pub(crate) fn database(
        &self,
        call: &mut Call<'_, '_, '_>,
        argument: usize,
    ) -> Option<DatabaseId> {
        let number = i64::from(call.int(argument).unwrap_or(0));
        let found = self.databases.get(&number).copied();
        if found.is_none() {
            let why = format!("there is no database {number}: set db_url = \"{number} URL\"");
            call.complain(Level::Error, why);
        }
        found
    }
}

impl Module for Sql {
    fn db(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        self.answered(cx, run, result);
    }
}

fn databases(build: &mut Build<'_>) -> Result<BTreeMap<i64, DatabaseId>, BuildError> {
    let mut databases = BTreeMap::new();
    for text in texts(build, "db_url") {
        let fault = |why: String| BuildError::new("db_url", why);
        let (number, url) = numbered(&text).map_err(fault)?;
        if databases.insert(number, build.database(url).map_err(fault)?).is_some() {
            return Err(fault(format!("the database {number} is given twice")));
        }
    }
    if databases.is_empty()
        && let Some(url) = build.global_text("db_default_url").map(str::to_owned)
    {
        let database = build.database(&url).map_err(|why| BuildError::new("db_url", why))?;
        databases.insert(0, database);
    }
    Ok(databases)
}

fn texts(build: &Build<'_>, param: &str) -> Vec<String> {
    let text = |value: &ParamValue| match value {
        ParamValue::Str(text) => Some(text.clone()),
        ParamValue::Int(_) => None,
    };
    build.all(param).iter().filter_map(text).collect()
}

/// `[n] url`
fn numbered(text: &str) -> Result<(i64, &str), String> {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        None => Ok((0, text)),
        Some((number, url)) => {
            let number = number.parse().map_err(|_| format!("`{number}` is no number"))?;
            Ok((number, url.trim()))
        }
    }
}

/// Judges a literal of `db_url`.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(text: &str) -> Result<(), String> {
    let (_, url) = numbered(text)?;
    tandem_db::DbUrl::parse(url).map(|_| ()).map_err(|e| e.to_string())
}

/// What a scheme does not name is as `standard` has it.
fn scheme(text: &str, standard: &Layout) -> Result<(String, Layout), String> {
    let wrong = "a scheme is written \"name:table=t;uuid_col=c;value_col=c\"";
    let (name, items) = text.split_once(':').ok_or(wrong)?;
    let mut layout = standard.clone();
    for item in items.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').ok_or(wrong)?;
        let (key, value) = (key.trim(), value.trim().to_owned());
        if key == "value_type" {
            layout.is_integer = match value.as_str() {
                "integer" => true,
                "string" => false,
                _ => return Err(format!("value_type is integer or string, not `{value}`")),
            };
            continue;
        }
        check_column(&value)?;
        let place = match key {
            "table" => &mut layout.table,
            "uuid_col" => &mut layout.uuid,
            "username_col" => &mut layout.username,
            "domain_col" => &mut layout.domain,
            "value_col" => &mut layout.value,
            _ => return Err(format!("a scheme has no `{key}`")),
        };
        *place = value.into();
    }
    Ok((name.trim().to_owned(), layout))
}

/// Judges a literal of `db_scheme`.
///
/// # Errors
/// What is wrong with it.
pub fn check_scheme(text: &str) -> Result<(), String> {
    let name = |name: &'static str| Name::from(name);
    let standard = Layout {
        table: name("t"),
        uuid: name("u"),
        username: name("n"),
        domain: name("d"),
        value: name("v"),
        is_integer: false,
    };
    scheme(text, &standard).map(|_| ())
}

fn check_column(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
