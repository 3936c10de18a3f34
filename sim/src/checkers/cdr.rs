//! No call is billed twice, whichever nodes have tried.

use std::collections::BTreeMap;

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Row, Rows, Select, Value};

/// Name in findings.
pub const NAME: &str = "cdr";

/// The rows of calls in the database that all nodes share: Call-ID and both tags.
pub(crate) fn rows(db: &mut MemoryDb) -> Rows {
    let columns = ["callid", "from_tag", "to_tag", "duration"];
    let columns = columns.map(Into::into).to_vec();
    let all = Select { table: "acc".into(), columns, ..Select::default() };
    // The table is part of the standard schema.
    db.execute(&Query::Select(all)).unwrap_or_default()
}

/// What is wrong; empty if nothing is.
pub fn findings(rows: &Rows) -> Vec<String> {
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows.rows {
        *calls.entry(key(row)).or_default() += 1;
    }
    let doubled = calls.into_iter().filter(|(_, count)| *count > 1);
    doubled.map(|(call, count)| format!("{call} has {count} rows")).collect()
}

fn key(row: &Row) -> String {
    let texts: Vec<&str> = row.iter().take(3).filter_map(Value::as_str).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_two_rows_is_named() {
        let row = |id: &str, ms: i64| vec![id.into(), "f".into(), "t".into(), Value::Int(ms)];
        let of = |rows| findings(&Rows { rows, ..Rows::default() });
        assert_eq!(of(vec![row("a", 1), row("b", 1)]), Vec::<String>::new());
        assert_eq!(of(vec![row("a", 1), row("a", 2)]), ["a f t has 2 rows"]);
    }
}
