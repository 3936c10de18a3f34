//! From a query to SQL text and the values bound to it.

use std::fmt::Write;

use crate::literal;
use crate::query::{Cond, Name, Query, Row, Select};
use crate::value::format_time;
use crate::{Backend, DbError, DbErrorKind, Value};

/// How one kind of database writes SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub backend: Backend,
    /// Around table and column names.
    quote: char,
    /// `$1`, `$2` instead of `?`.
    numbered: bool,
}

/// SQL with a placeholder for each bind, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sql: String,
    pub binds: Vec<Value>,
}

impl Dialect {
    // Not `"`: SQLite takes an unknown name in double quotes for a text.
    pub const SQLITE: Self = Self { backend: Backend::Sqlite, quote: '`', numbered: false };
    pub const MYSQL: Self = Self { backend: Backend::MySql, quote: '`', numbered: false };
    pub const POSTGRES: Self = Self { backend: Backend::Postgres, quote: '"', numbered: true };

    /// The statement of one query. The same shape of query gives the same text, so a driver can
    /// keep it prepared. A batch is refused: run its parts in a transaction.
    pub fn statement(&self, query: &Query) -> Result<Statement, DbError> {
        let mut w = Writer::new(*self);
        w.query(query)?;
        Ok(Statement { sql: w.sql, binds: w.binds })
    }

    /// The text of one query, its values in it: for servers that are asked without preparing.
    pub fn text(&self, query: &Query) -> Result<String, DbError> {
        let mut w = Writer::new(*self);
        w.literals = true;
        w.query(query)?;
        match w.refused.take() {
            Some(error) => Err(error),
            None => Ok(w.sql),
        }
    }

    /// A quoted name, each part of `schema.table` on its own.
    pub fn quoted(&self, name: &str) -> Result<String, DbError> {
        let mut w = Writer::new(*self);
        w.name(name)?;
        Ok(w.sql)
    }
}

/// Accepts letters, digits, `_` and single dots between parts: what a table or column name from a
/// modparam may hold. At most 128 bytes.
pub fn check_name(name: &str) -> Result<(), DbError> {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.len() <= NAME_BYTES_MAX && name.split('.').all(part) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(malformed(format!(
        "`{shown}` is no table or column name; letters, digits, `_` and `.` are allowed"
    )))
}

struct Writer {
    dialect: Dialect,
    sql: String,
    binds: Vec<Value>,
    /// Values go into the text.
    literals: bool,
    /// The first value that has no literal.
    refused: Option<DbError>,
}

impl Writer {
    fn new(dialect: Dialect) -> Self {
        let sql = String::with_capacity(160);
        Self { dialect, sql, binds: Vec::new(), literals: false, refused: None }
    }

    fn query(&mut self, query: &Query) -> Result<(), DbError> {
        match query {
            Query::Select(select) => self.select(select)?,
            Query::Insert { table, row } => self.insert(table, row, &[])?,
            Query::InsertRows { table, columns, rows } => self.insert_rows(table, columns, rows)?,
            Query::Update { table, set, conds } => self.update(table, set, conds)?,
            Query::Delete { table, conds } => {
                self.sql.push_str("DELETE FROM ");
                self.name(table)?;
                self.conds(conds)?;
            }
            Query::InsertOrUpdate { table, keys, set } => self.upsert(table, keys, set)?,
            Query::Raw { sql } => self.sql.push_str(sql),
            Query::Batch(_) => return Err(malformed("a batch cannot be part of a batch")),
        }
        Ok(())
    }

    fn select(&mut self, select: &Select) -> Result<(), DbError> {
        self.sql.push_str("SELECT ");
        if select.columns.is_empty() {
            self.sql.push('*');
        }
        for (i, column) in select.columns.iter().enumerate() {
            self.comma(i);
            self.name(column)?;
        }
        self.sql.push_str(" FROM ");
        self.name(&select.table)?;
        self.conds(&select.conds)?;
        for (i, order) in select.order.iter().enumerate() {
            self.sql.push_str(if i == 0 { " ORDER BY " } else { ", " });
            self.name(&order.column)?;
            self.sql.push_str(if order.descending { " DESC" } else { "" });
        }
        if let Some(limit) = select.limit {
            self.sql.push_str(" LIMIT ");
            self.bind(&Value::Int(i64::from(limit)));
        }
        Ok(())
    }

