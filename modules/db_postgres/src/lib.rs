//! `db_postgres`: databases of PostgreSQL, for `postgres://` urls.
//!
//! The queries are carried out by the binary's driver; this module says how it uses the servers.

use std::sync::Arc;

use tandem_db::{Backend, DbUrl};
use tandem_engine::effect::DbNews;
use tandem_engine::endpoint::{Endpoint, SqlServerOptions};
use tandem_engine::module::{Build, BuildError, Cx, Module, ModuleDef};
use tandem_engine::sql_server::{EXEC_QUERY_THRESHOLD, MAX_DB_QUERIES, USE_TLS, log_news, options};
use tandem_engine::table::param;
use tandem_script::sig::ParamKind;

/// The table of `db_postgres`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "db_postgres",
    help: "Databases of PostgreSQL.",
    dependencies: &[],
    params: &[
        EXEC_QUERY_THRESHOLD,
        MAX_DB_QUERIES,
        param("timeout", ParamKind::Int, Some("5"), "Seconds for a connect or a query."),
        USE_TLS,
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
    Ok(Arc::new(DbPostgres(options(from, Backend::Postgres, "timeout")?)))
}
