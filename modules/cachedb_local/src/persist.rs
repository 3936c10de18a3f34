//! Values that survive a restart: a file of the node's state, written when something has changed
//! and at the end, and read before the node serves.
//!
//! Its first 8 bytes are the wall time of the writing in milliseconds, little endian; behind them
//! stand the records of `wire.rs`, each with its length in 4 bytes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_clock::{MS, Now};
use tandem_cluster::BUCKETS;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::state::Local;
use crate::wire::Record;

/// Seconds between two writings.
pub(crate) const PERIOD_S: u64 = 30;
/// The largest file: more is left out, and that is told.
const FILE_BYTES_MAX: usize = 256 << 20;
const FILE: &str = "cachedb_local";

impl Local {
    /// Reads the file; the node waits for it.
    pub(crate) fn begin_restore(&self, cx: &mut Cx<'_>) {
        cx.begin_startup();
        cx.read_file(FILE, 0);
    }

    pub(crate) fn restore(&self, cx: &mut Cx<'_>, file: Result<Option<Bytes>, String>) {
        match file {
            Ok(file) => {
                let unreadable = file.map_or(0, |file| self.take_file(cx.now, &file));
                if unreadable > 0 {
                    let text = format!("cachedb_local: {unreadable} kept values cannot be read");
                    cx.log(Level::Warning, text);
                }
            }
            Err(e) => cx.log(Level::Warning, format!("cachedb_local: no values are kept: {e}")),
        }
        cx.end_startup();
    }

    /// Puts the values of a file in; gives how many cannot be read.
    fn take_file(&self, now: Now, file: &Bytes) -> usize {
        let Some((written_ms, _)) = file.split_first_chunk::<8>() else { return 1 };
        let passed_ms = now.unix_ms.saturating_sub(u64::from_le_bytes(*written_ms));
        let (mut at, mut unreadable) = (8usize, 0);
        while at < file.len() {
            let Some(record) = next_record(file, &mut at) else { return unreadable + 1 };
            let Some(Record { collection, key, mut entry }) = Record::decode(&record, now) else {
                unreadable += 1;
                continue;
            };
            if entry.ends != 0 {
                let Some(ends) = entry.ends.checked_sub(passed_ms.saturating_mul(MS)) else {
                    continue;
                };
                if ends <= now.mono_ns {
                    continue;
                }
                entry.ends = ends;
            }
            let name = String::from_utf8_lossy(&collection);
            // A collection that the script has no more is let go.
            if let Some(collection) = self.collection(&name) {
                let full = collection.change(now, &key, |_| Ok(Some(entry)), |_, _| {});
                unreadable += usize::from(full.is_err());
            }
        }
        unreadable
    }

    /// Writes the file, if something has changed.
    pub(crate) fn persist(&self, cx: &mut Cx<'_>) {
        if !self.params.persists || !self.changed.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut out = cx.now.unix_ms.to_le_bytes().to_vec();
        let mut left_out = 0usize;
        for collection in self.collections() {
            for bucket in 0..BUCKETS {
                for (key, entry) in collection.entries(cx.now, bucket) {
                    let record = Record::encode(&collection.name, &key, &entry, cx.now);
                    if out.len() + record.len() > FILE_BYTES_MAX {
                        left_out += 1;
                        continue;
                    }
                    out.extend_from_slice(&(record.len() as u32).to_le_bytes());
                    out.extend_from_slice(&record);
                }
            }
        }
        if left_out > 0 {
            let text = format!("cachedb_local: {left_out} values are too many for the file");
            cx.log(Level::Warning, text);
        }
        cx.write_file(FILE, Bytes::from(out));
    }
}

fn next_record(file: &Bytes, at: &mut usize) -> Option<Bytes> {
    let head = file.get(*at..at.checked_add(4)?)?;
    let len = u32::from_le_bytes(head.try_into().ok()?) as usize;
    let (start, end) = (*at + 4, (*at + 4).checked_add(len)?);
    let record = file.get(start..end)?;
    *at = end;
    Some(file.slice_ref(record))
}
