//! The files of the spool: which of them have records that no database has.
//!
//! A record is added to the newest file before a database is asked. A file goes when all its
//! records are written. When too many records wait for memory, further ones are in their file
//! alone, and come back from there in their turn.

use std::collections::BTreeMap;

/// Records and bytes of one file, at most.
const RECORDS_MAX: u32 = 2_048;
const BYTES_MAX: u64 = 1 << 20;
/// Records of the newest file that may be written already: they are looked at again at a start.
const DONE_MAX: u32 = 256;
/// Bytes of all files, at most.
pub(crate) const SPOOL_BYTES_MAX: u64 = 1 << 30;
/// How the files are called.
const PREFIX: &str = "cdr-";
const REFUSED: &str = "refused-";
/// Begins the name of an empty file that says of another one: it was meant for another database.
const APART: &str = "apart-";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Segment {
    /// Set aside by a database that refused them.
    refused: bool,
    /// Meant for another database: it stays as it is.
    apart: bool,
    bytes: u64,
    records: u32,
    /// Records that are not written.
    open: u32,
    /// Additions that the disk has not confirmed.
    pending: u32,
    /// It has records that are not in memory.
    spilled: bool,
    reading: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Segments {
    /// How files are called, and those of refused records.
    prefix: &'static str,
    refused: &'static str,
    /// What is written must not be seen again at a start: there are no identities.
    pub(crate) forgets_at_once: bool,
    all: BTreeMap<u64, Segment>,
    current: Option<u64>,
    /// Where refused records go.
    aside: Option<u64>,
    last: u64,
    /// The newest file has additions that a power cut would take.
    pub(crate) unsynced: bool,
}

impl Default for Segments {
    fn default() -> Self {
        Self::named(PREFIX, REFUSED)
    }
}

impl Segments {
    /// Files of these names.
    pub(crate) fn named(prefix: &'static str, refused: &'static str) -> Self {
        let (all, current, aside) = (BTreeMap::new(), None, None);
        let (forgets_at_once, last, unsynced) = (false, 0, false);
        Self { prefix, refused, forgets_at_once, all, current, aside, last, unsynced }
    }

    /// Files that are there at a start.
    pub(crate) fn found(&mut self, names: &[String]) {
        // They are about files of the database: those of others have numbers of their own.
        let is_database = self.prefix == PREFIX;
        let apart = |n: u64| is_database && names.iter().any(|name| *name == apart_name(n));
        for name in names {
            let of = |prefix: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
            let Some((number, refused)) =
                of(self.prefix).map(|n| (n, false)).or_else(|| of(self.refused).map(|n| (n, true)))
            else {
                continue;
            };
            if number == 0 || Some(number) == self.current || Some(number) == self.aside {
                continue;
            }
            let apart = apart(number);
            let segment = Segment { refused, apart, spilled: !apart, ..Segment::default() };
            self.all.entry(number).or_insert(segment);
            self.last = self.last.max(number);
        }
    }

    /// The database is another one than that of the earlier life: what that has left is not for
    /// it. The names of the files that say so.
    pub(crate) fn set_apart(&mut self) -> Vec<String> {
        let left = |s: &Segment| s.spilled && s.records == 0 && !s.reading && !s.refused;
        let mut names = Vec::new();
        for (number, segment) in self.all.iter_mut().filter(|(_, s)| left(s)) {
            (segment.apart, segment.spilled) = (true, false);
            names.push(apart_name(*number));
        }
        names
    }

    /// Files that were meant for another database.
    pub(crate) fn apart(&self) -> usize {
        self.all.values().filter(|s| s.apart).count()
    }

    /// The newest file, if all of it is written: it may go before its time when the node ends.
    pub(crate) fn take_written(&mut self) -> Option<u64> {
        let number = self.current?;
        let segment = self.all.get(&number)?;
        let busy = segment.open > 0 || segment.pending > 0 || segment.spilled || segment.reading;
        if busy {
            return None;
        }
        self.current.take()
    }

    pub(crate) fn name(&self, number: u64) -> String {
        let refused = self.all.get(&number).is_some_and(|s| s.refused);
        format!("{}{number:08}", if refused { self.refused } else { self.prefix })
    }

    /// Whether records wait on disk alone, so that later ones have to as well.
    pub(crate) fn is_behind(&self) -> bool {
        self.all.values().any(|s| s.spilled)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.all.values().map(|s| s.bytes).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The newest file.
    pub(crate) fn current(&self) -> Option<u64> {
        self.current
    }

    /// The file that a record of so many bytes is added to; `None`: the spool is full.
    pub(crate) fn add(&mut self, bytes: usize, spills: bool) -> Option<u64> {
        if self.bytes() + bytes as u64 > SPOOL_BYTES_MAX {
            return None;
        }
        let fits = |s: &Segment| {
            s.records < RECORDS_MAX && s.bytes < BYTES_MAX && s.spilled == spills && !s.reading
        };
        let current = self.current.filter(|n| self.all.get(n).is_some_and(fits));
        let number = current.unwrap_or_else(|| self.open_new(false));
        self.current = Some(number);
        self.count(number, bytes, spills);
        self.unsynced = true;
        Some(number)
    }

    /// The file that a refused record is set aside in; `None`: the spool is full.
    pub(crate) fn set_aside(&mut self, bytes: usize) -> Option<u64> {
        if self.bytes() + bytes as u64 > SPOOL_BYTES_MAX {
            return None;
        }
        let number = self.aside.unwrap_or_else(|| self.open_new(true));
        self.aside = Some(number);
        self.count(number, bytes, false);
        Some(number)
    }

    fn open_new(&mut self, refused: bool) -> u64 {
        self.last += 1;
        self.all.insert(self.last, Segment { refused, ..Segment::default() });
        self.last
    }

    fn count(&mut self, number: u64, bytes: usize, spills: bool) {
        if let Some(segment) = self.all.get_mut(&number) {
            segment.bytes += bytes as u64;
            segment.records += 1;
            segment.open += 1;
            segment.pending += 1;
            segment.spilled |= spills;
        }
    }

    /// The disk has so many records more, or has failed. A file that can go is named.
    pub(crate) fn appended(&mut self, number: u64, records: u32) -> Option<u64> {
        let segment = self.all.get_mut(&number)?;
        segment.pending = segment.pending.saturating_sub(records);
        self.finished(number)
    }

    /// The disk did not take a record that is in memory again.
    pub(crate) fn not_spilled(&mut self, number: u64) -> Option<u64> {
        let segment = self.all.get_mut(&number)?;
        segment.pending = segment.pending.saturating_sub(1);
        self.done(number)
    }

    /// A record of a file is written. A file that can go is named.
    pub(crate) fn done(&mut self, number: u64) -> Option<u64> {
        let segment = self.all.get_mut(&number)?;
        segment.open = segment.open.saturating_sub(1);
        self.finished(number)
    }

    /// A file gets a line of so many bytes that is no record. `false`: there is no such file.
    pub(crate) fn note(&mut self, number: u64, bytes: usize) -> bool {
        let segment = self.all.get_mut(&number);
        segment.map(|segment| segment.bytes += bytes as u64).is_some()
    }

    fn finished(&mut self, number: u64) -> Option<u64> {
        let segment = self.all.get(&number)?;
        let is_newest = self.current == Some(number);
        let waits = is_newest && segment.records < DONE_MAX && !self.forgets_at_once;
        let busy = segment.open > 0 || segment.pending > 0 || segment.spilled || segment.reading;
        if busy || waits || segment.apart || self.aside == Some(number) {
            return None;
        }
        if is_newest {
            self.current = None;
        }
        Some(number)
    }

    /// A file was removed.
    pub(crate) fn removed(&mut self, number: u64) {
        self.all.remove(&number);
    }

    /// The next file whose records are to come to memory; nothing is added to it any more.
    pub(crate) fn read_next(&mut self) -> Option<u64> {
        if self.all.values().any(|s| s.reading) {
            return None;
        }
        let ready = |s: &Segment| s.spilled && s.pending == 0;
        let (number, segment) = self.all.iter_mut().find(|(_, s)| ready(s))?;
        segment.reading = true;
        if self.current == Some(*number) {
            self.current = None;
        }
        Some(*number)
    }

    /// The records of a file are in memory: so many. `None`: it could not be read, and is asked
    /// for again.
    pub(crate) fn read(&mut self, number: u64, records: Option<(u32, u64)>) -> Option<u64> {
        let segment = self.all.get_mut(&number)?;
        segment.reading = false;
        let (records, bytes) = records?;
        segment.spilled = false;
        segment.open = records;
        segment.records = segment.records.max(records);
        segment.bytes = bytes;
        self.finished(number)
    }
}

fn apart_name(number: u64) -> String {
    format!("{APART}{number:08}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_when_all_its_records_are_written() {
        let mut all = Segments::default();
        for _ in 0..DONE_MAX {
            assert_eq!(all.add(100, false), Some(1));
            assert_eq!(all.appended(1, 1), None);
        }
        for _ in 1..DONE_MAX {
            assert_eq!(all.done(1), None);
        }
        assert_eq!(all.done(1), Some(1));
        all.removed(1);
        assert_eq!((all.len(), all.add(100, false)), (0, Some(2)));
    }

    #[test]
    fn records_on_disk_alone_come_back_in_their_turn() {
        let mut all = Segments::default();
        assert_eq!(all.add(10, false), Some(1));
        assert_eq!(all.add(10, true), Some(2));
        assert_eq!(all.add(10, true), Some(2));
        assert!(all.is_behind());
        assert_eq!(all.read_next(), None, "the disk has not confirmed them");
        all.appended(2, 2);
        assert_eq!((all.read_next(), all.read_next()), (Some(2), None));
        assert_eq!(all.add(10, true), Some(3), "nothing is added to what is read");
        assert_eq!(all.read(2, Some((2, 20))), None);
        assert_eq!((all.done(2), all.done(2)), (None, Some(2)));
    }

    #[test]
    fn files_of_an_earlier_life_are_read_first() {
        let mut all = Segments::default();
        all.found(&["cdr-00000007".into(), "refused-00000003".into(), "else".into()]);
        assert_eq!(all.name(3), "refused-00000003");
        assert_eq!(all.read_next(), Some(3));
        assert_eq!(all.read(3, Some((0, 0))), Some(3), "it is empty and can go");
        assert_eq!(all.read_next(), Some(7));
        assert_eq!(all.read(7, None), None, "it could not be read");
        assert_eq!(all.read_next(), Some(7));
        assert_eq!(all.add(1, true), Some(8));
    }

    #[test]
    fn what_is_apart_for_one_ledger_is_not_for_another() {
        let mut all = Segments::named("aaa-", "aaa-refused-");
        all.found(&["apart-00000003".into(), "cdr-00000003".into(), "aaa-00000003".into()]);
        assert_eq!((all.read_next(), all.apart()), (Some(3), 0));
    }

    #[test]
    fn a_full_spool_takes_no_more() {
        let mut all = Segments::default();
        assert!(all.add(SPOOL_BYTES_MAX as usize, false).is_some());
        assert!(all.add(1, false).is_none() && all.set_aside(1).is_none());
    }
}