    fn insert(
        &mut self,
        table: &str,
        row: &[(Name, Value)],
        more: &[(Name, Value)],
    ) -> Result<(), DbError> {
        self.sql.push_str("INSERT INTO ");
        self.name(table)?;
        if row.is_empty() && more.is_empty() {
            let mysql = self.dialect.backend == Backend::MySql;
            self.sql.push_str(if mysql { " () VALUES ()" } else { " DEFAULT VALUES" });
            return Ok(());
        }
        self.sql.push_str(" (");
        for (i, (column, _)) in row.iter().chain(more).enumerate() {
            self.comma(i);
            self.name(column)?;
        }
        self.sql.push_str(") VALUES (");
        for (i, (_, value)) in row.iter().chain(more).enumerate() {
            self.comma(i);
            self.bind(value);
        }
        self.sql.push(')');
        Ok(())
    }

    fn insert_rows(&mut self, table: &str, columns: &[Name], rows: &[Row]) -> Result<(), DbError> {
        if columns.is_empty() || rows.is_empty() || rows.iter().any(|r| r.len() != columns.len()) {
            return Err(malformed("rows to insert have the same columns, one at least"));
        }
        self.sql.push_str("INSERT INTO ");
        self.name(table)?;
        self.sql.push_str(" (");
        for (i, column) in columns.iter().enumerate() {
            self.comma(i);
            self.name(column)?;
        }
        self.sql.push_str(") VALUES ");
        for (n, row) in rows.iter().enumerate() {
            self.sql.push_str(if n == 0 { "(" } else { ", (" });
            for (i, value) in row.iter().enumerate() {
                self.comma(i);
                self.bind(value);
            }
            self.sql.push(')');
        }
        Ok(())
    }

    fn update(
        &mut self,
        table: &str,
        set: &[(Name, Value)],
        conds: &[Cond],
    ) -> Result<(), DbError> {
        if set.is_empty() {
            return Err(malformed("an update changes at least one column"));
        }
        self.sql.push_str("UPDATE ");
        self.name(table)?;
        self.sql.push_str(" SET ");
        for (i, (column, value)) in set.iter().enumerate() {
            self.comma(i);
            self.name(column)?;
            self.sql.push('=');
            self.bind(value);
        }
        self.conds(conds)
    }

    fn upsert(
        &mut self,
        table: &str,
        keys: &[(Name, Value)],
        set: &[(Name, Value)],
    ) -> Result<(), DbError> {
        if keys.is_empty() {
            return Err(malformed("an insert-or-update needs its key columns"));
        }
        self.insert(table, keys, set)?;
        let mysql = self.dialect.backend == Backend::MySql;
        if mysql {
            self.sql.push_str(" ON DUPLICATE KEY UPDATE ");
            if set.is_empty() {
                // Nothing to change: naming the key keeps the row as it is.
                for (i, (column, _)) in keys.iter().enumerate() {
                    self.comma(i);
                    self.name(column)?;
                    self.sql.push('=');
                    self.name(column)?;
                }
            }
        } else {
            self.sql.push_str(" ON CONFLICT (");
            for (i, (column, _)) in keys.iter().enumerate() {
                self.comma(i);
                self.name(column)?;
            }
            self.sql.push_str(if set.is_empty() { ") DO NOTHING" } else { ") DO UPDATE SET " });
        }
        for (i, (column, _)) in set.iter().enumerate() {
            self.comma(i);
            self.name(column)?;
            self.sql.push_str(if mysql { "=VALUES(" } else { "=excluded." });
            self.name(column)?;
            self.sql.push_str(if mysql { ")" } else { "" });
        }
        Ok(())
    }

