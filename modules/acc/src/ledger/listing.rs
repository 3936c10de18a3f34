//! What waits, for operators.

use serde_json::{Value as Json, json};

use super::{Asked, Entry, Ledger, Side, Spooled};

/// Records that one listing shows.
const SHOWN_MAX: usize = 1_000;

impl Ledger {
    /// The state of the ledger in numbers.
    pub(crate) fn summary(&self) -> Json {
        let state = self.state.lock();
        let asked = state.asked.values().map(|a| match a {
            Asked::Records(entries) => entries.len(),
            Asked::Known(..) => 1,
            Asked::Side(_) => 0,
        });
        let written = match state.side {
            Side::Unknown => "not known yet",
            Side::There(_) => "once",
            Side::Missing => "at least once",
        };
        json!({
            (state.word()): if state.told.down { "away" } else { "there" },
            "written_how": written,
            "waiting": state.waiting.len() + asked.sum::<usize>(),
            "files": state.segments.len(),
            "file_bytes": state.segments.bytes(),
            "files_of_other_databases": state.segments.apart(),
            "on_disk_alone": state.segments.is_behind(),
            "written": state.totals.written,
            "were_written_before": state.totals.repeated,
            "set_aside": state.totals.set_aside,
            "in_the_log_only": state.totals.logged,
        })
    }

    /// Records that the database has not confirmed, the oldest first, as far as they are in
    /// memory.
    pub(crate) fn records(&self) -> Vec<Json> {
        let state = self.state.lock();
        let asked = state.asked.values().flat_map(|a| match a {
            Asked::Records(entries) => entries.as_slice(),
            Asked::Known(entry, _) => std::slice::from_ref(&**entry),
            Asked::Side(_) => &[],
        });
        let alone = state.spooled.values().filter_map(|s| match s {
            Spooled::Refused { entry, .. } => Some(&**entry),
            _ => None,
        });
        asked.chain(&state.waiting).chain(alone).take(SHOWN_MAX).map(shown).collect()
    }
}

fn shown(entry: &Entry) -> Json {
    let first = entry.rows.first();
    let field = |column: &str| {
        let at = entry.columns.iter().position(|c| &**c == column);
        at.and_then(|at| first?.get(at)).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let either = |column: &str, attribute: &str| {
        Some(field(column)).filter(|text| !text.is_empty()).unwrap_or_else(|| field(attribute))
    };
    json!({
        "id": entry.id.text(),
        "table": &*entry.table,
        "rows": entry.rows.len(),
        "callid": either("callid", "Acct-Session-Id"),
        "method": field("method"),
    })
}
