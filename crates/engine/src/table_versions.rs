//! Versions of tables. The table `version` says by which release a table was made; one that was
//! made by another has other columns, or means something else by them. It is asked once for each
//! database, when the first rows are loaded from it, and about every standard table that is read
//! before the node serves.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_db::{DbError, DbErrorKind, Query, Rows, Select};

use crate::core::SLOT as CORE;
use crate::effect::{DatabaseId, Effect};
use crate::log::Level;
use crate::module::{Cx, with_slot};

/// Versions of earlier releases (from 3.0 on): such tables are tried, for they may do.
const EARLIER: &[(&str, &[i64])] = &[
    ("dialog", &[10, 11]),
    ("dispatcher", &[8]),
    ("domain", &[3]),
    ("dr_carriers", &[2]),
    ("dr_rules", &[3]),
    ("load_balancer", &[2]),
    ("pua", &[8]),
    ("subscriber", &[7]),
];
/// Rows of `version` that are read.
const ROWS_MAX: u32 = 1_000;

/// What is known of the databases.
#[derive(Debug, Default)]
pub struct TableVersions {
    all: Mutex<BTreeMap<u16, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Tables that were read before the answer came.
    tables: Vec<&'static str>,
    /// By table, when the answer is there.
    versions: Option<BTreeMap<String, i64>>,
}

impl Cx<'_> {
    /// A module reads a table while the node starts.
    pub(crate) fn check_version(&mut self, database: DatabaseId, ask: &Query) {
        let Query::Select(select) = ask else { return };
        let Some(table) = tandem_db::schema::table(&select.table) else { return };
        let name = table.name.as_str();
        let (is_first, known) = {
            let mut all = self.node.table_versions.all.lock();
            let is_first = !all.contains_key(&database.0);
            let known = all.entry(database.0).or_default();
            if known.versions.is_none() {
                known.tables.push(name);
            }
            (is_first, known.versions.as_ref().map(|all| all.get(name).copied()))
        };
        if let Some(found) = known {
            self.judge_version(name, table.version, found);
        } else if is_first {
            // Nobody waits for the answer: it comes before the rows that are asked for behind it.
            let ask = Query::Select(Select {
                table: "version".into(),
                columns: vec!["table_name".into(), "table_version".into()],
                limit: Some(ROWS_MAX),
                ..Select::default()
            });
            let query = with_slot(CORE, database.0.into());
            self.out.push(Effect::Db { query, database, ask });
        }
    }

    /// A table cannot be read. If it or a column is missing that will not pass by itself, so the
    /// node does not start; what passes is only said.
    pub fn table_failed(&mut self, table: &str, error: &DbError) {
        let text = format!("the table {table} cannot be loaded: {error}");
        if error.kind == DbErrorKind::Missing && !self.node.is_ready() {
            self.out.push(Effect::Fatal { text });
        } else {
            self.log(Level::Error, text);
        }
    }

    /// The table `version` of a database was read. A database without one is taken as it is.
    pub(crate) fn versions_read(&mut self, database: u64, result: Result<Rows, DbError>) {
        let rows = result.map(|rows| rows.rows).unwrap_or_default();
        let version = |row: &Vec<tandem_db::Value>| {
            let name = row.first()?.as_str()?.to_owned();
            Some((name, row.get(1)?.as_int()?))
        };
        let versions: BTreeMap<String, i64> = rows.iter().filter_map(version).collect();
        let tables = {
            let mut all = self.node.table_versions.all.lock();
            let known = u16::try_from(database).ok().and_then(|id| all.get_mut(&id));
            let Some(known) = known else { return };
            known.versions = Some(versions.clone());
            std::mem::take(&mut known.tables)
        };
        for name in tables {
            if let Some(table) = tandem_db::schema::table(name) {
                self.judge_version(name, table.version, versions.get(name).copied());
            }
        }
    }

    fn judge_version(&mut self, table: &str, wanted: i64, found: Option<i64>) {
        let Some(found) = found.filter(|found| *found != wanted) else { return };
        let text = format!(
            "table `{table}` has version {found} in the table `version`, {wanted} is wanted: \
             migrate it, or create it with `tandemctl db create {table}`"
        );
        let is_earlier = EARLIER.iter().any(|(name, all)| *name == table && all.contains(&found));
        if is_earlier {
            self.log(Level::Warning, text);
        } else {
            self.out.push(Effect::Fatal { text });
        }
    }
}
