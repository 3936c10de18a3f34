//! Tables of a database that a module keeps in memory: loaded at start, and again by a command.
//!
//! A module may have several of the same kind, each with a name: the partitions of `permissions`
//! and `dialplan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tandem_db::{DbError, Query, Rows, Select};

use crate::effect::{DatabaseId, Effect};
use crate::log::Level;
use crate::mi::{MiOutcome, RpcError};
use crate::module::Cx;

/// Tokens of queries from here on belong to cached tables; runs count from 1.
const FIRST: u64 = 1 << 47;
/// Tables of one module.
const PARTS_MAX: usize = 256;
/// Commands that wait for a table, at most.
const LOADINGS_MAX: usize = 100;
/// The loading at start.
const START: u64 = 0;

/// One table.
#[derive(Debug)]
pub struct Part<T> {
    pub name: String,
    pub database: DatabaseId,
    pub select: Select,
    present: RwLock<Arc<T>>,
}

impl<T: Default> Part<T> {
    pub fn new(name: impl Into<String>, database: DatabaseId, select: Select) -> Self {
        Self { name: name.into(), database, select, present: RwLock::default() }
    }
}

impl<T> Part<T> {
    /// The copy as it is now.
    pub fn table(&self) -> Arc<T> {
        Arc::clone(&self.present.read())
    }
}

/// The cached tables of a module.
#[derive(Debug)]
pub struct Cached<T> {
    parts: Vec<Part<T>>,
    /// What a command that fails says, and its code.
    refusal: (i64, &'static str),
    loadings: Mutex<BTreeMap<u64, Loading>>,
    next: Mutex<u64>,
}

/// Tables on their way.
#[derive(Debug)]
struct Loading {
    /// The command that waits; `None`: the start.
    request: Option<u64>,
    left: usize,
    failed: bool,
}

impl<T> Cached<T> {
    /// `refusal` is the answer to a command whose tables cannot be loaded.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(parts: Vec<Part<T>>, refusal: (i64, &'static str)) -> Result<Self, String> {
        if parts.len() > PARTS_MAX {
            return Err(format!("at most {PARTS_MAX} tables are kept in memory"));
        }
        Ok(Self { parts, refusal, loadings: Mutex::default(), next: Mutex::new(START + 1) })
    }

    pub fn parts(&self) -> &[Part<T>] {
        &self.parts
    }

    pub fn part(&self, name: &str) -> Option<&Part<T>> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether an answer of the database is for a cached table.
    pub fn owns(token: u64) -> bool {
        token >= FIRST
    }

    /// Loads every table; the node is not ready before they are there.
    pub fn start(&self, cx: &mut Cx<'_>) {
        if !self.parts.is_empty() {
            cx.begin_startup();
            self.load(cx, START, None, None);
        }
    }

    /// Loads one table, or all, for a command, which is answered when they are there.
    pub fn reload(&self, cx: &mut Cx<'_>, request: u64, only: Option<&str>) -> MiOutcome {
        let wanted = self.parts.iter().filter(|p| only.is_none_or(|name| p.name == name)).count();
        if wanted == 0 || self.loadings.lock().len() >= LOADINGS_MAX {
            return MiOutcome::failed(self.refusal.0, self.refusal.1);
        }
        let id = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        self.load(cx, id, Some(request), only);
        MiOutcome::Later
    }

    fn load(&self, cx: &mut Cx<'_>, id: u64, request: Option<u64>, only: Option<&str>) {
        let parts = self.parts.iter().enumerate();
        let parts = parts.filter(|(_, p)| only.is_none_or(|name| p.name == name));
        let parts: Vec<_> = parts.collect();
        self.loadings.lock().insert(id, Loading { request, left: parts.len(), failed: false });
        for (at, part) in parts {
            let token = FIRST | (id & 0xffff_ffff) << 8 | at as u64;
            cx.query(part.database, Query::Select(part.select.clone()), token);
        }
    }

    /// Takes the answer to one query; `read` makes the table of its rows. A table that cannot be
    /// loaded stays as it was; at start the node cannot go on.
    pub fn answered(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Rows, DbError>,
        read: impl FnOnce(&mut Cx<'_>, &Rows) -> T,
    ) {
        self.try_answered(cx, token, result, |cx, rows| Ok(read(cx, rows)));
    }

    /// The same for rows of which it may not be possible to make a table.
    pub fn try_answered(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Rows, DbError>,
        read: impl FnOnce(&mut Cx<'_>, &Rows) -> Result<T, String>,
    ) {
        let (id, at) = ((token & !FIRST) >> 8, (token & 0xff) as usize);
        let Some(part) = self.parts.get(at) else { return };
        let made = result.map_err(|e| e.to_string()).and_then(|rows| read(cx, &rows));
        let why = match made {
            Ok(table) => {
                *part.present.write() = Arc::new(table);
                None
            }
            Err(error) => {
                let module = cx.node.modules.get(usize::from(cx.slot)).map_or("?", |s| s.def.name);
                Some(format!("{module}: table `{}`: {error}", part.select.table))
            }
        };
        let done = {
            let mut loadings = self.loadings.lock();
            let Some(loading) = loadings.get_mut(&id) else { return };
            loading.failed |= why.is_some();
            loading.left = loading.left.saturating_sub(1);
            if loading.left == 0 { loadings.remove(&id) } else { None }
        };
        if let Some(why) = why {
            match id {
                START => return cx.out.push(Effect::Fatal { text: why }),
                _ => cx.log(Level::Error, why),
            }
        }
        let Some(done) = done else { return };
        let Some(request) = done.request else { return cx.end_startup() };
        let answer = match done.failed {
            false => Ok("OK".into()),
            true => {
                let (code, message) = (self.refusal.0, self.refusal.1.to_owned());
                Err(RpcError { code, message, data: None })
            }
        };
        cx.mi_reply(request, answer);
    }
}

/// A partition as a parameter names it: `name: db_url=URL; table_name=TABLE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub name: String,
    pub url: Option<String>,
    pub table: Option<String>,
}

impl Partition {
    /// Reads the text of a `partition` parameter.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once(':')
            .filter(|(name, _)| !name.trim().is_empty() && !name.contains('='))
            .ok_or("a partition is written \"name: db_url=URL; table_name=TABLE\"")?;
        let mut partition = Self { name: name.trim().to_owned(), ..Self::default() };
        for item in rest.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) =
                item.split_once('=').ok_or_else(|| format!("`{item}` has no `=`"))?;
            let value = Some(value.trim().trim_matches('"').to_owned());
            match key.trim() {
                "db_url" => partition.url = value,
                "table_name" => {
                    tandem_db::check_name(value.as_deref().unwrap_or_default())
                        .map_err(|e| e.to_string())?;
                    partition.table = value;
                }
                other => {
                    return Err(format!("`{other}` is neither db_url nor table_name"));
                }
            }
        }
        Ok(partition)
    }

    /// For the table of parameters.
    ///
    /// # Errors
    /// As [`Partition::parse`].
    pub fn check(text: &str) -> Result<(), String> {
        Self::parse(text).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_a_name_a_database_and_a_table() {
        let read = Partition::parse("pstn: table_name = dp; db_url=sqlite:///a").unwrap();
        let wanted = Partition {
            name: "pstn".into(),
            url: Some("sqlite:///a".into()),
            table: Some("dp".into()),
        };
        assert_eq!(read, wanted);
        for wrong in ["", "db_url=sqlite:///a", "x: nosuch=1", "x: db_url", "x: table_name=a b"] {
            assert!(Partition::parse(wrong).is_err(), "{wrong}");
        }
    }
}
