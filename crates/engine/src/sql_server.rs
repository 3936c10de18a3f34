//! What the modules of database servers share.

use tandem_db::{Backend, DbUrl};
use tandem_script::sig::{ParamKind, ParamSig};

use crate::effect::DbNews;
use crate::endpoint::SqlServerOptions;
use crate::log::Level;
use crate::module::{Build, BuildError, Cx};
use crate::table::param;

/// A number that is at least this.
///
/// # Errors
/// What is no such number.
pub fn number(from: &Build<'_>, name: &'static str, least: u64) -> Result<u64, BuildError> {
    let given = from.int(name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n >= least);
    given.ok_or_else(|| BuildError::new(name, format!("{least} or more is wanted")))
}

/// `use_tls`, which both kinds of servers have.
pub const USE_TLS: ParamSig = param(
    "use_tls",
    ParamKind::Int,
    Some("0"),
    "1: a url may ask for TLS with ?tls_domain=NAME, tls_ca=FILE, tls_cert=FILE, tls_key=FILE and \
     tls_verify=0|1|2 (nothing, the signer, the host as well). A domain is a name without \
     settings of its own: what is not in the url is as the system has it.",
);

/// `exec_query_threshold`, which both kinds of servers have.
pub const EXEC_QUERY_THRESHOLD: ParamSig = param(
    "exec_query_threshold",
    ParamKind::Int,
    Some("0"),
    "Microseconds; slower queries are logged, 0: none.",
);

/// `max_db_queries`, which both kinds of servers have.
pub const MAX_DB_QUERIES: ParamSig = param(
    "max_db_queries",
    ParamKind::Int,
    Some("2"),
    "Attempts at a query whose connection is lost.",
);

/// The options of the parameters that both kinds of servers have.
///
/// # Errors
/// What one of them does not take.
pub fn options(
    from: &Build<'_>,
    backend: Backend,
    timeout: &'static str,
) -> Result<SqlServerOptions, BuildError> {
    Ok(SqlServerOptions {
        backend,
        timeout_ms: number(from, timeout, 1)?.saturating_mul(1000),
        connects_max: 1,
        attempts_max: number(from, "max_db_queries", 1)?.min(100) as u32,
        slow_us: number(from, "exec_query_threshold", 0)?,
        tls: from.int("use_tls") == Some(1),
    })
}

/// Tells the operator what a server does beside answering.
pub fn log_news(cx: &mut Cx<'_>, url: &DbUrl, news: &DbNews) {
    match news {
        DbNews::Connected => cx.log(Level::Notice, format!("database {url} is connected")),
        DbNews::Lost { why } => cx.log(
            Level::Warning,
            format!("database {url} is lost ({why}); what is to be written waits"),
        ),
        DbNews::Slow { us, sql } => {
            cx.log(Level::Warning, format!("database {url} took {us} us: {sql}"));
        }
    }
}
