//! The table `pua`: read at start, written every `update_period` and at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_bin::pua as wire;
use tandem_db::{Cond, DbError, Name, Op, Query, Rows, Select, Value};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::record::{FOREVER_S, Key, Record, Source, Stamp, Stand, TEXT_BYTES_MAX, Text, Watch};
use crate::state::Pua;

/// Records that one query writes.
const WRITE_MAX: usize = 200;
/// Queries that are waited for.
const OPEN_MAX: usize = 1000;
/// The query at start.
const LOAD: u64 = 0;

const COLUMNS: [&str; 20] = [
    "pres_uri",
    "pres_id",
    "event",
    "expires",
    "desired_expires",
    "flag",
    "etag",
    "tuple_id",
    "watcher_uri",
    "to_uri",
    "call_id",
    "to_tag",
    "from_tag",
    "cseq",
    "record_route",
    "contact",
    "remote_contact",
    "version",
    "extra_headers",
    "sharing_tag",
];

/// Queries on their way.
#[derive(Debug, Default)]
pub(crate) struct Store {
    open: Mutex<(u64, BTreeMap<u64, Asked>)>,
}

/// What a query is for.
#[derive(Clone, Debug)]
enum Asked {
    /// Records were written; each with whether it had a row.
    Write(Vec<(Record, bool)>),
    /// A row that a stock node has changed.
    Read(Key),
}

impl Store {
    fn add(&self, asked: Asked) -> Option<u64> {
        let mut open = self.open.lock();
        if open.1.len() >= OPEN_MAX {
            return None;
        }
        open.0 += 1;
        let token = open.0;
        open.1.insert(token, asked);
        Some(token)
    }
}

fn columns() -> Vec<Name> {
    COLUMNS.iter().map(|column| Name::from(*column)).collect()
}

impl Pua {
    /// Reads what was there before this node started.
    pub(crate) fn load(&self, cx: &mut Cx<'_>) {
        let Some(database) = self.params.database else { return };
        cx.begin_startup();
        let now_s = i64::try_from(cx.now.unix_s()).unwrap_or(i64::MAX);
        let select = Select {
            table: self.params.table.clone(),
            columns: columns(),
            conds: vec![Cond::new("expires", Op::Gt, Value::Int(now_s))],
            ..Select::default()
        };
        cx.query(database, Query::Select(select), LOAD);
    }

    /// Reads a row again that another node has changed, if it is known here.
    pub(crate) fn read_again(&self, cx: &mut Cx<'_>, key: Key) {
        let Some(database) = self.params.database else { return };
        if self.table.read(&key, |_, _| ()).is_none() {
            return;
        }
        let conds = name_of(&key);
        let Some(token) = self.store.add(Asked::Read(key)) else { return };
        let select = Select {
            table: self.params.table.clone(),
            columns: columns(),
            conds,
            limit: Some(1),
            ..Select::default()
        };
        cx.query(database, Query::Select(select), token);
    }

    /// Writes what has changed.
    pub(crate) fn flush(&self, cx: &mut Cx<'_>) {
        let Some(database) = self.params.database else { return };
        while self.write_some(cx, database) {}
    }

    /// Writes a number of records; `false`: there are no more.
    fn write_some(&self, cx: &mut Cx<'_>, database: DatabaseId) -> bool {
        let records = self.table.take_dirty(WRITE_MAX);
        if records.is_empty() {
            return false;
        }
        let mut queries = Vec::with_capacity(2 * records.len());
        for (record, was_stored) in &records {
            if *was_stored {
                let conds = name_of(&record.key);
                queries.push(Query::Delete { table: self.params.table.clone(), conds });
            }
            if record.stand != Stand::Gone {
                let table = self.params.table.clone();
                queries.push(Query::Insert { table, row: row_of(record) });
            }
        }
        if queries.is_empty() {
            return true;
        }
        match self.store.add(Asked::Write(records.clone())) {
            Some(token) => {
                cx.query(database, Query::Batch(queries), token);
                true
            }
            None => {
                records.iter().for_each(|(record, _)| self.table.set_dirty(&record.key));
                false
            }
        }
    }

    /// The database has answered.
    pub(crate) fn answered(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token == LOAD {
            match result {
                Ok(rows) => self.loaded(cx, &rows, 1),
                Err(error) => cx.log(Level::Error, format!("pua: nothing is loaded: {error}")),
            }
            return cx.end_startup();
        }
        let Some(asked) = self.store.open.lock().1.remove(&token) else { return };
        match (asked, result) {
            (Asked::Write(records), Ok(_)) => {
                let changed = |(r, stored): &(Record, bool)| *stored && r.stand != Stand::Gone;
                for (record, _) in records.iter().filter(|r| changed(r)) {
                    self.tell_stock(cx, &update_of(record));
                }
            }
            (Asked::Write(records), Err(error)) => {
                cx.log(Level::Error, format!("pua: records are not written: {error}"));
                records.iter().for_each(|(record, _)| self.table.set_dirty(&record.key));
            }
            (Asked::Read(_), Ok(rows)) => {
                let stamp = cx.node.outbox.stamp(cx.now);
                self.loaded(cx, &rows, stamp.time_us);
            }
            (Asked::Read(key), Err(error)) => {
                let uri = String::from_utf8_lossy(&key.uri).into_owned();
                cx.log(Level::Error, format!("pua: {uri} is not read again: {error}"));
            }
        }
    }

