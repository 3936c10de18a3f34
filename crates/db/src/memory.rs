//! A database in memory: the same answers as SQLite, for the simulator and for tests.
//!
//! It follows SQLite's rules of types, keys and NULL. It knows the tables it was given, keeps
//! rows in the order of their row numbers, and does not execute SQL text.

use std::collections::BTreeMap;

use crate::affinity::{compare, from_storage};
use crate::query::{Cond, Name, Op, Query, Row, Rows, Select};
use crate::schema::{ColumnDefault, Table};
use crate::{Affinity, DbError, DbErrorKind, Value, check_name};

/// See the module.
#[derive(Clone, Debug)]
pub struct MemoryDb {
    tables: BTreeMap<String, MemoryTable>,
    rows_max: usize,
}

#[derive(Clone, Debug)]
struct MemoryTable {
    def: Table,
    rows: BTreeMap<i64, Row>,
    /// The highest number given out, for an auto-increment column.
    sequence: i64,
    /// The column that is the row number itself.
    rowid_column: Option<usize>,
    /// Positions of the columns of each unique key, the primary key included.
    unique: Vec<Vec<usize>>,
}

impl MemoryDb {
    /// An empty database; a table holds at most `rows_max` rows.
    pub fn new(rows_max: usize) -> Self {
        Self { tables: BTreeMap::new(), rows_max }
    }

    /// A database with these tables, empty, each at most a million rows.
    pub fn with_tables<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Self {
        let mut db = Self::new(ROWS_MAX_DEFAULT);
        for table in tables {
            db.create(table);
        }
        db
    }

    /// Adds a table unless it exists.
    pub fn create(&mut self, table: &Table) {
        let name = table.name.to_ascii_lowercase();
        self.tables.entry(name).or_insert_with(|| MemoryTable::new(table));
    }

    /// Answers a query. A query that fails changes nothing.
    pub fn execute(&mut self, query: &Query) -> Result<Rows, DbError> {
        let rows;
        let queries = match query {
            Query::Batch(queries) => queries,
            Query::InsertRows { table, columns, rows: all } => {
                rows = single_inserts(table, columns, all)?;
                &rows
            }
            query => return self.execute_one(query),
        };
        let saved = self.tables.clone();
        let mut answer = Rows::default();
        let mut affected = 0;
        for query in queries {
            match self.execute_one(query) {
                Ok(rows) => {
                    affected += rows.affected;
                    answer = rows;
                }
                Err(error) => {
                    self.tables = saved;
                    return Err(error);
                }
            }
        }
        answer.affected = affected;
        Ok(answer)
    }

    fn execute_one(&mut self, query: &Query) -> Result<Rows, DbError> {
        let rows_max = self.rows_max;
        match query {
            Query::Select(select) => self.table(&select.table)?.select(select),
            Query::Insert { table, row } => self.table(table)?.insert(row, rows_max),
            Query::InsertRows { table, columns, rows } => {
                let mut answer = Rows::default();
                for insert in single_inserts(table, columns, rows)? {
                    answer.affected += self.execute_one(&insert)?.affected;
                }
                Ok(answer)
            }
            Query::Update { table, set, conds } => self.table(table)?.update(set, conds),
            Query::Delete { table, conds } => self.table(table)?.delete(conds),
            Query::InsertOrUpdate { table, keys, set } => {
                self.table(table)?.upsert(keys, set, rows_max)
            }
            Query::Raw { .. } => Err(malformed("a database in memory does not execute SQL text")),
            Query::Batch(_) => Err(malformed("a batch cannot be part of a batch")),
        }
    }

    fn table(&mut self, name: &str) -> Result<&mut MemoryTable, DbError> {
        check_name(name)?;
        self.tables
            .get_mut(&name.to_ascii_lowercase())
            .ok_or_else(|| DbError::new(DbErrorKind::Missing, format!("no such table: {name}")))
    }
}

