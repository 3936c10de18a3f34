//! Documents by user, kind and file.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{Mono, Now};
use tandem_db::{Cond, Name, Order, Query, Rows, Select, Value};
use tandem_engine::effect::DatabaseId;

/// Documents that are kept in memory, at most.
const KEPT_MAX: usize = 50_000;
/// How long, since the news of a change may come to another node alone.
const KEPT_S: u64 = 30;
/// Bytes of all of them, at most.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Rows of one user and kind that are looked at.
const ROWS_MAX: u32 = 16;

/// Kinds of documents; the number is that of the column `doc_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    PresRules = 2,
    ResourceLists = 4,
    RlsServices = 8,
    PidfManipulation = 16,
    OmaPresRules = 32,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::PresRules,
        Self::ResourceLists,
        Self::RlsServices,
        Self::PidfManipulation,
        Self::OmaPresRules,
    ];

    /// The id of the XCAP application.
    pub fn auid(self) -> &'static str {
        match self {
            Self::PresRules => "pres-rules",
            Self::ResourceLists => "resource-lists",
            Self::RlsServices => "rls-services",
            Self::PidfManipulation => "pidf-manipulation",
            Self::OmaPresRules => "org.openmobilealliance.pres-rules",
        }
    }

    /// `None`: there is no such application here.
    pub fn of_auid(auid: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.auid() == auid)
    }
}

/// A document that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub user: String,
    pub domain: String,
    pub kind: Kind,
    /// Name of the file; empty: the first of the kind.
    pub file: String,
}

/// The documents.
#[derive(Debug)]
pub struct Xcap {
    database: DatabaseId,
    table: Name,
    is_integrated: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with the time up to which it is believed.
    all: BTreeMap<Wanted, (Option<Bytes>, Mono)>,
    bytes: usize,
}

impl Xcap {
    pub(crate) fn new(database: DatabaseId, table: Name, is_integrated: bool) -> Self {
        Self { database, table, is_integrated, kept: Mutex::default() }
    }

    /// A document that is kept in memory; `Some(None)`: there is none. `None`: ask the database.
    pub fn known(&self, now: Now, wanted: &Wanted) -> Option<Option<Bytes>> {
        let kept = self.kept.lock();
        let (document, until) = kept.all.get(wanted)?;
        (*until > now.after_s(0)).then(|| document.clone())
    }

    /// The question to the database.
    pub fn select(&self, wanted: &Wanted) -> (DatabaseId, Query) {
        let select = Select {
            table: self.table.clone(),
            columns: vec!["doc_uri".into(), "doc".into()],
            conds: vec![
                Cond::eq("username", wanted.user.as_str()),
                Cond::eq("domain", wanted.domain.as_str()),
                Cond::eq("doc_type", Value::Int(wanted.kind as i64)),
            ],
            order: vec![Order { column: "id".into(), descending: false }],
            limit: Some(ROWS_MAX),
        };
        (self.database, Query::Select(select))
    }

    /// Reads the answer: the document whose path ends with the file.
    pub fn answered(&self, now: Now, wanted: Wanted, rows: &Rows) -> Option<Bytes> {
        let is_it = |row: &usize| {
            let path = rows.get(*row, "doc_uri").and_then(|v| v.as_str()).unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or(path);
            wanted.file.is_empty() || file == wanted.file || path == wanted.file
        };
        let row = (0..rows.rows.len()).find(is_it);
        let found =
            row.and_then(|row| rows.get(row, "doc")?.as_bytes().map(Bytes::copy_from_slice));
        if self.is_integrated {
            self.keep(now, wanted, found.clone());
        }
        found
    }

    fn keep(&self, now: Now, wanted: Wanted, document: Option<Bytes>) {
        let mut kept = self.kept.lock();
        let size = document.as_ref().map_or(0, Bytes::len);
        if kept.all.len() >= KEPT_MAX || kept.bytes + size > KEPT_BYTES_MAX {
            // They are read again as they are needed.
            *kept = Kept::default();
        }
        let old = kept.all.insert(wanted, (document, now.after_s(KEPT_S)));
        let old = old.and_then(|(old, _)| old).map_or(0, |old| old.len());
        kept.bytes = (kept.bytes + size).saturating_sub(old);
    }

    /// The documents of a user are read again: they have changed.
    pub fn forget(&self, user: &str, domain: &str) {
        let mut kept = self.kept.lock();
        let Kept { all, bytes } = &mut *kept;
        all.retain(|wanted, (document, _)| {
            let stays = wanted.user != user || wanted.domain != domain;
            if !stays {
                *bytes = bytes.saturating_sub(document.as_ref().map_or(0, Bytes::len));
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 0, unix_ms: 0 };

    fn wanted(file: &str) -> Wanted {
        Wanted {
            user: "a".into(),
            domain: "x".into(),
            kind: Kind::PresRules,
            file: file.to_owned(),
        }
    }

    fn rows() -> Rows {
        let row = |path: &str, doc: &str| vec![Value::from(path), Value::from(doc)];
        Rows {
            columns: vec!["doc_uri".into(), "doc".into()],
            rows: vec![row("/pres-rules/users/sip:a@x/index", "one"), row("other", "two")],
            ..Rows::default()
        }
    }

    #[test]
    fn a_document_is_found_by_its_file() {
        let xcap = Xcap::new(DatabaseId(0), "xcap".into(), false);
        let found = |file: &str| xcap.answered(NOW, wanted(file), &rows());
        assert_eq!(found("index"), Some(Bytes::from_static(b"one")));
        assert_eq!(found("other"), Some(Bytes::from_static(b"two")));
        assert_eq!(found(""), Some(Bytes::from_static(b"one")));
        assert_eq!(found("none"), None);
        assert_eq!(xcap.known(NOW, &wanted("index")), None, "it is read each time");
        assert_eq!(Kind::of_auid("org.openmobilealliance.pres-rules"), Some(Kind::OmaPresRules));
    }

    #[test]
    fn what_is_kept_is_kept_until_it_has_changed() {
        let xcap = Xcap::new(DatabaseId(0), "xcap".into(), true);
        xcap.answered(NOW, wanted("index"), &rows());
        xcap.answered(NOW, wanted("none"), &rows());
        assert_eq!(xcap.known(NOW, &wanted("index")), Some(Some(Bytes::from_static(b"one"))));
        assert_eq!(xcap.known(NOW, &wanted("none")), Some(None));
        assert_eq!(xcap.known(NOW.plus_ns(KEPT_S * tandem_clock::SEC), &wanted("none")), None);
        xcap.forget("b", "x");
        assert!(xcap.known(NOW, &wanted("index")).is_some());
        xcap.forget("a", "x");
        assert!(xcap.known(NOW, &wanted("index")).is_none() && xcap.kept.lock().bytes == 0);
    }
}
