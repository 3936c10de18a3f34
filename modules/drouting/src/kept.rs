//! The tables in a file of the node's state, from which a node that starts again serves at once,
//! also while the database is away (`enable_restart_persistency`). The database is read behind it.
//!
//! A file begins with [`MAGIC`] and holds pages of rows: the kind of the table (1 byte), the
//! number of rows (4 bytes), then each row with the number of its values. It ends with [`END`] and
//! the number of all rows, so that half a file is none. Numbers are little endian.
//!
//! States of gateways and carriers change while the tables stay, and have a small file of their own.

use std::sync::Arc;

use bytes::Bytes;
use tandem_db::{Row, Rows, Value};
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_sip::sip_hash;

use crate::load::{For, Inherit, Load, Stage};
use crate::state::Drouting;
use crate::status::Kind;
use crate::table::Partition;

const MAGIC: &[u8] = b"tandem drouting 1\n";
const END: u8 = b'.';
/// The largest file; of larger tables none is written, and that is told.
const FILE_BYTES_MAX: usize = 1 << 30;
/// Tokens of the files with the partitions and with the states; those of the partitions count from
/// the next.
const LIST: u64 = 0;
const STATES: u64 = 1;

/// Rows on their way into a file.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    bytes: Vec<u8>,
    rows: u64,
    is_full: bool,
}

fn letter(stage: Stage) -> Option<u8> {
    match stage {
        Stage::Gateways => Some(b'g'),
        Stage::Carriers => Some(b'c'),
        Stage::Rules => Some(b'r'),
        Stage::Tables => None,
    }
}

impl Keeping {
    pub(crate) fn add(&mut self, stage: Stage, rows: &[Row]) {
        if let Some(letter) = letter(stage) {
            self.add_page(letter, rows);
        }
    }

    fn add_page(&mut self, letter: u8, rows: &[Row]) {
        let Ok(count) = u32::try_from(rows.len()) else { return };
        if self.is_full {
            return;
        }
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(MAGIC);
        }
        self.bytes.push(letter);
        self.bytes.extend_from_slice(&count.to_le_bytes());
        for row in rows {
            self.bytes.push(row.len().min(255) as u8);
            row.iter().take(255).for_each(|value| put(&mut self.bytes, value));
        }
        self.rows += u64::from(count);
        if self.bytes.len() > FILE_BYTES_MAX {
            *self = Self { is_full: true, ..Self::default() };
        }
    }

    /// The file; `None`: there is too much for one.
    fn finish(mut self) -> Option<Bytes> {
        if self.is_full {
            return None;
        }
        self.bytes.push(END);
        self.bytes.extend_from_slice(&self.rows.to_le_bytes());
        Some(self.bytes.into())
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    let mut text = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Str(t) => text(b's', t.as_bytes()),
        Value::Blob(bytes) => text(b'b', bytes),
        Value::Null => out.push(b'n'),
        Value::Int(n) => number(out, b'i', &n.to_le_bytes()),
        Value::Time(n) => number(out, b't', &n.to_le_bytes()),
        Value::Float(f) => number(out, b'f', &f.to_le_bytes()),
    }
}