    fn conds(&mut self, conds: &[Cond]) -> Result<(), DbError> {
        for (i, cond) in conds.iter().enumerate() {
            self.sql.push_str(if i == 0 { " WHERE " } else { " AND " });
            self.name(&cond.column)?;
            match (&cond.value, cond.op) {
                (Value::Null, crate::Op::Eq) => self.sql.push_str(" IS NULL"),
                (Value::Null, crate::Op::Ne) => self.sql.push_str(" IS NOT NULL"),
                (value, op) => {
                    self.sql.push_str(op.sql());
                    self.bind(value);
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<(), DbError> {
        check_name(name)?;
        for (i, part) in name.split('.').enumerate() {
            self.sql.push_str(if i == 0 { "" } else { "." });
            self.sql.push(self.dialect.quote);
            self.sql.push_str(part);
            self.sql.push(self.dialect.quote);
        }
        Ok(())
    }

    fn bind(&mut self, value: &Value) {
        if self.literals {
            if let Err(error) = literal::push(&mut self.sql, self.dialect.backend, value) {
                self.refused.get_or_insert(error);
            }
            return;
        }
        // SQLite has no type for it, and MySQL and PostgreSQL read this text.
        self.binds.push(match value {
            Value::Time(t) => Value::Str(format_time(*t)),
            other => other.clone(),
        });
        if self.dialect.numbered {
            // Writing to a String does not fail.
            let _ = write!(self.sql, "${}", self.binds.len());
        } else {
            self.sql.push('?');
        }
    }

    fn comma(&mut self, at: usize) {
        self.sql.push_str(if at == 0 { "" } else { ", " });
    }
}

fn malformed(message: impl Into<String>) -> DbError {
    DbError::new(DbErrorKind::Malformed, message)
}

const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Order};
    use proptest::prelude::*;

    #[test]
    fn a_select_names_its_columns_and_binds_its_values() {
        let query = Query::Select(Select {
            table: "location".into(),
            columns: vec!["contact".into(), "q".into()],
            conds: vec![
                Cond::eq("username", "bob"),
                Cond::new("expires", Op::Gt, 100),
                Cond::eq("domain", Value::Null),
            ],
            order: vec![Order { column: "q".into(), descending: true }],
            limit: Some(5),
        });
        let statement = Dialect::SQLITE.statement(&query).expect("statement");
        assert_eq!(
            statement.sql,
            "SELECT `contact`, `q` FROM `location` WHERE `username`=? AND `expires`>? \
             AND `domain` IS NULL ORDER BY `q` DESC LIMIT ?"
        );
        assert_eq!(statement.binds, vec!["bob".into(), Value::Int(100), Value::Int(5)]);
    }

    #[test]
    fn an_upsert_is_written_in_the_way_of_each_database() {
        let query = Query::InsertOrUpdate {
            table: "t".into(),
            keys: vec![("k".into(), Value::Int(1))],
            set: vec![("v".into(), Value::Time(0))],
        };
        let sql = |d: Dialect| d.statement(&query).expect("statement").sql;
        assert_eq!(
            sql(Dialect::POSTGRES),
            "INSERT INTO \"t\" (\"k\", \"v\") VALUES ($1, $2) \
             ON CONFLICT (\"k\") DO UPDATE SET \"v\"=excluded.\"v\""
        );
        assert_eq!(
            sql(Dialect::MYSQL),
            "INSERT INTO `t` (`k`, `v`) VALUES (?, ?) ON DUPLICATE KEY UPDATE `v`=VALUES(`v`)"
        );
        let binds = Dialect::SQLITE.statement(&query).expect("statement").binds;
        assert_eq!(binds[1], Value::from("1970-01-01 00:00:00"));
    }

    #[test]
    fn rows_go_in_together() {
        let rows = |n: i64| Query::InsertRows {
            table: "t".into(),
            columns: vec!["a".into(), "b".into()],
            rows: (0..n).map(|i| vec![Value::Int(i), "x".into()]).collect(),
        };
        let statement = Dialect::POSTGRES.statement(&rows(2)).expect("statement");
        assert_eq!(statement.sql, "INSERT INTO \"t\" (\"a\", \"b\") VALUES ($1, $2), ($3, $4)");
        assert_eq!(statement.binds.len(), 4);
        assert!(Dialect::MYSQL.statement(&rows(0)).is_err());
    }

    #[test]
    fn a_name_with_anything_else_in_it_is_refused() {
        for name in ["", "a b", "a\"b", "a;b", "a..b", ".a", "tab\u{e9}", "`"] {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.kind, DbErrorKind::Malformed);
        }
        assert_eq!(Dialect::SQLITE.quoted("main.location"), Ok("`main`.`location`".into()));
    }

    proptest! {
        #[test]
        fn no_name_escapes_its_quotes(name in "\\PC{0,12}") {
            if let Ok(quoted) = Dialect::SQLITE.quoted(&name) {
                let inner = quoted.replace("`.`", ".");
                prop_assert_eq!(inner.trim_matches('`'), name.as_str());
            }
        }
    }
}