impl MemoryTable {
    fn new(def: &Table) -> Self {
        let is_rowid = |i: usize| {
            let column = &def.columns[i];
            let [sqlite, ..] = &column.types;
            column.primary_key && sqlite.eq_ignore_ascii_case("INTEGER")
        };
        let rowid_column = (0..def.columns.len()).find(|&i| is_rowid(i));
        let primary = (0..def.columns.len()).filter(|&i| def.columns[i].primary_key).collect();
        let position = |name: &String| def.columns.iter().position(|c| &c.name == name);
        let keys = def.keys.iter().filter(|key| key.unique);
        let mut unique: Vec<Vec<usize>> =
            keys.map(|key| key.columns.iter().filter_map(position).collect()).collect();
        unique.push(primary);
        unique.retain(|key| !key.is_empty());
        Self { def: def.clone(), rows: BTreeMap::new(), sequence: 0, rowid_column, unique }
    }

    fn select(&self, select: &Select) -> Result<Rows, DbError> {
        let columns: Vec<usize> = if select.columns.is_empty() {
            (0..self.def.columns.len()).collect()
        } else {
            self.positions(select.columns.iter())?
        };
        let order = self.positions(select.order.iter().map(|order| &order.column))?;
        let matching = self.matching(&select.conds)?;
        let mut rows: Vec<&Row> = matching.iter().filter_map(|id| self.rows.get(id)).collect();
        rows.sort_by(|a, b| {
            let by = order.iter().zip(&select.order).map(|(&column, order)| {
                let ordering = compare(&a[column], &b[column]);
                if order.descending { ordering.reverse() } else { ordering }
            });
            by.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        let limit = select.limit.map_or(rows.len(), |limit| limit as usize);
        let shown = |row: &Row, column: usize| {
            let [declared, ..] = &self.def.columns[column].types;
            from_storage(declared, row[column].clone())
        };
        Ok(Rows {
            columns: columns.iter().map(|&c| self.def.columns[c].name.clone()).collect(),
            rows: rows
                .into_iter()
                .take(limit)
                .map(|row| columns.iter().map(|&column| shown(row, column)).collect())
                .collect(),
            ..Rows::default()
        })
    }

    fn insert(&mut self, row: &[(Name, Value)], rows_max: usize) -> Result<Rows, DbError> {
        let row = self.complete(row)?;
        let id = self.add(row, rows_max)?;
        Ok(Rows { affected: 1, last_insert_id: Some(id), ..Rows::default() })
    }

    fn upsert(
        &mut self,
        keys: &[(Name, Value)],
        set: &[(Name, Value)],
        rows_max: usize,
    ) -> Result<Rows, DbError> {
        let mut wanted = self.positions(keys.iter().map(|(name, _)| name))?;
        wanted.sort_unstable();
        let is_wanted = |key: &&Vec<usize>| {
            let mut key = (*key).clone();
            key.sort_unstable();
            key == wanted
        };
        let Some(key) = self.unique.iter().find(is_wanted).cloned() else {
            return Err(malformed(
                "the keys of an insert-or-update are no unique key of the table",
            ));
        };
        let all: Vec<(Name, Value)> = keys.iter().chain(set).cloned().collect();
        let row = self.complete(&all)?;
        self.check_not_null(&row)?;
        let Some(id) = self.holder(&key, &row, None) else {
            self.add(row, rows_max)?;
            return Ok(Rows { affected: 1, ..Rows::default() });
        };
        // SQLite gives the row a number before it sees that there is one already.
        let sequence = self.sequence.max(self.number_for(&row)?);
        if set.is_empty() {
            self.sequence = sequence;
            return Ok(Rows::default());
        }
        let changed = self.change(vec![id], set)?;
        self.sequence = sequence;
        Ok(changed)
    }

    fn update(&mut self, set: &[(Name, Value)], conds: &[Cond]) -> Result<Rows, DbError> {
        if set.is_empty() {
            return Err(malformed("an update changes at least one column"));
        }
        let matching = self.matching(conds)?;
        self.change(matching, set)
    }

    fn delete(&mut self, conds: &[Cond]) -> Result<Rows, DbError> {
        let matching = self.matching(conds)?;
        for id in &matching {
            self.rows.remove(id);
        }
        Ok(Rows { affected: matching.len() as u64, ..Rows::default() })
    }

    /// Changes rows one after another, or none of them.
    fn change(&mut self, ids: Vec<i64>, set: &[(Name, Value)]) -> Result<Rows, DbError> {
        let columns = self.positions(set.iter().map(|(name, _)| name))?;
        let saved = self.rows.clone();
        for &id in &ids {
            let Some(mut row) = self.rows.get(&id).cloned() else { continue };
            for (&column, (_, value)) in columns.iter().zip(set) {
                row[column] = self.def.columns[column].affinity().apply(value.clone());
            }
            if let Err(error) = self.replace(id, row) {
                self.rows = saved;
                return Err(error);
            }
        }
        Ok(Rows { affected: ids.len() as u64, ..Rows::default() })
    }

    fn replace(&mut self, id: i64, row: Row) -> Result<(), DbError> {
        let new_id = match self.rowid_column.map(|column| &row[column]) {
            None => id,
            Some(Value::Int(new_id)) => *new_id,
            Some(_) => return Err(constraint("datatype mismatch")),
        };
        self.check_not_null(&row)?;
        self.check_unique(&row, Some(id))?;
        self.rows.remove(&id);
        self.rows.insert(new_id, row);
        Ok(())
    }

    /// Adds a complete row under its number.
    fn add(&mut self, mut row: Row, rows_max: usize) -> Result<i64, DbError> {
        if self.rows.len() >= rows_max {
            return Err(DbError::new(DbErrorKind::Other, "the table is full"));
        }
        let id = self.number_for(&row)?;
        if let Some(column) = self.rowid_column {
            row[column] = Value::Int(id);
        }
        self.check_not_null(&row)?;
        self.check_unique(&row, None)?;
        self.rows.insert(id, row);
        self.sequence = self.sequence.max(id);
        Ok(id)
    }

    /// The number of a new row: the one it names, or the next.
    fn number_for(&self, row: &Row) -> Result<i64, DbError> {
        match self.rowid_column.map(|column| &row[column]) {
            Some(Value::Int(id)) => return Ok(*id),
            None | Some(Value::Null) => {}
            Some(_) => return Err(constraint("datatype mismatch")),
        }
        let counted = self.def.columns.iter().any(|column| column.auto_increment);
        let highest = self.rows.last_key_value().map_or(0, |(&id, _)| id);
        let last = if counted { highest.max(self.sequence) } else { highest };
        let full = || DbError::new(DbErrorKind::Other, "no row number is left");
        last.checked_add(1).ok_or_else(full)
    }

    /// All columns of a new row: what it names, converted, and the defaults.
    fn complete(&self, named: &[(Name, Value)]) -> Result<Row, DbError> {
        let positions = self.positions(named.iter().map(|(name, _)| name))?;
        let mut row: Row = self.def.columns.iter().map(|c| default_value(&c.default)).collect();
        for (&column, (_, value)) in positions.iter().zip(named) {
            row[column] = value.clone();
        }
        let columns = self.def.columns.iter();
        Ok(row.into_iter().zip(columns).map(|(value, c)| c.affinity().apply(value)).collect())
    }

    fn check_not_null(&self, row: &Row) -> Result<(), DbError> {
        for (i, (column, value)) in self.def.columns.iter().zip(row).enumerate() {
            if value.is_null() && !column.nullable && self.rowid_column != Some(i) {
                let place = format!("{}.{}", self.def.name, column.name);
                return Err(constraint(&format!("NOT NULL constraint failed: {place}")));
            }
        }
        Ok(())
    }

    fn check_unique(&self, row: &Row, except: Option<i64>) -> Result<(), DbError> {
        for key in &self.unique {
            if self.holder(key, row, except).is_some() {
                let names: Vec<&str> =
                    key.iter().map(|&c| self.def.columns[c].name.as_str()).collect();
                let place = format!("{}.{}", self.def.name, names.join(", "));
                return Err(constraint(&format!("UNIQUE constraint failed: {place}")));
            }
        }
        Ok(())
    }

    /// The row that holds these key values. A key with a NULL in it is held by none.
    fn holder(&self, key: &[usize], row: &Row, except: Option<i64>) -> Option<i64> {
        if key.iter().any(|&column| row[column].is_null()) {
            return None;
        }
        if let ([column], Some(rowid)) = (key, self.rowid_column)
            && *column == rowid
            && let Value::Int(id) = &row[rowid]
        {
            return self.rows.contains_key(id).then_some(*id).filter(|id| Some(*id) != except);
        }
        let same = |other: &Row| key.iter().all(|&c| compare(&other[c], &row[c]).is_eq());
        let mut others = self.rows.iter().filter(|(id, _)| Some(**id) != except);
        others.find(|(_, other)| same(other)).map(|(id, _)| *id)
    }

    fn matching(&self, conds: &[Cond]) -> Result<Vec<i64>, DbError> {
        let columns = self.positions(conds.iter().map(|cond| &cond.column))?;
        let operands: Vec<Value> = columns
            .iter()
            .zip(conds)
            .map(|(&column, cond)| operand(self.def.columns[column].affinity(), &cond.value))
            .collect();
        let holds = |row: &Row| {
            let tests = columns.iter().zip(conds).zip(&operands);
            tests.fold(true, |all, ((&column, cond), operand)| {
                all && cond_holds(&row[column], cond, operand)
            })
        };
        Ok(self.rows.iter().filter(|(_, row)| holds(row)).map(|(id, _)| *id).collect())
    }

    fn positions<'a>(&self, names: impl Iterator<Item = &'a Name>) -> Result<Vec<usize>, DbError> {
        names.map(|name| self.position(name)).collect()
    }

    fn position(&self, name: &str) -> Result<usize, DbError> {
        check_name(name)?;
        let is_it = |column: &crate::schema::Column| column.name.eq_ignore_ascii_case(name);
        self.def
            .columns
            .iter()
            .position(is_it)
            .ok_or_else(|| DbError::new(DbErrorKind::Missing, format!("no such column: {name}")))
    }
}

/// Rows that go in together, each on its own.
fn single_inserts(table: &Name, columns: &[Name], rows: &[Row]) -> Result<Vec<Query>, DbError> {
    if columns.is_empty() || rows.is_empty() || rows.iter().any(|r| r.len() != columns.len()) {
        return Err(malformed("rows to insert have the same columns, one at least"));
    }
    let insert = |row: &Row| {
        let row = columns.iter().cloned().zip(row.iter().cloned()).collect();
        Query::Insert { table: table.clone(), row }
    };
    Ok(rows.iter().map(insert).collect())
}

/// A value as SQLite converts it before it compares it with a column.
fn operand(column: Affinity, value: &Value) -> Value {
    match column {
        Affinity::Text | Affinity::Blob => column.apply(value.clone()),
        _ => Affinity::Numeric.apply(value.clone()),
    }
}

fn cond_holds(stored: &Value, cond: &Cond, operand: &Value) -> bool {
    match (&cond.value, cond.op) {
        (Value::Null, Op::Eq) => return stored.is_null(),
        (Value::Null, Op::Ne) => return !stored.is_null(),
        _ if stored.is_null() || operand.is_null() => return false,
        _ => {}
    }
    let ordering = compare(stored, operand);
    match cond.op {
        Op::Eq => ordering.is_eq(),
        Op::Ne => ordering.is_ne(),
        Op::Lt => ordering.is_lt(),
        Op::Le => ordering.is_le(),
        Op::Gt => ordering.is_gt(),
        Op::Ge => ordering.is_ge(),
    }
}

fn default_value(default: &ColumnDefault) -> Value {
    match default {
        ColumnDefault::None | ColumnDefault::Null => Value::Null,
        ColumnDefault::Int(i) => Value::Int(*i),
        ColumnDefault::Float(f) => Value::Float(*f),
        ColumnDefault::Str(s) => Value::Str(s.clone()),
    }
}

fn constraint(message: &str) -> DbError {
    DbError::new(DbErrorKind::Constraint, message)
}

fn malformed(message: &str) -> DbError {
    DbError::new(DbErrorKind::Malformed, message)
}

const ROWS_MAX_DEFAULT: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::table;

