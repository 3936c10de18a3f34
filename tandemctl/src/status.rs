//! `tandem:status` for a person: one line a fact, aligned.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::plain;

/// Renders the status object as text: scalar members as lines, lists as tables.
pub(crate) fn render(status: &Json) -> String {
    let mut text = String::new();
    let Some(members) = status.as_object() else { return format!("{status:#}\n") };
    for (name, value) in members {
        match value {
            Json::Array(rows) if rows.is_empty() => {
                let _ = writeln!(text, "{name}: none");
            }
            Json::Array(rows) => table(&mut text, name, rows),
            Json::Object(fields) => {
                let (lists, single): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(_, v)| v.as_array().is_some_and(|a| !a.is_empty()));
                let single: Vec<String> =
                    single.into_iter().map(|(n, v)| format!("{n} {}", plain(v))).collect();
                if !single.is_empty() {
                    let _ = writeln!(text, "{name}: {}", single.join(", "));
                }
                for (part, rows) in lists {
                    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
                    table(&mut text, &format!("{name} {part}"), rows);
                }
            }
            other => {
                let _ = writeln!(text, "{name}: {}", plain(other));
            }
        }
    }
    text
}

/// Renders the answer to `cluster diff`.
pub(crate) fn differences(found: &Json) -> String {
    match found.as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => "nothing differs\n".into(),
        rows => {
            let mut text = String::new();
            table(&mut text, "differences", rows);
            text
        }
    }
}

/// Whether an answer is a list of rows: objects of single values.
pub(crate) fn is_table(answer: &Json) -> bool {
    let flat = |row: &Json| {
        let fields = row.as_object();
        fields.is_some_and(|o| o.values().all(|v| !v.is_array() && !v.is_object()))
    };
    answer.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(flat))
}

/// The rows of an answer as a table.
pub(crate) fn rows(answer: &Json) -> String {
    let mut text = String::new();
    table(&mut text, "", answer.as_array().map(Vec::as_slice).unwrap_or_default());
    // No heading: the command line says what was asked for.
    let lines = text.lines().skip(1).map(|l| l.strip_prefix("  ").unwrap_or(l));
    lines.map(|l| format!("{l}\n")).collect()
}

fn table(text: &mut String, name: &str, rows: &[Json]) {
    let heads: Vec<&String> = rows
        .iter()
        .filter_map(Json::as_object)
        .next()
        .map(|o| o.keys().collect())
        .unwrap_or_default();
    let cell = |row: &Json, head: &str| row.get(head).map(plain).unwrap_or_default();
    let width = |head: &String| {
        rows.iter().map(|r| cell(r, head).chars().count()).chain([head.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = heads.iter().map(|h| width(h)).collect();
    let mut line = |cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect::<Vec<_>>();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    };
    line(heads.iter().map(|h| h.to_uppercase()).collect());
    for row in rows {
        line(heads.iter().map(|h| cell(row, h)).collect());
    }
    // The heading goes above the table it names.
    let table_len: usize = text.lines().rev().take(rows.len() + 1).map(|l| l.len() + 1).sum();
    text.insert_str(text.len() - table_len, &format!("{name}:\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_of_rows_becomes_a_table() {
        let tags = json!([{"Tag": "service", "Cluster": 1}, {"Tag": "x", "Cluster": 12}]);
        assert!(is_table(&tags) && !is_table(&json!([])) && !is_table(&json!([{"a": []}])));
        assert_eq!(rows(&tags), "TAG      CLUSTER\nservice  1\nx        12\n");
    }

    #[test]
    fn lists_become_tables_under_their_name() {
        let status = json!({
            "node": 2,
            "tags": [{"tag": "service", "state": "active"}, {"tag": "x", "state": "backup"}],
            "peers": [],
            "usrloc": {"tables": [{"name": "location"}]}
        });
        let expected = "node: 2\ntags:\n  TAG      STATE\n  service  active\n  x        backup\npeers: none\nusrloc tables:\n  NAME\n  location\n";
        assert_eq!(render(&status), expected);
    }
}
