//! A record on its way to a database, and the line it has in the spool until it is there.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value as Json;
use tandem_db::{Name, Query, Row, Value, schema};

use crate::cdr::CdrId;

/// A call whose debt a record pays: hash entry and id of its dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallRef {
    pub(crate) entry: u32,
    pub(crate) id: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: CdrId,
    pub(crate) table: Name,
    pub(crate) columns: Arc<[Name]>,
    /// One for each leg, one at least.
    pub(crate) rows: Vec<Row>,
    pub(crate) call: Option<CallRef>,
    /// The segment of the spool that has it; 0: none.
    pub(crate) segment: u64,
    pub(crate) misses: Misses,
}

/// How often a RADIUS server left a record unanswered while it took others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Misses {
    times: u8,
    /// Records that were written when it was last left.
    written: u64,
}

impl Misses {
    /// It was left unanswered when `written` records had been taken.
    pub(crate) fn add(&mut self, written: u64) {
        if written > self.written {
            (self.times, self.written) = (self.times.saturating_add(1), written);
        }
    }

    /// It is this record rather than the server: others were taken between two tries.
    pub(crate) fn are_its_own(&self) -> bool {
        self.times >= 2
    }

    /// It has to be set aside.
    pub(crate) fn are_too_many(&self) -> bool {
        self.times >= MISSES_MAX
    }
}

/// A record that is left so often is set aside.
const MISSES_MAX: u8 = 5;

impl Entry {
    /// The line in the spool, with its end.
    pub(crate) fn line(&self) -> String {
        let mut line = String::with_capacity(512);
        // Writing to a String does not fail.
        let _ = write!(line, "{{\"id\":\"{}\",\"table\":", self.id.text());
        push_text(&mut line, &self.table);
        line.push_str(",\"columns\":");
        push_list(&mut line, self.columns.iter(), |line, column| push_text(line, column));
        line.push_str(",\"rows\":");
        push_list(&mut line, self.rows.iter(), |line, row| {
            push_list(line, row.iter(), push_value);
        });
        if let Some(call) = self.call {
            let _ = write!(line, ",\"call\":[{},{}]", call.entry, call.id);
        }
        line.push_str("}\n");
        line
    }

    /// The line that says of a record of the same file that it is done with.
    pub(crate) fn done_line(&self) -> String {
        format!("{{\"done\":\"{}\"}}\n", self.id.text())
    }

    /// Which record a line says that of.
    pub(crate) fn parse_done(line: &str) -> Option<CdrId> {
        let id = line.trim_end().strip_prefix("{\"done\":\"")?.strip_suffix("\"}")?;
        CdrId::parse(id)
    }

    /// Reads a line; `None`: it is none, or was cut off.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(line).ok()?;
        let texts = json.get("columns")?.as_array()?.iter();
        let columns: Option<Vec<Name>> =
            texts.map(|c| Some(Name::from(c.as_str()?.to_owned()))).collect();
        let columns = columns.filter(|c| !c.is_empty())?;
        let rows = json.get("rows")?.as_array()?.iter();
        let row = |row: &Json| -> Option<Row> { row.as_array()?.iter().map(from_json).collect() };
        let rows: Vec<Row> = rows.map(row).collect::<Option<_>>()?;
        if rows.is_empty() || rows.iter().any(|row| row.len() != columns.len()) {
            return None;
        }
        let number = |at: usize| json.get("call")?.get(at)?.as_u64()?.try_into().ok();
        let call = number(0).zip(number(1)).map(|(entry, id)| CallRef { entry, id });
        Some(Self {
            id: CdrId::parse(json.get("id")?.as_str()?)?,
            table: json.get("table")?.as_str()?.to_owned().into(),
            columns: columns.into(),
            rows,
            call,
            segment: 0,
            misses: Misses::default(),
        })
    }

    /// Cuts texts to the size that standard columns have; whether there was anything to cut. A
    /// database in strict mode refuses the whole row otherwise.
    pub(crate) fn clip(&mut self) -> bool {
        let Some(acc) = schema::table("acc") else { return false };
        let size = |name: &str| {
            let column = acc.columns.iter().find(|c| c.name == name);
            column.map_or(0, |c| c.size as usize)
        };
        let mut cut = false;
        for row in &mut self.rows {
            for (column, value) in self.columns.iter().zip(row) {
                let (size, Value::Str(text)) = (size(column), value) else { continue };
                if size > 0 && text.chars().count() > size {
                    *text = text.chars().take(size).collect();
                    cut = true;
                }
            }
        }
        cut
    }
}