fn number(out: &mut Vec<u8>, tag: u8, bytes: &[u8; 8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// The pages of a file, each with the letter of its table. `None`: it is not whole.
fn read(file: &[u8]) -> Option<Vec<(u8, Vec<Row>)>> {
    let mut rest = file.strip_prefix(MAGIC)?;
    let (mut pages, mut all) = (Vec::new(), 0u64);
    loop {
        let letter = *take(&mut rest, 1)?.first()?;
        if letter == END {
            let told = u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
            return (told == all && rest.is_empty()).then_some(pages);
        }
        let count = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let mut rows = Vec::new();
        for _ in 0..count {
            let values = *take(&mut rest, 1)?.first()?;
            rows.push((0..values).map(|_| value(&mut rest)).collect::<Option<Row>>()?);
        }
        all += u64::from(count);
        pages.push((letter, rows));
    }
}

fn take<'f>(rest: &mut &'f [u8], count: usize) -> Option<&'f [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn value(rest: &mut &[u8]) -> Option<Value> {
    let tag = *take(rest, 1)?.first()?;
    if tag == b'n' {
        return Some(Value::Null);
    }
    if matches!(tag, b's' | b'b') {
        let len = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
        let bytes = take(rest, len as usize)?;
        return match tag {
            b's' => Some(Value::Str(std::str::from_utf8(bytes).ok()?.to_owned())),
            _ => Some(Value::Blob(Bytes::copy_from_slice(bytes))),
        };
    }
    let bytes: [u8; 8] = take(rest, 8)?.try_into().ok()?;
    match tag {
        b'i' => Some(Value::Int(i64::from_le_bytes(bytes))),
        b't' => Some(Value::Time(i64::from_le_bytes(bytes))),
        b'f' => Some(Value::Float(f64::from_le_bytes(bytes))),
        _ => None,
    }
}

/// The file of a partition.
fn name_of(partition: &str) -> String {
    let word: String = partition.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("drouting-{word}-{:08x}", sip_hash(partition.as_bytes()))
}

const LIST_FILE: &str = "drouting-partitions";
const STATES_FILE: &str = "drouting-states";

impl Drouting {
    pub(crate) fn write_kept(&self, cx: &mut Cx<'_>, partition: &str, keeping: Keeping) {
        match keeping.finish() {
            Some(file) => cx.write_file(&name_of(partition), file),
            None => cx.log(
                Level::Warning,
                format!("drouting: partition {partition}: its tables are too large for a file"),
            ),
        }
    }

    /// Asks for the files of the partitions, which the start waits for.
    pub(crate) fn read_kept(&self, cx: &mut Cx<'_>, parts: Vec<Arc<Partition>>) {
        cx.read_file(STATES_FILE, STATES);
        self.loads.lock().files = (STATES + 1..).zip(parts).collect();
    }

    /// Takes the states; the tables are next.
    fn states_read(&self, cx: &mut Cx<'_>, file: Result<Option<Bytes>, String>) {
        let rows = file.ok().flatten().and_then(|file| Some(read(&file)?.pop()?.1));
        let waiting = {
            let mut loads = self.loads.lock();
            loads.states = rows.unwrap_or_default();
            loads.files.clone()
        };
        for (token, part) in waiting {
            cx.read_file(&name_of(&part.name), token);
        }
    }

    /// Writes the states, if some have changed.
    pub(crate) fn write_kept_states(&self, cx: &mut Cx<'_>) {
        let changes = Some(self.states.changes());
        if std::mem::replace(&mut self.loads.lock().changes_written, changes) == changes {
            return;
        }
        let mut rows = Vec::new();
        for part in self.parts() {
            for (kind, id, status) in part.table().of.statuses() {
                let is_gateway = kind == Kind::Gateway;
                let (name, id) = (part.name.as_str().into(), (&**id).into());
                rows.push(vec![
                    name,
                    i64::from(is_gateway).into(),
                    id,
                    i64::from(status.bits()).into(),
                ]);
            }
        }
        let mut keeping = Keeping::default();
        keeping.add_page(b's', &rows);
        let Some(file) = keeping.finish() else { return };
        let mut loads = self.loads.lock();
        if loads.states_written != file {
            loads.states_written = file.clone();
            drop(loads);
            cx.write_file(STATES_FILE, file);
        }
    }

