//! Parameters, and what the database answers.

use std::sync::Arc;

use bytes::Bytes;
use tandem_db::{DbError, Name, Rows};
use tandem_engine::context::{BRANCHES_MAX, Branch, Ctx};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module};
use tandem_script::program::VarId;
use tandem_script::value::Value;
use tandem_sip::Uri;

/// The state of the module.
pub(crate) struct AliasDb {
    pub(crate) database: DatabaseId,
    pub(crate) user: Name,
    pub(crate) domain: Name,
    pub(crate) alias_user: Name,
    pub(crate) alias_domain: Name,
    pub(crate) domain_prefix: Vec<u8>,
    pub(crate) append_branches: bool,
}

/// Where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Target,
    Var(VarId),
}

impl AliasDb {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let Some(database) = build.database_param("db_url")? else {
            return Err(BuildError::new("db_url", "alias_db needs a database")
                .help("set `db_url` of alias_db, or the global `db_default_url`"));
        };
        let column = |name: &str| Name::from(build.text(name).unwrap_or_default().to_owned());
        Ok(Arc::new(Self {
            database,
            user: column("user_column"),
            domain: column("domain_column"),
            alias_user: column("alias_user_column"),
            alias_domain: column("alias_domain_column"),
            domain_prefix: build.text("domain_prefix").unwrap_or_default().into(),
            append_branches: build.int("append_branches") == Some(1),
        }))
    }
}

impl Module for AliasDb {
    fn db(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        let Some(wait) = cx.asked::<Wait>(run) else { return };
        let found = match result {
            Ok(rows) => rows.rows.iter().filter_map(|row| uri(row)).collect::<Vec<_>>(),
            Err(error) => {
                cx.log(Level::Error, format!("alias_db: the database does not answer: {error}"));
                Vec::new()
            }
        };
        let mut found = found.into_iter();
        let Some(first) = found.next() else { return cx.resume(run, -1) };
        let code = match wait {
            Wait::Target => {
                let further = found.take(if self.append_branches { BRANCHES_MAX } else { 0 });
                cx.with_suspended(run, |ctx| put(ctx, first, further));
                1
            }
            Wait::Var(var) => match cx.assign_suspended(run, var, Value::Str(first)) {
                Ok(()) => 1,
                Err(why) => {
                    cx.log(Level::Error, format!("alias_db_find: {why}"));
                    -1
                }
            },
        };
        cx.resume(run, code);
    }
}

fn put(ctx: &mut Ctx, first: Bytes, further: impl Iterator<Item = Bytes>) {
    ctx.target.uri = Some(first);
    for uri in further {
        if ctx.branches.len() < BRANCHES_MAX {
            ctx.branches.push(Branch { uri: Some(uri), ..Branch::default() });
        }
    }
}

/// The URI of a row of user and domain; a row that makes none is left out.
fn uri(row: &[tandem_db::Value]) -> Option<Bytes> {
    let [user, domain] = row else { return None };
    let uri = format!("sip:{}@{}", user.as_str()?, domain.as_str()?);
    Uri::parse(uri.as_bytes()).ok()?;
    Some(Bytes::from(uri))
}
