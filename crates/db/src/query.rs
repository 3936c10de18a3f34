//! What a module asks of a database, and what comes back.

use std::borrow::Cow;

use crate::Value;

/// A table or column name. Names are often modparams, so they are checked when the query is
/// turned into SQL (see [`crate::check_name`]).
pub type Name = Cow<'static, str>;

/// A query. Every variant but [`Query::Raw`] carries its values apart from the text, so no value
/// is ever written into SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    Select(Select),
    Insert {
        table: Name,
        row: Vec<(Name, Value)>,
    },
    /// Rows with the same columns, in one statement: all of them or none. A row must have as many
    /// values as there are columns.
    InsertRows {
        table: Name,
        columns: Vec<Name>,
        rows: Vec<Row>,
    },
    Update {
        table: Name,
        set: Vec<(Name, Value)>,
        conds: Vec<Cond>,
    },
    Delete {
        table: Name,
        conds: Vec<Cond>,
    },
    /// Inserts `keys` and `set`; when a row with these keys exists, changes its `set`. The keys
    /// must be the primary key or a unique key of the table.
    InsertOrUpdate {
        table: Name,
        keys: Vec<(Name, Value)>,
        set: Vec<(Name, Value)>,
    },
    /// SQL as the script wrote it.
    Raw {
        sql: String,
    },
    /// All of them in one transaction, or none. The answer is that of the last query, with
    /// `affected` summed over all. A batch inside a batch is refused.
    Batch(Vec<Self>),
}

/// Rows of one table. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Select {
    pub table: Name,
    /// Empty: all columns.
    pub columns: Vec<Name>,
    pub conds: Vec<Cond>,
    /// Without it the order is not defined.
    pub order: Vec<Order>,
    /// At most this many rows.
    pub limit: Option<u32>,
}

/// `column op value`. Equality with NULL asks whether the column is NULL; any other comparison
/// with NULL, on either side, holds for no row.
#[derive(Clone, Debug, PartialEq)]
pub struct Cond {
    pub column: Name,
    pub op: Op,
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub column: Name,
    pub descending: bool,
}

/// One row, in the order of [`Rows::columns`].
pub type Row = Vec<Value>;

/// The answer to a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// Rows that an insert, update or delete touched.
    pub affected: u64,
    /// The number a new row got for its auto-increment column, after an insert.
    pub last_insert_id: Option<i64>,
}

impl Query {
    /// Whether the query only reads, as far as its text shows: its answer are rows, perhaps none.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Select(_) => true,
            Self::Raw { sql } => {
                let verb = crate::sql_text::verb(sql);
                matches!(verb.as_str(), "select" | "show" | "describe" | "desc" | "values")
            }
            _ => false,
        }
    }
}

impl Cond {
    pub fn new(column: impl Into<Name>, op: Op, value: impl Into<Value>) -> Self {
        Self { column: column.into(), op, value: value.into() }
    }

    /// The common condition.
    pub fn eq(column: impl Into<Name>, value: impl Into<Value>) -> Self {
        Self::new(column, Op::Eq, value)
    }
}

impl Op {
    /// The operator in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

impl Rows {
    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// One value by row number and column name.
    pub fn get(&self, row: usize, column: &str) -> Option<&Value> {
        self.rows.get(row)?.get(self.column(column)?)
    }
}
