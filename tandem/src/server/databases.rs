//! The databases of a node, opened for it.

use std::sync::Arc;

use tandem_db::{Backend, DbError, DbErrorKind, DbUrl};
use tandem_drivers::sql_server::{News, Server, ServerOptions, Tell};
use tandem_drivers::sqlite::{Sqlite, SqliteOptions};
use tandem_drivers::sqlite_extensions::Extension;
use tandem_drivers::{Completion, Database};
use tandem_engine::effect::{DatabaseId, DbNews};
use tandem_engine::endpoint::Endpoint;
use tandem_engine::log::Level;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Shared, log};

/// News that may wait; more is forgotten, the last state shows in the next answer.
const NEWS_MAX: usize = 256;

/// What comes of the databases beside answers.
pub(super) type NewsOf = (DatabaseId, DbNews);

/// Opens the databases of the node, in its order.
pub(super) async fn open(
    shared: &Shared,
    endpoints: &[Endpoint],
    completions: &mpsc::Sender<Completion>,
) -> Result<(Vec<Database>, mpsc::Receiver<NewsOf>), String> {
    let (news, received) = mpsc::channel(NEWS_MAX);
    let mut databases = Vec::new();
    for (id, url) in (0_u16..).zip(&shared.node.databases) {
        databases.push(match url.backend {
            Backend::Sqlite => file(shared, url, endpoints, completions).await?,
            Backend::MySql | Backend::Postgres => {
                let options = server_options(url, endpoints)?;
                let tell = teller(DatabaseId(id), &news);
                server(shared, options, completions, tell).await?
            }
        });
    }
    Ok((databases, received))
}

/// A file that is not there, or is locked, may come later, as a server may: what needs it at once
/// says so. One that cannot be written serves those who read. One that is no database is a mistake.
async fn file(
    shared: &Shared,
    url: &DbUrl,
    endpoints: &[Endpoint],
    completions: &mpsc::Sender<Completion>,
) -> Result<Database, String> {
    let path = &url.database;
    let mut open = SqliteOptions::new(path);
    let options = endpoints.iter().find_map(|e| match e {
        Endpoint::Sqlite(options) => Some(options),
        _ => None,
    });
    if let Some(options) = options {
        open.busy_timeout_ms = u64::from(options.busy_timeout_ms);
        open.pragmas.clone_from(&options.pragmas);
        let extensions = options.extensions.iter().cloned();
        open.extensions = extensions.map(|(file, entry)| Extension { file, entry }).collect();
    }
    let warning = match tandem_drivers::sqlite::check(&open).await {
        Ok(None) => None,
        Ok(Some(e)) => Some(format!("the database can only be read now: {}", e.message)),
        Err(e) => Some(unopened(&open, url, &e)?),
    };
    if let Some(text) = warning {
        log::line(shared.clock.now(), Level::Warning, &text);
    }
    Ok(Sqlite::spawn(&Handle::current(), open, completions.clone()))
}

/// What to say of a file that cannot be opened now.
///
/// # Errors
/// When there is no use in waiting for it.
fn unopened(open: &SqliteOptions, url: &DbUrl, error: &DbError) -> Result<String, String> {
    let why = &error.message;
    if open.path.try_exists().is_ok_and(|there| !there) {
        return Ok(format!(
            "the database cannot be opened now: {why}: \
             correct the url, or create it with `tandemctl --db {url} db create`"
        ));
    }
    match error.kind {
        DbErrorKind::Busy => Ok(format!("the database cannot be opened now: {why}")),
        _ => Err(format!("tandem: cannot open the database {why}")),
    }
}

/// How the modules use a server.
///
/// # Errors
/// When the url asks for TLS and the module of its kind was not told to allow that.
fn server_options(url: &DbUrl, endpoints: &[Endpoint]) -> Result<ServerOptions, String> {
    let mut open = ServerOptions::new(url.clone());
    let options = endpoints.iter().find_map(|e| match e {
        Endpoint::SqlServer(options) if options.backend == url.backend => Some(options),
        _ => None,
    });
    if let Some(options) = options {
        open.timeout_ms = options.timeout_ms;
        open.connects_max = options.connects_max;
        open.attempts_max = options.attempts_max;
        open.slow_us = options.slow_us;
        if url.tls.is_some() && !options.tls {
            let module = if url.backend == Backend::MySql { "db_mysql" } else { "db_postgres" };
            return Err(format!(
                "tandem: the url of the database {url} asks for TLS: \
                 set modparam(\"{module}\", \"use_tls\", 1)"
            ));
        }
    }
    Ok(open)
}

/// A server that does not answer may come later: a standby starts without it. One that refuses
/// the login, or has no such database, is a mistake of the script.
async fn server(
    shared: &Shared,
    options: ServerOptions,
    completions: &mpsc::Sender<Completion>,
    tell: Tell,
) -> Result<Database, String> {
    let once = ServerOptions { connects_max: 1, ..options.clone() };
    if let Err(e) = tandem_drivers::sql_server::check(&once).await {
        if e.kind != DbErrorKind::Unavailable || tandem_drivers::sql_server::is_refusal(&e) {
            return Err(format!("tandem: cannot open the database {e}"));
        }
        let text = format!("the database cannot be reached now: {}", e.message);
        log::line(shared.clock.now(), Level::Warning, &text);
    }
    Ok(Server::spawn(&Handle::current(), options, completions.clone(), tell))
}

fn teller(id: DatabaseId, news: &mpsc::Sender<NewsOf>) -> Tell {
    let news = news.clone();
    Arc::new(move |of| {
        let told = match of {
            News::Connected => DbNews::Connected,
            News::Lost { why } => DbNews::Lost { why },
            News::Slow { us, sql } => DbNews::Slow { us, sql },
        };
        let _ = news.try_send((id, told));
    })
}