    /// Takes rows, under a stamp of this time.
    fn loaded(&self, cx: &mut Cx<'_>, rows: &Rows, time_us: u64) {
        for row in 0..rows.rows.len() {
            let Some(mut record) = record_of(rows, row) else {
                cx.log(Level::Warning, "pua: a row without a URI or a known event is left out");
                continue;
            };
            if let Some(next_hop) = self.next_hops.lock().get(&Source(record.key.source)) {
                record.next_hop = next_hop[..].into();
            }
            record.creator = cx.node.membership().node_id();
            record.changed_s = cx.now.unix_s();
            record.stamp = Stamp { time_us, node: 0 };
            // What the memory of this node alone knows stays.
            let known =
                self.table.read(&record.key, |r, _| (r.body.clone(), r.content_type.clone()));
            if let Some((body, content_type)) = known {
                (record.body, record.content_type) = (body, content_type);
            }
            self.table.apply(record);
        }
    }
}

fn update_of(record: &Record) -> wire::Update {
    let bytes = |text: &Text| Bytes::copy_from_slice(text);
    wire::Update {
        uri: bytes(&record.key.uri),
        source: record.key.source,
        id: bytes(&record.key.id),
        event: record.key.event,
        etag: bytes(&record.etag),
    }
}

fn words(text: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(text).into_owned())
}

/// The conditions that name the row of a record.
fn name_of(key: &Key) -> Vec<Cond> {
    let mut conds = vec![
        Cond::eq("pres_uri", words(&key.uri)),
        Cond::eq("pres_id", words(&key.id)),
        Cond::eq("flag", Value::Int(key.source.into())),
        Cond::eq("event", Value::Int(key.event.into())),
    ];
    if !key.watcher.is_empty() {
        conds.push(Cond::eq("watcher_uri", words(&key.watcher)));
    }
    conds
}

fn row_of(record: &Record) -> Vec<(Name, Value)> {
    let time = |s: u64| Value::Int(i64::try_from(s).unwrap_or(i64::MAX).min(i32::MAX.into()));
    let none = Watch::default();
    let watch = record.watch.as_deref().unwrap_or(&none);
    let text = |text: &Text| if text.is_empty() { Value::Null } else { words(text) };
    let values: [Value; 20] = [
        words(&record.key.uri),
        words(&record.key.id),
        Value::Int(record.key.event.into()),
        time(record.expires_s),
        time(if record.desired_s == FOREVER_S { 0 } else { record.desired_s }),
        Value::Int(record.key.source.into()),
        text(&record.etag),
        Value::Null,
        text(&record.key.watcher),
        text(&watch.to_uri),
        text(&watch.call_id),
        text(&watch.to_tag),
        text(&watch.from_tag),
        Value::Int(watch.cseq.into()),
        text(&watch.routes),
        text(&watch.contact),
        text(&watch.remote_contact),
        Value::Int(watch.version.into()),
        text(&record.extra),
        text(&record.tag),
    ];
    COLUMNS.iter().map(|column| Name::from(*column)).zip(values).collect()
}

/// The record of a row. `None`: the row makes no sense.
fn record_of(rows: &Rows, row: usize) -> Option<Record> {
    let text = |column: &str| {
        let value = rows.get(row, column).and_then(|v| v.as_bytes()).unwrap_or_default();
        Text::from(value.get(..value.len().min(TEXT_BYTES_MAX)).unwrap_or_default())
    };
    let number = |column: &str| rows.get(row, column).and_then(Value::as_int).unwrap_or(0).max(0);
    let small = |column: &str| u32::try_from(number(column)).unwrap_or(0);
    let key = Key {
        uri: text("pres_uri"),
        source: small("flag"),
        id: text("pres_id"),
        event: small("event"),
        watcher: text("watcher_uri"),
    };
    key.event()?;
    let watch = (!key.watcher.is_empty()).then(|| {
        Box::new(Watch {
            to_uri: text("to_uri"),
            call_id: text("call_id"),
            from_tag: text("from_tag"),
            to_tag: text("to_tag"),
            cseq: small("cseq"),
            routes: text("record_route"),
            contact: text("contact"),
            remote_contact: text("remote_contact"),
            version: small("version"),
        })
    });
    let is_there = !key.uri.is_empty();
    is_there.then(|| Record {
        key,
        stand: Stand::Told,
        tag: text("sharing_tag"),
        etag: text("etag"),
        expires_s: number("expires") as u64,
        // 0 is how the field writes it.
        desired_s: match number("desired_expires") {
            0 => FOREVER_S,
            seconds => seconds as u64,
        },
        extra: text("extra_headers"),
        watch,
        ..Record::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Event;
    use tandem_db::Row;

    #[test]
    fn a_row_makes_the_record_that_made_it() {
        let mut key = Key::of(b"sip:a@x", Source::COMMAND, b"id", Event::Presence);
        key.watcher = b"sip:w@x"[..].into();
        let watch = Watch { call_id: b"c"[..].into(), cseq: 7, ..Watch::default() };
        let record = Record {
            key,
            stand: Stand::Told,
            etag: b"e"[..].into(),
            expires_s: 100,
            desired_s: 200,
            tag: b"t"[..].into(),
            watch: Some(Box::new(watch)),
            ..Record::default()
        };
        let row: Row = row_of(&record).into_iter().map(|(_, value)| value).collect();
        let columns = COLUMNS.map(str::to_owned).to_vec();
        let rows = Rows { columns, rows: vec![row], ..Rows::default() };
        assert_eq!(record_of(&rows, 0).unwrap(), record);
        assert!(record_of(&Rows::default(), 0).is_none());
    }
}
