//! Where the records of calls are written.

use std::collections::BTreeMap;

use tandem_db::{Query, Value, schema};
use tandem_drivers::sqlite::{self, SqliteOptions};

use super::DATABASE;
use super::small::Small;
use crate::{DbServer, Kind, Lan, Site, program};

/// Which database the machines write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// An SQLite file on each machine.
    Files,
    /// One MariaDB on a host of its own.
    Shared,
}

#[derive(Debug)]
pub(super) enum Kept {
    /// The disks with the files.
    Files([(Small, SqliteOptions); 2]),
    Shared(DbServer),
}

const NAME: &str = "opensips";
const ROWS: &str = "SELECT callid, ms_duration FROM acc";

impl Kept {
    pub(super) fn make(site: &Site, lan: &Lan, store: Store) -> Option<Self> {
        match store {
            Store::Files => Some(Self::Files([1, 2].map(|host| file(site, host)))),
            Store::Shared => {
                let server = DbServer::start_on(site, lan, DATABASE, Kind::MariaDb)?;
                let (program, url) = (program().display().to_string(), server.url(NAME));
                let made =
                    lan.run(DATABASE, &[&program, "ctl", "--db", &url, "db", "create", "acc"]);
                assert_eq!(made.status, 0, "{}{}", made.stdout, made.stderr);
                Some(Self::Shared(server))
            }
        }
    }

    pub(super) fn module(&self) -> &'static str {
        match self {
            Self::Files(_) => "db_sqlite",
            Self::Shared(_) => "db_mysql",
        }
    }

    pub(super) fn url(&self, host: u8) -> String {
        match self {
            Self::Files(files) => {
                let (_, options) = &files[usize::from(host) - 1];
                format!("sqlite://{}", options.path.display())
            }
            Self::Shared(server) => server.url(NAME),
        }
    }

    /// A file cannot be stopped: its disk is full instead.
    pub(super) fn stop(&mut self, stop: bool) {
        match self {
            Self::Files(files) => files.iter().for_each(|(disk, _)| disk.fill(stop)),
            Self::Shared(server) if stop => server.kill(),
            Self::Shared(server) => server.up(),
        }
    }

    pub(super) fn rows(&self) -> BTreeMap<String, Vec<u64>> {
        let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        match self {
            Self::Files(files) => {
                for (_, options) in files {
                    let query = Query::Raw { sql: ROWS.into() };
                    let found = runtime().block_on(sqlite::ask(options, &query));
                    let found = found.unwrap_or_else(|e| panic!("{ROWS}: {e}"));
                    for row in &found.rows {
                        let [Value::Str(call), Value::Int(ms)] = &row[..] else {
                            panic!("a Call-ID and a number: {row:?}")
                        };
                        rows.entry(call.clone()).or_default().push(ms.cast_unsigned());
                    }
                }
            }
            Self::Shared(server) => {
                for line in server.tell(NAME, ROWS).lines() {
                    let (call, ms) = line.split_once('\t').unwrap_or((line, ""));
                    let ms = ms.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
                    rows.entry(call.to_owned()).or_default().push(ms);
                }
            }
        }
        rows
    }
}

fn file(site: &Site, host: u8) -> (Small, SqliteOptions) {
    let folder = site.dir().join(format!("cdrs{host}"));
    let disk = Small::mount(folder.clone(), 16);
    let path = folder.join("cdrs.sqlite");
    let options = SqliteOptions { create: true, ..SqliteOptions::new(path.clone()) };
    let wanted = ["version", "acc", "missed_calls"];
    let tables: Vec<_> = wanted.iter().filter_map(|t| schema::table(t)).collect();
    let made = runtime().block_on(sqlite::create_schema(&options, &tables));
    made.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (disk, SqliteOptions::new(path))
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("no runtime: {e}"))
}
