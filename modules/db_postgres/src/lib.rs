//! `db_postgres`: databases of PostgreSQL, for `postgres://` urls.
//!
//! The queries are carried out by the binary's driver; this module says how it uses the servers.

use std::sync::Arc;

use tandem_db::{Backend, DbUrl};
use tandem_engine::effect::DbNews;
use tandem_engine::endpoint::{Endpoint, SqlServerOptions};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef};
use tandem_engine::sql_server::{log_news, number};
use tandem_engine::table::param;
use tandem_script::sig::ParamKind;

/// The table of `db_postgres`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "db_postgres",
    help: "Databases of PostgreSQL.",
    dependencies: &[],
    params: &[
        param(
            "exec_query_threshold",
            ParamKind::Int,
            Some("0"),
            "Microseconds; slower queries are logged, 0: none.",
        ),
        param(
            "max_db_queries",
            ParamKind::Int,
            Some("2"),
            "Attempts at a query whose connection is lost.",
        ),
        param("timeout", ParamKind::Int, Some("5"), "Seconds for a connect or a query."),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct DbPostgres(SqlServerOptions);

impl Module for DbPostgres {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::SqlServer(self.0)]
    }

    fn db_news(&self, cx: &mut Cx<'_>, url: &DbUrl, news: &DbNews) {
        if url.backend == Backend::Postgres {
            log_news(cx, url, news);
        }
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    Ok(Arc::new(DbPostgres(SqlServerOptions {
        backend: Backend::Postgres,
        timeout_ms: number(from, "timeout", 1)?.saturating_mul(1000),
        connects_max: 1,
        attempts_max: number(from, "max_db_queries", 1)?.min(100) as u32,
        slow_us: number(from, "exec_query_threshold", 0)?,
    })))
}