    fn domains() -> MemoryDb {
        MemoryDb::with_tables(table("domain"))
    }

    fn insert(name: &str) -> Query {
        Query::Insert { table: "domain".into(), row: vec![("domain".into(), name.into())] }
    }

    fn all() -> Query {
        Query::Select(Select { table: "domain".into(), ..Select::default() })
    }

    #[test]
    fn a_new_row_gets_its_number_and_its_defaults() {
        let mut db = domains();
        let answer = db.execute(&insert("a.example")).expect("insert");
        assert_eq!((answer.affected, answer.last_insert_id), (1, Some(1)));
        let rows = db.execute(&all()).expect("select");
        assert_eq!(rows.get(0, "id"), Some(&Value::Int(1)));
        assert_eq!(rows.get(0, "last_modified"), Some(&Value::Time(-2_208_988_799)));
    }

    #[test]
    fn a_second_row_with_the_same_unique_key_is_refused() {
        let mut db = domains();
        db.execute(&insert("a.example")).expect("insert");
        let error = db.execute(&insert("a.example")).expect_err("duplicate");
        assert_eq!(error.kind, DbErrorKind::Constraint);
    }

    #[test]
    fn a_number_of_a_deleted_row_is_not_given_again() {
        let mut db = domains();
        db.execute(&insert("a")).expect("insert");
        db.execute(&Query::Delete { table: "domain".into(), conds: vec![] }).expect("delete");
        assert_eq!(db.execute(&insert("b")).expect("insert").last_insert_id, Some(2));
    }