/// The statements that write records, all or none; with `side` their identities as well.
pub(crate) fn write(entries: &[Entry], side: bool, now_s: u64) -> Query {
    let mut parts = Vec::new();
    if side {
        let now_s = now_s as i64;
        parts.push(Query::InsertRows {
            table: SIDE_TABLE.into(),
            columns: vec!["cdr_id".into(), "written_at".into()],
            rows: entries.iter().map(|e| vec![e.id.text().into(), Value::Int(now_s)]).collect(),
        });
    }
    for entry in entries {
        let rows = entry.rows.iter().cloned();
        let same = parts.iter_mut().find_map(|part| match part {
            Query::InsertRows { table, columns, rows } => {
                (*table == entry.table && columns[..] == entry.columns[..]).then_some(rows)
            }
            _ => None,
        });
        match same {
            Some(group) => group.extend(rows),
            None => parts.push(Query::InsertRows {
                table: entry.table.clone(),
                columns: entry.columns.to_vec(),
                rows: rows.collect(),
            }),
        }
    }
    Query::Batch(parts)
}

/// Which records a database has.
pub(crate) const SIDE_TABLE: &str = "tandem_cdr";

fn push_list<T>(line: &mut String, items: impl Iterator<Item = T>, push: impl Fn(&mut String, T)) {
    line.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            line.push(',');
        }
        push(line, item);
    }
    line.push(']');
}

fn push_value(line: &mut String, value: &Value) {
    let _ = match value {
        Value::Null => write!(line, "null"),
        Value::Int(n) => write!(line, "{n}"),
        Value::Time(n) => write!(line, "{{\"time\":{n}}}"),
        Value::Float(f) => write!(line, "{}", Json::from(*f)),
        Value::Str(text) => {
            push_text(line, text);
            Ok(())
        }
        Value::Blob(bytes) => {
            push_text(line, &String::from_utf8_lossy(bytes));
            Ok(())
        }
    };
}

fn push_text(line: &mut String, text: &str) {
    let is_plain = |b: u8| b >= b' ' && b != b'"' && b != b'\\' && b != 0x7f;
    if text.bytes().all(is_plain) {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        let _ = write!(line, "{}", Json::from(text));
    }
}

fn from_json(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Number(n) => n.as_i64().map(Value::Int).or_else(|| n.as_f64().map(Value::Float))?,
        Json::String(text) => Value::Str(text.clone()),
        Json::Object(object) => Value::Time(object.get("time")?.as_i64()?),
        Json::Bool(_) | Json::Array(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(text: &str) -> Entry {
        Entry {
            id: CdrId(7),
            table: "acc".into(),
            columns: ["callid", "time", "duration", "created"].map(Name::from).into(),
            rows: vec![vec![text.into(), Value::Time(5), Value::Int(3), Value::Null]; 2],
            call: Some(CallRef { entry: 1, id: u32::MAX }),
            segment: 0,
            misses: Misses::default(),
        }
    }

    #[test]
    fn records_of_one_table_go_in_one_statement() {
        let other = Entry { table: "missed_calls".into(), ..entry("b") };
        let Query::Batch(parts) = write(&[entry("a"), other, entry("c")], true, 9) else {
            panic!("a batch")
        };
        let rows = |q: &Query| match q {
            Query::InsertRows { table, rows, .. } => (table.to_string(), rows.len()),
            _ => panic!("{q:?}"),
        };
        let all: Vec<_> = parts.iter().map(rows).collect();
        let expected = [("tandem_cdr", 3), ("acc", 4), ("missed_calls", 2)];
        assert_eq!(all, expected.map(|(t, n)| (t.to_owned(), n)));
    }

    #[test]
    fn long_texts_are_cut_to_the_standard_columns() {
        let mut long = entry(&"x".repeat(80));
        assert!(long.clip() && !long.clip());
        assert_eq!(long.rows[1][0], Value::from("x".repeat(64)));
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_line(text in "\\PC{0,20}") {
            let entry = entry(&text);
            prop_assert_eq!(Entry::parse_done(&entry.line()), None);
            prop_assert_eq!(Entry::parse_done(&entry.done_line()), Some(entry.id));
            prop_assert_eq!(Entry::parse(&entry.line()), Some(entry));
        }

        #[test]
        fn any_line_is_read_without_a_panic(cut in 0usize..200, text in "\\PC{0,60}") {
            let line = entry("a").line();
            let _ = Entry::parse(line.get(..cut).unwrap_or_default());
            let _ = (Entry::parse(&text), Entry::parse_done(&text));
        }
    }
}
