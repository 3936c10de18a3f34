//! The SQLite driver with real files, and the in-memory database against it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::process::Uid;
use tandem_db::memory::MemoryDb;
use tandem_db::schema::{Column, ColumnDefault, Key, Table, create_query, table, tables};
use tandem_db::{Cond, DbError, DbErrorKind, Dialect, Op, Order, Query, Rows, Select, Value};
use tandem_drivers::sqlite::{check, create_schema};
use tandem_drivers::{Completion, Database, Sqlite, SqliteOptions};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let file = format!("tandem-sqlite-{}-{name}.db", std::process::id());
        let path = std::env::temp_dir().join(file);
        let temp = Self(path);
        temp.remove();
        temp
    }

    fn options(&self) -> SqliteOptions {
        SqliteOptions { create: true, ..SqliteOptions::new(&self.0) }
    }

    fn remove(&self) {
        for tail in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(tail);
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Asks one query after the other.
struct Client {
    db: Database,
    completions: mpsc::Receiver<Completion>,
    next: u64,
}

impl Client {
    fn new(options: SqliteOptions) -> Self {
        let (sender, completions) = mpsc::channel(16);
        Self { db: Sqlite::spawn(&Handle::current(), options, sender), completions, next: 0 }
    }

    async fn ask(&mut self, query: Query) -> Result<Rows, DbError> {
        self.next += 1;
        self.db.submit(self.next, query)?;
        let completion = self.completions.recv().await.expect("completion");
        assert_eq!(completion.id, self.next);
        completion.result
    }
}

fn insert_domain(name: &str) -> Query {
    Query::Insert { table: "domain".into(), row: vec![("domain".into(), name.into())] }
}

fn raw(sql: &str) -> Query {
    Query::Raw { sql: sql.to_owned() }
}

#[tokio::test]
async fn the_whole_standard_schema_is_created_and_again_without_change() {
    let file = TempFile::new("schema");
    let all: Vec<&Table> = tables().iter().collect();
    create_schema(&file.options(), &all).await.expect("schema");
    create_schema(&file.options(), &all).await.expect("again");
    let mut client = Client::new(SqliteOptions::new(&file.0));
    let query = "SELECT table_version FROM version WHERE table_name='location'";
    let rows = client.ask(raw(query)).await.expect("version");
    assert_eq!(rows.rows, vec![vec![Value::Int(1013)]]);
    let rows = client.ask(raw("SELECT count(*) FROM version")).await.expect("count");
    assert_eq!(rows.rows, vec![vec![Value::Int(74)]]);
    let query = Select { table: "location".into(), ..Select::default() };
    let rows = client.ask(Query::Select(query)).await.expect("empty");
    assert_eq!(rows.columns.len(), 19);
    client.db.close().await;
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_the_database_goes_on() {
    let file = TempFile::new("errors");
    create_schema(&file.options(), &[table("domain").expect("domain")]).await.expect("schema");
    let mut client = Client::new(SqliteOptions { rows_max: 2, ..file.options() });
    client.ask(insert_domain("a")).await.expect("insert");
    let kind = |result: Result<Rows, DbError>| result.expect_err("error").kind;
    assert_eq!(kind(client.ask(insert_domain("a")).await), DbErrorKind::Constraint);
    assert_eq!(kind(client.ask(raw("SELEKT")).await), DbErrorKind::Malformed);
    assert_eq!(kind(client.ask(raw("SELECT x FROM nope")).await), DbErrorKind::Missing);
    let delete = Query::Delete { table: "domain".into(), conds: vec![Cond::eq("nope", 1)] };
    assert_eq!(kind(client.ask(delete).await), DbErrorKind::Missing);
    assert_ne!(kind(client.ask(raw("SELECT 1; DELETE FROM domain")).await), DbErrorKind::Busy);
    let batch = Query::Batch(vec![insert_domain("b"), insert_domain("a")]);
    assert_eq!(kind(client.ask(batch).await), DbErrorKind::Constraint);
    let count = client.ask(raw("SELECT count(*) FROM domain")).await.expect("count");
    assert_eq!(count.rows, vec![vec![Value::Int(1)]]);
    client.ask(insert_domain("b")).await.expect("insert");
    client.ask(insert_domain("c")).await.expect("insert");
    assert_eq!(kind(client.ask(raw("SELECT * FROM domain")).await), DbErrorKind::TooManyRows);
    client.db.close().await;
}

#[tokio::test]
async fn writes_that_wait_together_fail_apart_and_a_full_queue_refuses_at_once() {
    let file = TempFile::new("group");
    create_schema(&file.options(), &[table("domain").expect("domain")]).await.expect("schema");
    let mut client = Client::new(SqliteOptions { queue_max: 10, ..file.options() });
    // Nothing runs before this task waits, so ten are in the queue and the eleventh is too many.
    for i in 0..10_u64 {
        client.db.submit(i, insert_domain(&format!("d{}", i / 2))).expect("room");
    }
    let refused = client.db.submit(10, insert_domain("x")).expect_err("full");
    assert_eq!(refused.kind, DbErrorKind::Busy);
    for i in 0..10_u64 {
        let completion = client.completions.recv().await.expect("completion");
        assert_eq!(completion.id, i);
        assert_eq!(completion.result.is_ok(), i % 2 == 0);
    }
    let count = client.ask(raw("SELECT count(*) FROM domain")).await.expect("count");
    assert_eq!(count.rows, vec![vec![Value::Int(5)]]);
    client.db.close().await;
}

#[tokio::test(flavor = "current_thread")]
async fn two_handles_on_one_file_do_not_lose_or_block_each_other() {
    let file = TempFile::new("two");
    create_schema(&file.options(), &[table("domain").expect("domain")]).await.expect("schema");
    let options = SqliteOptions { busy_timeout_ms: 20_000, ..file.options() };
    let (mut a, mut b) = (Client::new(options.clone()), Client::new(options));
    for round in 0..5 {
        for i in 0..100_u64 {
            let name = |who| insert_domain(&format!("{who}{round}-{i}"));
            let batch = Query::Batch(vec![raw("SELECT count(*) FROM domain"), name("b")]);
            a.db.submit(i, name("a")).expect("room");
            b.db.submit(i, batch).expect("room");
        }
        for _ in 0..100 {
            a.completions.recv().await.expect("completion").result.expect("a writes");
            b.completions.recv().await.expect("completion").result.expect("b writes");
        }
    }
    let count = a.ask(raw("SELECT count(*) FROM domain")).await.expect("count");
    assert_eq!(count.rows, vec![vec![Value::Int(1000)]]);
    a.db.close().await;
    b.db.close().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_and_comes_back() {
    let file = TempFile::new("missing");
    let options = SqliteOptions::new(&file.0);
    let error = check(&options).await.expect_err("no file");
    assert_eq!(error.kind, DbErrorKind::Unavailable);
    assert!(error.message.contains("missing.db"), "{}", error.message);
    let mut client = Client::new(options);
    assert!(client.ask(insert_domain("a")).await.is_err());
    create_schema(&file.options(), &[table("domain").expect("domain")]).await.expect("schema");
    client.ask(insert_domain("a")).await.expect("opened again");
    client.db.close().await;
    std::fs::write(&file.0, "this is no database, however long the text may be").expect("write");
    assert_eq!(check(&file.options()).await.expect_err("text").kind, DbErrorKind::Unavailable);
}

/// Rights of a file and of the folder it is in.
fn allow(file: &Path, of_file: u32, of_folder: u32) {
    let folder = file.parent().unwrap();
    std::fs::set_permissions(file, Permissions::from_mode(of_file)).unwrap();
    std::fs::set_permissions(folder, Permissions::from_mode(of_folder)).unwrap();
}

/// Root may write everything: this thread, and those it starts, go on as another user.
fn become_user(id: u32) {
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(id), None).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_read_and_written_as_soon_as_it_can_be() {
    let folder = std::env::temp_dir().join(format!("tandem-read-only-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("rules.sqlite");
    let pragmas = vec![("journal_mode".to_owned(), "DELETE".to_owned())];
    let create = SqliteOptions { create: true, pragmas, ..SqliteOptions::new(&path) };
    create_schema(&create, &[table("domain").expect("domain")]).await.expect("schema");
    let options = SqliteOptions::new(&path);

    let is_root = rustix::process::geteuid().is_root();
    allow(&path, 0o444, 0o555);
    if is_root {
        become_user(65534);
    }
    let said = check(&options).await.expect("it can be read").expect("and only read").message;
    assert!(said.starts_with(path.to_str().unwrap()), "{said}");
    assert!(said.contains("its directory writable for the user of the process"), "{said}");
    let mut client = Client::new(options.clone());
    client.ask(raw("SELECT count(*) FROM domain")).await.expect("reads");
    let error = client.ask(insert_domain("a")).await.expect_err("it cannot write");
    assert_eq!(error, DbError::new(DbErrorKind::Busy, said.clone()));
    // Two at once, in a transaction of both.
    for id in 10..12 {
        client.db.submit(id, insert_domain("a")).expect("room");
    }
    for _ in 10..12 {
        let error = client.completions.recv().await.expect("completion").result.expect_err("both");
        assert_eq!(error, DbError::new(DbErrorKind::Busy, said.clone()));
    }
    if is_root {
        become_user(0);
    }
    allow(&path, 0o666, 0o777);
    client.ask(insert_domain("a")).await.expect("writes");
    assert_eq!(check(&options).await, Ok(None));
    client.db.close().await;

    // It has a journal beside it now, without which it cannot even be read.
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["rules.sqlite"]);
    allow(&path, 0o666, 0o555);
    if is_root {
        become_user(65534);
    }
    let error = check(&options).await.expect_err("no journal");
    assert_eq!(error.kind, DbErrorKind::Busy);
    assert!(error.message.contains("make its directory writable"), "{error}");
    assert!(error.message.starts_with(path.to_str().unwrap()), "{error}");
    let mut client = Client::new(options.clone());
    assert_eq!(client.ask(raw("SELECT count(*) FROM domain")).await, Err(error));
    client.db.close().await;
    if is_root {
        become_user(0);
    }
    allow(&path, 0o666, 0o777);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_full_disk_is_no_mistake_of_those_who_write_together() {
    let file = TempFile::new("full");
    create_schema(&file.options(), &[table("domain").expect("domain")]).await.expect("schema");
    // As many pages as there are: no room for the long one.
    let pragmas = vec![("max_page_count".to_owned(), "1".to_owned())];
    let mut client = Client::new(SqliteOptions { pragmas, ..file.options() });
    let long = insert_domain(&"x".repeat(100_000));
    for (id, query) in (1..).zip([insert_domain("a"), long.clone(), insert_domain("b")]) {
        client.db.submit(id, query).expect("room");
    }
    for _ in 0..3 {
        let error = client.completions.recv().await.expect("completion").result.expect_err("full");
        assert_eq!(error.kind, DbErrorKind::Busy, "{error}");
        assert!(error.message.starts_with(file.0.to_str().unwrap()), "{error}");
        assert!(error.message.ends_with("disk is full: make room on its disk"), "{error}");
    }
    assert_eq!(client.ask(long).await.expect_err("full").kind, DbErrorKind::Busy);
    client.ask(insert_domain("a")).await.expect("there is room for a short one");
    client.db.close().await;
}

#[tokio::test]
async fn no_wait_for_a_lock_is_too_long() {
    let file = TempFile::new("wait");
    let options = SqliteOptions { busy_timeout_ms: u64::MAX, ..file.options() };
    assert_eq!(check(&options).await, Ok(None));
}

#[tokio::test]
async fn pragmas_of_the_script_are_run_and_bad_names_refused() {
    let file = TempFile::new("pragma");
    let pragmas = vec![("cache_size".to_owned(), "321".to_owned())];
    let mut client = Client::new(SqliteOptions { pragmas, ..file.options() });
    client.ask(raw("CREATE TABLE t (x)")).await.expect("create");
    let rows = client.ask(raw("PRAGMA cache_size")).await.expect("pragma");
    assert_eq!(rows.rows, vec![vec![Value::Int(321)]]);
    let rows = client.ask(raw("PRAGMA journal_mode")).await.expect("pragma");
    assert_eq!(rows.rows, vec![vec!["wal".into()]]);
    client.db.close().await;
    let pragmas = vec![("a; DROP TABLE t".to_owned(), "1".to_owned())];
    assert!(check(&SqliteOptions { pragmas, ..file.options() }).await.is_err());
}

/// A table with every kind of column, a key of two columns, and defaults.
fn sample() -> Table {
    let column = |name: &str, sqlite: &str, nullable: bool, default: ColumnDefault| Column {
        name: name.to_owned(),
        types: [sqlite, sqlite, sqlite].map(str::to_owned),
        size: 0,
        nullable,
        default,
        primary_key: false,
        auto_increment: false,
    };
    let mut id = column("id", "INTEGER", false, ColumnDefault::None);
    (id.primary_key, id.auto_increment) = (true, true);
    Table {
        name: "sample".to_owned(),
        group: "test".to_owned(),
        version: 1,
        columns: vec![
            id,
            column("k", "CHAR(8)", false, ColumnDefault::Str(String::new())),
            column("n", "INTEGER", true, ColumnDefault::Int(7)),
            column("f", "DOUBLE", false, ColumnDefault::Float(0.5)),
            column("t", "DATETIME", true, ColumnDefault::None),
            column("b", "BLOB", true, ColumnDefault::Null),
        ],
        keys: vec![Key {
            name: "k_idx".to_owned(),
            unique: true,
            columns: vec!["k".to_owned(), "n".to_owned()],
        }],
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (-3..4_i64).prop_map(Value::Int),
        (-6..6_i64).prop_map(|i| Value::Float(i as f64 / 4.0)),
        "[ab]|[0-3]|-1|1\\.5| 2 |1e0|x1".prop_map(Value::Str),
        "[ab1]{0,2}".prop_map(|s| Value::Blob(s.into_bytes().into())),
        (0..3_i64).prop_map(|i| Value::Time(i * 86_400)),
    ]
}

fn column() -> impl Strategy<Value = tandem_db::Name> {
    prop::sample::select(vec!["id", "k", "n", "f", "t", "b"]).prop_map(Into::into)
}

fn conds() -> impl Strategy<Value = Vec<Cond>> {
    let op = prop::sample::select(vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    let cond = (column(), op, value()).prop_map(|(column, op, value)| Cond { column, op, value });
    prop::collection::vec(cond, 0..3)
}

/// Values for some columns, each named once.
fn row() -> impl Strategy<Value = Vec<(tandem_db::Name, Value)>> {
    let columns = vec!["id", "k", "n", "f", "t", "b"];
    (prop::sample::subsequence(columns, 1..4), prop::collection::vec(value(), 6)).prop_map(
        |(columns, values)| columns.into_iter().zip(values).map(|(c, v)| (c.into(), v)).collect(),
    )
}

fn query() -> impl Strategy<Value = Query> {
    let select = (conds(), column(), any::<bool>()).prop_map(|(conds, column, descending)| {
        let by = |column: tandem_db::Name, descending| Order { column, descending };
        Query::Select(Select {
            table: "sample".into(),
            columns: vec![],
            conds,
            order: vec![by(column, descending), by("id".into(), false)],
            limit: Some(5),
        })
    });
    let insert = row().prop_map(|row| Query::Insert { table: "sample".into(), row });
    let delete = conds().prop_map(|conds| Query::Delete { table: "sample".into(), conds });
    let upsert = (value(), value(), value()).prop_map(|(k, n, f)| Query::InsertOrUpdate {
        table: "sample".into(),
        keys: vec![("k".into(), k), ("n".into(), n)],
        set: vec![("f".into(), f)],
    });
    // The order in which SQLite visits the rows decides which one of two breaks a unique key, so
    // an update here names one row or touches no key.
    let update = (row(), value()).prop_map(|(set, id)| Query::Update {
        table: "sample".into(),
        set,
        conds: vec![Cond::eq("id", id)],
    });
    let single = prop_oneof![3 => insert, 2 => select, 1 => delete, 2 => upsert, 2 => update];
    let single = single.boxed();
    prop_oneof![
        6 => single.clone(),
        1 => prop::collection::vec(single, 1..4).prop_map(Query::Batch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_database_in_memory_answers_as_sqlite_does(
        queries in prop::collection::vec(query(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(async {
            let file = TempFile::new("random");
            let create = create_query(Dialect::SQLITE, &[&sample()]).expect("create");
            let mut client = Client::new(SqliteOptions { readers: 1, ..file.options() });
            client.ask(create).await.expect("create");
            let mut memory = MemoryDb::with_tables([&sample()]);
            let all = Query::Select(Select {
                table: "sample".into(),
                order: vec![Order { column: "id".into(), descending: false }],
                ..Select::default()
            });
            for query in queries.into_iter().chain([all]) {
                let real = client.ask(query.clone()).await.map_err(|error| error.kind);
                let ours = memory.execute(&query).map_err(|error| error.kind);
                prop_assert_eq!(&ours, &real, "{:?}", query);
            }
            client.db.close().await;
            Ok(())
        })?;
    }
}
