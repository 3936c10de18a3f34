//! Commands on the database, which need no node: the standard tables, and the users.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value as Json, json};
use tandem_db::schema::{self, Table};
use tandem_db::{Cond, DbError, DbUrl, Order, Query, Rows, Select, Value};
use tandem_drivers::sql_server::{self, ServerOptions};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_sip::Algorithm;

use crate::args::Call;
use crate::status;

/// Groups of tables whose modules are here.
pub const GROUPS: &[&str] = &[
    "standard",
    "acc",
    "alias_db",
    "auth_db",
    "clusterer",
    "dialog",
    "dialplan",
    "dispatcher",
    "domain",
    "drouting",
    "group",
    "load_balancer",
    "permissions",
    "presence",
    "qrouting",
    "sqlops",
    "usrloc",
];

/// The tables that a new database gets.
pub fn usual_tables() -> Vec<&'static Table> {
    schema::tables().iter().filter(|t| GROUPS.contains(&t.group.as_str())).collect()
}

/// `db create [GROUP|TABLE..]`, `db upgrade`.
pub(crate) fn tables(call: &Call) -> Result<ExitCode, String> {
    let mut words = call.words.iter();
    let wanted: Vec<&Table> = match words.next().map(String::as_str) {
        Some("create") if call.words.len() > 1 => {
            let named: Result<Vec<_>, _> = words.map(|name| named(name.as_str())).collect();
            named?.concat()
        }
        Some("create" | "upgrade") => usual_tables(),
        _ => return Err("write db create [GROUP|TABLE..] or db upgrade".into()),
    };
    let place = place(call, true)?;
    let runtime = runtime()?;
    runtime
        .block_on(place.create(&wanted))
        .map_err(|e| format!("cannot make the tables in {place}: {e}"))?;
    let versions = ask(&runtime, &place, &versions())?;
    let behind = versions.rows.iter().filter(|row| is_behind(row, &wanted)).count();
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{place}: {} tables are there", wanted.len());
    if behind > 0 {
        return Err(format!("{behind} tables are of an older release; move their rows by hand"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables of a group, or one table.
fn named(name: &str) -> Result<Vec<&'static Table>, String> {
    let all = schema::tables();
    let found: Vec<_> = all.iter().filter(|t| t.group == name || t.name == name).collect();
    if found.is_empty() {
        return Err(format!("there is neither a group nor a table `{name}`"));
    }
    Ok(found)
}

fn versions() -> Query {
    let columns = vec!["table_name".into(), "table_version".into()];
    Query::Select(Select { table: "version".into(), columns, ..Select::default() })
}

fn is_behind(row: &[Value], wanted: &[&Table]) -> bool {
    let name = row.first().and_then(Value::as_str);
    let version = row.get(1).and_then(Value::as_int);
    wanted.iter().any(|t| Some(t.name.as_str()) == name && version.is_some_and(|v| v < t.version))
}

/// `user add|passwd|rm|list`.
pub(crate) fn users(call: &Call) -> Result<ExitCode, String> {
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let (query, missing) = match words.as_slice() {
        ["add", user, password] => (add(call.plain, user, password)?, ""),
        ["passwd", user, password] => (change(call.plain, user, password)?, *user),
        ["rm", user] => (Query::Delete { table: "subscriber".into(), conds: conds(user)? }, *user),
        ["list"] => (list(None), ""),
        ["list", domain] => (list(Some(domain)), ""),
        _ => {
            let text = "write user add USER@DOMAIN PASSWORD, user passwd USER@DOMAIN PASSWORD, \
                        user rm USER@DOMAIN or user list [DOMAIN]";
            return Err(text.into());
        }
    };
    let is_list = query.is_read();
    let rows = ask(&runtime()?, &place(call, false)?, &query)?;
    if is_list {
        show(call, &rows);
        return Ok(ExitCode::SUCCESS);
    }
    if rows.affected == 0 {
        let _ = writeln!(std::io::stderr(), "tandemctl: there is no user {missing}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(call: &Call, rows: &Rows) {
    let row = |row: &Vec<Value>| {
        let text = |at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        json!({"user": format!("{}@{}", text(0), text(1))})
    };
    let list = Json::Array(rows.rows.iter().map(row).collect());
    let text = match call.json || rows.rows.is_empty() {
        true => format!("{list:#}\n"),
        false => status::rows(&list),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn parts(user: &str) -> Result<(&str, &str), String> {
    let parts =
        user.rsplit_once('@').filter(|(user, domain)| !user.is_empty() && !domain.is_empty());
    parts.ok_or_else(|| format!("{user}: write USER@DOMAIN"))
}

fn conds(user: &str) -> Result<Vec<Cond>, String> {
    let (user, domain) = parts(user)?;
    Ok(vec![Cond::eq("username", text(user)), Cond::eq("domain", text(domain))])
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

type Fields = Vec<(std::borrow::Cow<'static, str>, Value)>;

/// The password as it is, or its hashes for every algorithm of RFC 8760.
fn secrets(plain: bool, user: &str, password: &str) -> Result<Fields, String> {
    let (name, domain) = parts(user)?;
    let hash = |algorithm: Algorithm| {
        if plain {
            return text("");
        }
        let ha1 = algorithm.ha1(name.as_bytes(), domain.as_bytes(), password.as_bytes());
        text(&String::from_utf8_lossy(ha1.as_bytes()))
    };
    Ok(vec![
        ("password".into(), text(if plain { password } else { "" })),
        ("ha1".into(), hash(Algorithm::Md5)),
        ("ha1_sha256".into(), hash(Algorithm::Sha256)),
        ("ha1_sha512t256".into(), hash(Algorithm::Sha512_256)),
    ])
}

fn add(plain: bool, user: &str, password: &str) -> Result<Query, String> {
    let (name, domain) = parts(user)?;
    let mut row: Fields = vec![("username".into(), text(name)), ("domain".into(), text(domain))];
    row.extend(secrets(plain, user, password)?);
    Ok(Query::Insert { table: "subscriber".into(), row })
}

fn change(plain: bool, user: &str, password: &str) -> Result<Query, String> {
    let set = secrets(plain, user, password)?;
    Ok(Query::Update { table: "subscriber".into(), set, conds: conds(user)? })
}

fn list(domain: Option<&str>) -> Query {
    let order = |column: &'static str| Order { column: column.into(), descending: false };
    Query::Select(Select {
        table: "subscriber".into(),
        columns: vec!["username".into(), "domain".into()],
        conds: domain.map(|d| Cond::eq("domain", text(d))).into_iter().collect(),
        order: vec![order("domain"), order("username")],
        limit: None,
    })
}

/// Where the tables are.
enum Place {
    File(SqliteOptions),
    Server(ServerOptions),
}

impl Place {
    async fn create(&self, tables: &[&Table]) -> Result<(), DbError> {
        match self {
            Self::File(options) => sqlite::create_schema(options, tables).await,
            Self::Server(options) => sql_server::create_schema(options, tables).await,
        }
    }

    async fn ask(&self, query: &Query) -> Result<Rows, DbError> {
        match self {
            Self::File(options) => sqlite::ask(options, query).await,
            Self::Server(options) => sql_server::ask(options, query).await,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(options) => write!(f, "{}", options.path.display()),
            Self::Server(options) => write!(f, "{}", options.url),
        }
    }
}

fn place(call: &Call, create: bool) -> Result<Place, String> {
    let url = call.db.clone().or_else(|| std::env::var("TANDEM_DB").ok().filter(|u| !u.is_empty()));
    let url = url.ok_or(
        "name the database: --db sqlite:///PATH, mysql://USER:PASSWORD@HOST/NAME or \
         postgres://USER:PASSWORD@HOST/NAME, or $TANDEM_DB",
    )?;
    let url = DbUrl::parse(&url).map_err(|e| e.to_string())?;
    Ok(match url.sqlite_path() {
        Some(path) => {
            let busy_timeout_ms = 5_000;
            Place::File(SqliteOptions { create, busy_timeout_ms, ..SqliteOptions::new(path) })
        }
        // Making tables takes a server its time.
        None => Place::Server(ServerOptions { timeout_ms: 30_000, ..ServerOptions::new(url) }),
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("no event loop: {e}"))
}

fn ask(runtime: &tokio::runtime::Runtime, place: &Place, query: &Query) -> Result<Rows, String> {
    runtime.block_on(place.ask(query)).map_err(|e| format!("{place}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_stored_with_hashes_or_as_written() {
        let hashed = secrets(false, "alice@example.org", "secret").unwrap();
        // MD5 of alice:example.org:secret.
        let value = |fields: &Fields, name: &str| {
            let field = fields.iter().find(|(n, _)| n == name);
            field.and_then(|(_, v)| v.as_str().map(String::from)).unwrap()
        };
        assert_eq!(value(&hashed, "password"), "");
        assert_eq!(value(&hashed, "ha1").len(), 32);
        assert_eq!(value(&hashed, "ha1_sha256").len(), 64);
        assert_eq!(value(&hashed, "ha1_sha512t256").len(), 64);
        let plain = secrets(true, "alice@example.org", "secret").unwrap();
        assert_eq!((value(&plain, "password"), value(&plain, "ha1")), ("secret".into(), "".into()));
        assert!(parts("alice").is_err() && parts("@x").is_err());
    }

    #[test]
    fn groups_and_tables_have_names() {
        assert_eq!(named("subscriber").unwrap().len(), 1);
        assert!(named("usrloc").unwrap().iter().any(|t| t.name == "location"));
        assert!(named("nosuch").unwrap_err().contains("nosuch"));
        for group in GROUPS.iter().filter(|g| **g != "standard") {
            assert!(named(group).is_ok(), "{group}");
        }
    }
}
