//! The running module: questions under way, and what their answers mean.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_auth::{Auth, Claim};
use tandem_db::{Cond, DbError, DbErrorKind, Query, Rows, Select, Value};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module};
use tandem_script::host::Called;
use tandem_script::program::VarId;

use crate::authorize;
use crate::params::Params;
use crate::uri;

/// Tables whose version was looked at, at most; further ones are not checked.
const TABLES_MAX: usize = 100;

/// The state of the module.
pub(crate) struct AuthDb {
    pub(crate) params: Params,
    pub(crate) auth: Arc<Auth>,
    slot: u16,
    /// Tables whose version was asked for.
    checked: Mutex<BTreeSet<String>>,
}

/// What a run waits for.
pub(crate) enum Wait {
    /// The secret of a user, in the first column, then what is to be loaded.
    Secret(Claim),
    /// Whether there is a row.
    Exists,
    /// User name and domain, for these variables.
    AuthId {
        user: Option<VarId>,
        realm: Option<VarId>,
        /// What is asked where the table has no column for the users of URIs.
        otherwise: Option<Box<Select>>,
    },
    /// The version of a table; then the question itself.
    Version { table: String, wanted: i64, then: Box<(Select, Self)> },
}

/// The place of [`Wait`] in a context.
#[derive(Default)]
struct Waiting(Option<Wait>);

impl AuthDb {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let auth = build.module::<Auth>();
        let auth = auth.ok_or_else(|| {
            BuildError::new("", "auth_db needs the module auth")
                .help("add `loadmodule \"auth.so\"` before it")
        })?;
        let params = Params::read(build)?;
        Ok(Arc::new(Self { params, auth, slot: build.slot, checked: Mutex::default() }))
    }

    /// Asks the database and suspends the run. `standard` is the standard table that the
    /// question is about, whatever its name is here.
    pub(crate) fn ask(
        &self,
        call: &mut Call<'_, '_, '_>,
        select: Select,
        standard: &str,
        wait: Wait,
    ) -> Called {
        if let Err(why) = tandem_db::check_name(&select.table) {
            return call.complain(Level::Error, why.to_string());
        }
        let (select, wait) = match self.version_question(&select, standard, wait) {
            Ok(version) => version,
            Err(wait) => (select, wait),
        };
        let run = call.suspend();
        call.ctx.section_mut::<Waiting>(self.slot).0 = Some(wait);
        call.cx.query(self.params.database, Query::Select(select), run);
        Called::Suspended
    }

    /// The question for the version of a table that is used for the first time.
    fn version_question(
        &self,
        select: &Select,
        standard: &str,
        wait: Wait,
    ) -> Result<(Select, Wait), Wait> {
        let wanted = tandem_db::schema::table(standard).map(|table| table.version);
        let Some(wanted) = wanted.filter(|_| self.params.check_versions) else { return Err(wait) };
        let mut checked = self.checked.lock();
        if checked.len() >= TABLES_MAX || checked.contains(select.table.as_ref()) {
            return Err(wait);
        }
        let table = select.table.to_string();
        checked.insert(table.clone());
        let question = Select {
            table: "version".into(),
            columns: vec!["table_version".into()],
            conds: vec![Cond::eq("table_name", table.as_str())],
            limit: Some(1),
            ..Select::default()
        };
        Ok((question, Wait::Version { table, wanted, then: Box::new((select.clone(), wait)) }))
    }

    fn answered(&self, cx: &mut Cx<'_>, run: u64, wait: Wait, result: Result<Rows, DbError>) {
        let rows = match (result, wait) {
            (result, Wait::Version { table, wanted, then }) => {
                self.tell_version(cx, &table, wanted, result);
                let (select, wait) = *then;
                cx.change_suspended(run, |_, ctx| {
                    ctx.section_mut::<Waiting>(self.slot).0 = Some(wait);
                });
                return cx.query(self.params.database, Query::Select(select), run);
            }
            (Err(error), Wait::AuthId { user, realm, otherwise: Some(select) })
                if error.kind == DbErrorKind::Missing =>
            {
                cx.change_suspended(run, |_, ctx| {
                    let wait = Wait::AuthId { user, realm, otherwise: None };
                    ctx.section_mut::<Waiting>(self.slot).0 = Some(wait);
                });
                return cx.query(self.params.database, Query::Select(*select), run);
            }
            (Ok(rows), wait) => (rows, wait),
            (Err(error), wait) => {
                cx.log(Level::Error, format!("auth_db: the database does not answer: {error}"));
                let code = match wait {
                    Wait::Secret(_) => tandem_auth::code::ERROR,
                    _ => -1,
                };
                return cx.resume(run, code);
            }
        };
        let code = match rows {
            (rows, Wait::Secret(claim)) => {
                let judged = cx.change_suspended(run, |cx, ctx| {
                    authorize::judge(self, cx.now, ctx, &claim, &rows)
                });
                judged.unwrap_or(tandem_auth::code::ERROR)
            }
            (rows, Wait::AuthId { user, realm, .. }) => {
                uri::tell_auth_id(cx, run, user, realm, &rows)
            }
            (rows, _) => {
                if rows.rows.is_empty() {
                    -1
                } else {
                    1
                }
            }
        };
        cx.resume(run, code);
    }

    fn tell_version(
        &self,
        cx: &mut Cx<'_>,
        table: &str,
        wanted: i64,
        result: Result<Rows, DbError>,
    ) {
        let found = result.ok().and_then(|rows| rows.get(0, "table_version")?.as_int());
        if found == Some(wanted) {
            return;
        }
        let found = found.map_or("no version".into(), |found| format!("version {found}"));
        let text = format!(
            "auth_db: table `{table}` has {found} in the table `version`, {wanted} is wanted: \
             create it anew or set skip_version_check"
        );
        cx.log(Level::Warning, text);
    }
}

impl Module for AuthDb {
    fn db(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        let mut wait = None;
        cx.with_suspended(run, |ctx| wait = ctx.section_mut::<Waiting>(self.slot).0.take());
        // A run that was given up waits for nothing.
        if let Some(wait) = wait {
            self.answered(cx, run, wait, result);
        }
    }
}

/// A text from the network as a value to compare with.
pub(crate) fn text(part: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(part).into_owned())
}
