//! Libraries that connections to SQLite load.

use std::path::{Path, PathBuf};
use std::process::Command;

use tandem_db::{Query, Value};
use tandem_drivers::SqliteOptions;
use tandem_drivers::sqlite::{ask, check};
use tandem_drivers::sqlite_extensions::Extension;

/// A function `answer()` that gives 42. A library gets the functions of SQLite as a table whose
/// places never change; these are `sqlite3_create_function` and `sqlite3_result_int`.
const SOURCE: &str = "
typedef int (*create)(void *, const char *, int, int, void *, void (*)(void *, int, void **),
                      void *, void *);
typedef void (*result)(void *, int);
static void **api;
static void answer(void *of, int argc, void **argv) { ((result)api[82])(of, 42); }
int sqlite3_answer_init(void *db, char **why, void **functions) {
    api = functions;
    return ((create)api[45])(db, \"answer\", 0, 1, 0, answer, 0, 0);
}
int no_answer(void *db, char **why, void **functions) { return 0; }
";

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("tandem-extension-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn compile(dir: &Dir) -> String {
    let (source, library) = (dir.path("answer.c"), dir.path("answer.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let done = Command::new(compiler).args(["-shared", "-fPIC", "-o", &library, &source]).status();
    assert!(done.unwrap().success(), "SQLite itself needs a C compiler as well");
    assert!(Path::new(&library).exists());
    library
}

#[tokio::test]
async fn every_connection_has_the_functions_of_an_extension() {
    let dir = Dir::new();
    let file = compile(&dir);
    let open = |file: &str, entry: Option<&str>| {
        let extension = Extension { file: file.to_owned(), entry: entry.map(str::to_owned) };
        let (create, extensions) = (true, vec![extension]);
        SqliteOptions { create, extensions, ..SqliteOptions::new(dir.path("x.db")) }
    };
    let asked = |sql: &str| Query::Raw { sql: sql.to_owned() };
    let entry = "sqlite3_answer_init";
    for options in [open(&file, Some(entry)), open(&file, None)] {
        check(&options).await.unwrap();
        let rows = ask(&options, &asked("SELECT answer()")).await.unwrap();
        assert_eq!(rows.rows, vec![vec![Value::Int(42)]]);
    }
    let other = open(&file, Some("no_answer"));
    check(&other).await.unwrap();
    assert!(ask(&other, &asked("SELECT answer()")).await.is_err(), "it has another entry");
    // Nobody may load further ones by SQL.
    let by_sql = asked(&format!("SELECT load_extension('{file}', '{entry}')"));
    assert!(ask(&other, &by_sql).await.is_err());

    let missing = dir.path("missing.so");
    let error = check(&open(&missing, None)).await.unwrap_err().message;
    assert!(error.contains(&missing) && error.contains("install the library"), "{error}");
    assert!(error.contains("No such file"), "and the reason: {error}");
    let error = check(&open(&file, Some("wrong_init"))).await.unwrap_err().message;
    assert!(error.contains(&file) && error.contains("entry wrong_init"), "{error}");
}
