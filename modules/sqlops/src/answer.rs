//! What the database says, put into variables.

use std::sync::Arc;

use bytes::Bytes;
use tandem_db::{DbError, Rows, Value as Cell};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_script::program::VarId;
use tandem_script::value::Value;

use crate::params::Sql;

/// Rows that go into variables; the script sees the first ones.
const ROWS_MAX: usize = 1_000;

/// Where columns go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Vars(Arc<[VarId]>),
    /// `$avp(1)`, `$avp(2)`, ...
    Numbered,
}

impl Target {
    pub(crate) fn of(call: &Call<'_, '_, '_>, argument: usize) -> Self {
        let vars = call.vars(argument);
        if vars.is_empty() { Self::Numbered } else { Self::Vars(vars) }
    }
}

/// What a run waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    Rows {
        to: Target,
        /// The first row alone, and NULL is null.
        one: bool,
        /// No rows are as good as some: what was asked for is a change.
        may_be_none: bool,
    },
    Change,
    Preferences(Loading),
}

/// Preferences that become AVPs.
#[derive(Debug)]
pub(crate) struct Loading {
    pub(crate) prefix: Bytes,
    /// The AVP that the rows of a scheme are values of; its values may be integers. Else rows are
    /// of attribute, value and type.
    pub(crate) scheme: Option<(Bytes, bool)>,
}

impl Sql {
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        let Some(wait) = cx.asked::<Wait>(run) else { return };
        let rows = match result {
            Ok(rows) => rows,
            Err(error) => {
                cx.log(Level::Error, format!("the query failed: {error}"));
                return cx.resume(run, -1);
            }
        };
        let code = match wait {
            Wait::Change => 1,
            Wait::Rows { may_be_none, .. } if rows.rows.is_empty() => {
                if may_be_none {
                    1
                } else {
                    -2
                }
            }
            Wait::Rows { to, one, .. } => self.write(cx, run, &to, one, &rows),
            Wait::Preferences(loading) => {
                let found = !rows.rows.is_empty();
                cx.with_suspended(run, |ctx| {
                    for row in rows.rows.iter().rev().take(ROWS_MAX) {
                        if let Some((name, value)) = self.preference(&loading, row) {
                            // Too many for one message: the rest is left out.
                            let _ = ctx.avps.insert(&name, value, false);
                        }
                    }
                });
                if found { 1 } else { -1 }
            }
        };
        cx.resume(run, code);
    }

    fn write(&self, cx: &mut Cx<'_>, run: u64, to: &Target, one: bool, rows: &Rows) -> i32 {
        let most = if one { 1 } else { ROWS_MAX };
        let rows = rows.rows.iter().take(most).collect::<Vec<_>>();
        // The last first, so that the first row is on top.
        for row in rows.into_iter().rev() {
            for (at, cell) in row.iter().enumerate() {
                let value = match self.value(cell) {
                    Value::Null if one => Value::Null,
                    Value::Null => Value::str("<null>"),
                    value => value,
                };
                let written = match to {
                    Target::Numbered if value.is_null() => Ok(()),
                    Target::Numbered => {
                        let mut written = Ok(());
                        let name = (at + 1).to_string();
                        cx.with_suspended(run, |ctx| {
                            written = ctx.avps.insert(name.as_bytes(), value, false);
                        });
                        written
                    }
                    Target::Vars(vars) => match vars.get(at) {
                        Some(var) => cx.assign_suspended(run, *var, value),
                        None => Ok(()),
                    },
                };
                if let Err(why) = written {
                    cx.log(Level::Error, format!("a result cannot be stored: {why}"));
                    return -1;
                }
            }
        }
        1
    }

    fn value(&self, cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Int(n) | Cell::Time(n) => match i32::try_from(*n) {
                Ok(n) => Value::Int(n),
                Err(_) if self.bigint_to_str => Value::str(n.to_string()),
                Err(_) => Value::Int(*n as i32),
            },
            Cell::Float(f) => Value::str(f.to_string()),
            Cell::Str(text) => Value::str(text.clone()),
            Cell::Blob(bytes) => Value::Str(bytes.clone()),
        }
    }

    /// Name and value of the AVP that a row is.
    fn preference(&self, loading: &Loading, row: &[Cell]) -> Option<(Vec<u8>, Value)> {
        let (name, cell, is_integer) = match (&loading.scheme, row) {
            (Some((name, is_integer)), [value, ..]) => (name.to_vec(), value, *is_integer),
            (None, [name, value, kind, ..]) => {
                let is_integer = kind.as_int().unwrap_or(0) & 2 != 0;
                (name.as_bytes()?.to_vec(), value, is_integer)
            }
            _ => return None,
        };
        let number = is_integer.then(|| cell.as_int()).flatten();
        let value = match number.and_then(|n| i32::try_from(n).ok()) {
            Some(n) => Value::Int(n),
            None => self.value(cell),
        };
        Some(([&loading.prefix[..], &name].concat(), value)).filter(|(_, v)| !v.is_null())
    }
}
