//! Parameters, the expressions in memory, and what the database answers.

use std::sync::Arc;

use regex::bytes::Regex;
use tandem_db::{DbError, Name, Rows, Select};
use tandem_engine::cached::{Cached, Part};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_script::vm::compile_posix;

use crate::aaa::Radius;

/// Expressions in the order of the table, with their groups.
pub(crate) type Expressions = Vec<(Regex, i32)>;

/// The state of the module.
pub(crate) struct Group {
    /// `None`: groups are those of a RADIUS server alone.
    pub(crate) database: Option<DatabaseId>,
    pub(crate) radius: Option<Radius>,
    pub(crate) table: Name,
    pub(crate) user: Name,
    pub(crate) domain: Name,
    pub(crate) group: Name,
    pub(crate) use_domain: bool,
    pub(crate) multiple: bool,
    /// One table, or none without `re_table`.
    pub(crate) expressions: Cached<Expressions>,
}

/// A run waits whether there is a row.
pub(crate) struct IsIn;

impl Group {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let database = build.database_param("db_url")?;
        let radius = Radius::build(build)?;
        let asks_database = build.program.calls(build.slot, "db_is_user_in")
            || build.text("re_table").is_some_and(|table| !table.is_empty());
        if database.is_none() && (asks_database || radius.is_none()) {
            return Err(BuildError::new("db_url", "group needs a database")
                .help("set `db_url` of group, or the global `db_default_url`"));
        }
        let name = |param: &str| Name::from(build.text(param).unwrap_or_default().to_owned());
        let select = Select {
            table: name("re_table"),
            columns: vec![name("re_exp_column"), name("re_gid_column")],
            ..Select::default()
        };
        let table = build.text("re_table").zip(database);
        let part = table.map(|(table, database)| Part::new(table, database, select));
        let refusal = (500, "Reload failed");
        let expressions = Cached::new(part.into_iter().collect(), refusal);
        Ok(Arc::new(Self {
            database,
            radius,
            table: name("table"),
            user: name("user_column"),
            domain: name("domain_column"),
            group: name("group_column"),
            use_domain: build.int("use_domain") != Some(0),
            multiple: build.int("multiple_gid") != Some(0),
            expressions: expressions.map_err(|why| BuildError::new("re_table", why))?,
        }))
    }
}

impl Module for Group {
    fn start(&self, cx: &mut Cx<'_>) {
        self.expressions.start(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if let Some(radius) = &self.radius {
            radius.answered(cx, timer);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if Cached::<Expressions>::owns(token) {
            return self.expressions.answered(cx, token, result, read);
        }
        if cx.asked::<IsIn>(token).is_none() {
            return;
        }
        let code = match result {
            Ok(rows) if !rows.rows.is_empty() => 1,
            Ok(_) => -1,
            Err(error) => {
                cx.log(Level::Error, format!("group: the database does not answer: {error}"));
                -1
            }
        };
        cx.resume(token, code);
    }
}

fn read(cx: &mut Cx<'_>, rows: &Rows) -> Expressions {
    let mut all = Expressions::new();
    for row in &rows.rows {
        let [expression, group] = row.as_slice() else { continue };
        let text = expression.as_str().unwrap_or_default();
        let group = group.as_int().and_then(|group| i32::try_from(group).ok());
        match (compile_posix(text.as_bytes(), true, false), group) {
            (Ok(regex), Some(group)) => all.push((regex, group)),
            (Ok(_), None) => cx.log(Level::Error, format!("group: \"{text}\" has no number")),
            (Err(why), _) => cx.log(Level::Error, format!("group: \"{text}\": {why}")),
        }
    }
    all
}
