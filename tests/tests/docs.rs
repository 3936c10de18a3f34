//! The book: pages made from the tables are up to date, and every example in it works.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

/// The pages below a folder, by name.
fn pages(dir: &Path) -> BTreeMap<String, String> {
    let folders = [dir.to_path_buf(), dir.join("modules")];
    let files = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap().flatten());
    files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| {
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn examples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(docs().join("examples")).unwrap().flatten();
    let mut examples: Vec<_> = files.map(|e| e.path()).collect();
    examples.retain(|path| path.extension().is_some_and(|e| e == "cfg"));
    examples.sort();
    examples
}

#[test]
fn pages_say_what_the_tables_say() {
    let dir = std::env::temp_dir().join(format!("tandem-docs-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("examples")).unwrap();
    for example in examples() {
        let name = example.file_name().unwrap();
        std::fs::copy(&example, dir.join("examples").join(name)).unwrap();
    }
    let made = Command::new(tandem_tests::program())
        .args(["modules", "--docs"])
        .arg(&dir)
        .status()
        .unwrap();
    assert!(made.success());
    let here = pages(&docs());
    let made = pages(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    for (name, page) in &made {
        let is_same = here.get(name) == Some(page);
        assert!(is_same, "docs/{name} is out of date: `tandem modules --docs docs` writes it");
    }
    for name in here.keys().filter(|n| n.starts_with("modules/")) {
        assert!(made.contains_key(name), "docs/{name} is the page of a module that is gone");
    }
}

#[test]
fn every_module_has_an_example() {
    let tables =
        Command::new(tandem_tests::program()).args(["modules", "--json"]).output().unwrap();
    let tables: serde_json::Value = serde_json::from_slice(&tables.stdout).unwrap();
    for module in tables.as_array().unwrap() {
        let name = module["name"].as_str().unwrap();
        let example = docs().join(format!("examples/{name}.cfg"));
        let text = std::fs::read_to_string(&example).unwrap_or_default();
        let loads = name == "core" || text.contains(&format!("loadmodule \"{name}.so\""));
        assert!(loads, "{} does not load {name}", example.display());
    }
}

#[test]
fn every_example_is_without_a_finding() {
    for example in examples() {
        let checked =
            Command::new(tandem_tests::program()).arg("check").arg(&example).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(said.contains("0 errors, 0 warnings, 0 notes"), "{said}");
    }
}
