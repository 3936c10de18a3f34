//! `db_mysql`: databases of MySQL and MariaDB, for `mysql://` urls.
//!
//! The queries are carried out by the binary's driver; this module says how it uses the servers,
//! and tells when one comes or goes.

use std::sync::Arc;

use tandem_db::{Backend, DbUrl};
use tandem_engine::effect::DbNews;
use tandem_engine::endpoint::{Endpoint, SqlServerOptions};
use tandem_engine::module::{Build, BuildError, Cx, EventDef, Module, ModuleDef};
use tandem_engine::sql_server::{
    EXEC_QUERY_THRESHOLD, MAX_DB_QUERIES, USE_TLS, log_news, number, options,
};
use tandem_engine::table::{moot, param};
use tandem_script::sig::ParamKind;
use tandem_script::value::Value;

const CONNECTION: &str = "E_MYSQL_CONNECTION";

/// The table of `db_mysql`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "db_mysql",
    help: "Databases of MySQL and MariaDB.",
    dependencies: &[],
    params: &[
        param("timeout_interval", ParamKind::Int, Some("2"), "Seconds for a connect or a query."),
        EXEC_QUERY_THRESHOLD,
        param("max_db_retries", ParamKind::Int, Some("3"), "Attempts to connect again."),
        MAX_DB_QUERIES,
        USE_TLS,
        moot("ps_max_col_size", ParamKind::Int, "columns are read whole, whatever their size"),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[EventDef {
        name: CONNECTION,
        params: &["url", "status"],
        help: "A server is connected or disconnected.",
    }],
    build,
};

struct DbMySql(SqlServerOptions);

impl Module for DbMySql {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::SqlServer(self.0)]
    }

    fn db_news(&self, cx: &mut Cx<'_>, url: &DbUrl, news: &DbNews) {
        if url.backend != Backend::MySql {
            return;
        }
        log_news(cx, url, news);
        let status = match news {
            DbNews::Connected => "connected",
            DbNews::Lost { .. } => "disconnected",
            DbNews::Slow { .. } => return,
        };
        let text = |s: &str| Value::str(s.to_owned().into_bytes());
        cx.raise(CONNECTION, vec![("url", text(&url.to_string())), ("status", text(status))]);
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let connects_max = number(from, "max_db_retries", 0)?.saturating_add(1).min(100) as u32;
    let options = options(from, Backend::MySql, "timeout_interval")?;
    Ok(Arc::new(DbMySql(SqlServerOptions { connects_max, ..options })))
}