    #[test]
    fn an_insert_or_update_changes_the_row_that_has_the_key() {
        let mut db = domains();
        let upsert = |attrs: &str| Query::InsertOrUpdate {
            table: "domain".into(),
            keys: vec![("domain".into(), "a".into())],
            set: vec![("attrs".into(), attrs.into())],
        };
        db.execute(&upsert("1")).expect("insert");
        db.execute(&upsert("2")).expect("update");
        let rows = db.execute(&all()).expect("select");
        assert_eq!(rows.rows.len(), 1);
        assert_eq!(rows.get(0, "attrs"), Some(&"2".into()));
    }

    #[test]
    fn a_batch_that_fails_changes_nothing() {
        let mut db = domains();
        db.execute(&insert("a")).expect("insert");
        let batch = Query::Batch(vec![insert("b"), insert("a")]);
        assert_eq!(db.execute(&batch).expect_err("duplicate").kind, DbErrorKind::Constraint);
        assert_eq!(db.execute(&all()).expect("select").rows.len(), 1);
    }

    #[test]
    fn rows_of_which_one_is_refused_are_all_refused() {
        let mut db = domains();
        let rows = |names: &[&str]| Query::InsertRows {
            table: "domain".into(),
            columns: vec!["domain".into()],
            rows: names.iter().map(|n| vec![(*n).into()]).collect(),
        };
        assert_eq!(db.execute(&rows(&["a", "b"])).expect("insert").affected, 2);
        assert_eq!(
            db.execute(&rows(&["c", "a"])).expect_err("twice").kind,
            DbErrorKind::Constraint
        );
        assert_eq!(db.execute(&all()).expect("select").rows.len(), 2);
    }

    #[test]
    fn an_unknown_table_or_column_is_named() {
        let mut db = domains();
        let query = Query::Delete { table: "nope".into(), conds: vec![] };
        assert_eq!(db.execute(&query).expect_err("table").message, "no such table: nope");
        let query = Query::Delete { table: "domain".into(), conds: vec![Cond::eq("nope", 1)] };
        assert_eq!(db.execute(&query).expect_err("column").message, "no such column: nope");
    }
}