    /// A file was read, or there is none.
    pub(crate) fn kept_read(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        file: Result<Option<Bytes>, String>,
    ) {
        match token {
            LIST => return self.list_read(cx, file),
            STATES => return self.states_read(cx, file),
            _ => {}
        }
        let (part, is_last) = {
            let mut loads = self.loads.lock();
            let Some(at) = loads.files.iter().position(|(own, _)| *own == token) else { return };
            let (_, part) = loads.files.swap_remove(at);
            (part, loads.files.is_empty())
        };
        match file {
            Ok(Some(file)) => self.restore(cx, &part, &file),
            Ok(None) => {}
            Err(why) => {
                let text = format!("drouting: partition {}: no tables are kept: {why}", part.name);
                cx.log(Level::Warning, text);
            }
        }
        if !is_last {
            return;
        }
        let (ready, missing): (Vec<_>, Vec<_>) =
            self.parts().into_iter().partition(|part| part.table().loaded.unix_s != 0);
        if !ready.is_empty() {
            // States of before the restart are older than those in the database; what peers have
            // said since is newer.
            self.load(cx, ready, For::Later, Inherit::Changed);
        }
        match missing.is_empty() {
            true => cx.end_startup(),
            false => self.load(cx, missing, For::Start, Inherit::None),
        }
    }

    fn restore(&self, cx: &mut Cx<'_>, part: &Arc<Partition>, file: &[u8]) {
        let mut load = Load::new(Arc::clone(part), 0, Inherit::None, cx.now.mono_ns);
        let Some(pages) = read(file) else {
            let text = format!("drouting: partition {}: its file cannot be read", part.name);
            return cx.log(Level::Warning, text);
        };
        for (letter, rows) in &pages {
            let stages = [Stage::Gateways, Stage::Carriers, Stage::Rules];
            let stage = stages.into_iter().find(|stage| self::letter(*stage) == Some(*letter));
            if let Some(stage) = stage {
                load.take_rows(self, cx, stage, rows);
            }
        }
        for row in &self.loads.lock().states {
            let [name, is_gateway, id, bits] = row.as_slice() else { continue };
            let kind = if is_gateway.as_int() == Some(1) { Kind::Gateway } else { Kind::Carrier };
            if let (Some(id), Some(bits)) = (id.as_str(), bits.as_int())
                && name.as_str() == Some(&part.name)
            {
                load.of.set_state(kind, id, bits as u32 & kind.bits());
            }
        }
        if let Err(why) = self.put_in_place(cx, load) {
            cx.log(Level::Error, format!("drouting: {why}"));
        }
    }

    pub(crate) fn write_list(&self, cx: &mut Cx<'_>, rows: &Rows) {
        let mut keeping = Keeping::default();
        keeping.add_page(b'p', &rows.rows);
        if let Some(file) = keeping.finish() {
            cx.write_file(LIST_FILE, file);
        }
    }

    pub(crate) fn read_list(&self, cx: &mut Cx<'_>) {
        cx.read_file(LIST_FILE, LIST);
    }

    fn list_read(&self, cx: &mut Cx<'_>, file: Result<Option<Bytes>, String>) {
        let rows = file.ok().flatten().and_then(|file| Some(read(&file)?.pop()?.1));
        match rows {
            Some(rows) => self.partitions_loaded(cx, &Rows { rows, ..Rows::default() }),
            None => cx.out.push(Effect::Fatal {
                text: "drouting: the partitions are neither in the database nor in a file".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Time),
            "[a-z\u{e4}]{0,9}".prop_map(Value::Str),
            (-9.0..9.0).prop_map(Value::Float),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(|b| Value::Blob(b.into())),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_from_a_whole_file_only(
            rows in proptest::collection::vec(proptest::collection::vec(values(), 0..5), 0..6),
            cut in 0usize..200,
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut keeping = Keeping::default();
            keeping.add(Stage::Gateways, &rows);
            keeping.add(Stage::Rules, &rows);
            let file = keeping.finish().unwrap();
            let pages = read(&file).unwrap();
            prop_assert_eq!(&pages, &vec![(b'g', rows.clone()), (b'r', rows)]);
            let part = &file[..cut.min(file.len() - 1)];
            prop_assert!(read(part).is_none());
            let _ = read(&noise);
            let _ = read(&[MAGIC, &noise].concat());
        }
    }
}
