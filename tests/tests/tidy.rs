//! Style as a test: sizes, leftovers, and the direction of the arrows between crates.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 100;

/// Longer for a reason: (path, lines, reason).
const LONGER: &[(&str, usize, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn files_fit_a_sitting_and_lines_a_screen() {
    let mut problems = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let lines = text.lines().count();
        let allowed = LONGER.iter().find(|(n, ..)| *n == name).map_or(FILE_LINES_MAX, |l| l.1);
        if lines > allowed {
            problems.push(format!("{name}: {lines} lines"));
        }
        for (n, line) in text.lines().enumerate() {
            // A long literal cannot be broken without changing it.
            let is_text = line.contains('"') || line.trim_start().starts_with("//");
            if line.chars().count() > LINE_CHARS_MAX && !is_text {
                problems.push(format!("{name}:{}: longer than {LINE_CHARS_MAX}", n + 1));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn nothing_is_left_over() {
    // Put together here, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["todo", "!("], ["dbg", "!("]];
    let words: Vec<String> = words.iter().map(|w| w.concat()).collect();
    let mut problems = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (n, line) in text.lines().enumerate() {
            if words.iter().any(|w| line.contains(w.as_str())) {
                problems.push(format!("{}:{}: {}", path.display(), n + 1, line.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Higher may use lower; `net` and `drivers` are used by binaries only.
fn level(package: &str) -> u32 {
    match package {
        "tandem-clock" | "tandem-xml" => 0,
        "tandem-sip" | "tandem-bin" => 1,
        "tandem-script" | "tandem-transaction" | "tandem-cluster" | "tandem-db" | "tandem-dns" => 2,
        "tandem-engine" | "tandem-net" | "tandem-drivers" => 3,
        "tandem" | "tandemctl" | "sim" | "bench" | "tandem-tests" => 5,
        // Modules.
        _ => 4,
    }
}

#[test]
fn arrows_point_one_way() {
    let mut packages = BTreeMap::new();
    for folder in ["crates", "modules"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().flatten() {
            let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
            let name = manifest.lines().find_map(|l| l.strip_prefix("name = ")).unwrap();
            packages.insert(name.trim_matches('"').to_owned(), manifest);
        }
    }
    let mut problems = Vec::new();
    for (package, manifest) in &packages {
        let (_, dependencies) = manifest.split_once("[dependencies]").unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for used in dependencies.lines().filter_map(|l| l.split(['.', ' ', '=']).next()) {
            if !packages.contains_key(used) {
                continue;
            }
            // A module may use a module, a crate of the engine nothing of its own level but
            // what stands beneath it.
            let (from, to) = (level(package), level(used));
            let beside = matches!(used, "tandem-net" | "tandem-drivers");
            if to > from || (to == from && from != 4) || beside {
                problems.push(format!("{package} uses {used}"));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Folders beside the modules that no script loads: what several modules share.
const LIBRARIES: &[&str] = &["targets"];

#[test]
fn every_module_has_a_check_for_every_entry_of_its_table() {
    for entry in std::fs::read_dir(root().join("modules")).unwrap().flatten() {
        if LIBRARIES.iter().any(|library| entry.file_name() == *library) {
            continue;
        }
        let exports = entry.path().join("tests/exports.rs");
        assert!(exports.exists(), "{} is missing", exports.display());
    }
}

/// A crate's tests are linked once: linking takes longer than most of them run. What `all.rs`
/// forgets would never run.
#[test]
fn the_tests_of_a_crate_are_one_program() {
    let mut problems = Vec::new();
    let mut crates = vec![root().join("sim"), root().join("tests"), root().join("tandem")];
    for folder in ["crates", "modules"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().flatten();
        crates.extend(entries.map(|entry| entry.path()));
    }
    for folder in crates.iter().map(|c| c.join("tests")) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let files: Vec<String> = entries
            .flatten()
            .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".rs")?.to_string()))
            .collect();
        if let Ok(all) = std::fs::read_to_string(folder.join("all.rs")) {
            let listed = |name: &str| all.lines().any(|l| l == format!("mod {name};"));
            let lost = files.iter().filter(|name| *name != "all" && !listed(name));
            problems.extend(lost.map(|name| format!("{}: no `mod {name};`", folder.display())));
        } else if files.len() > 1 {
            problems.push(format!("{}: several files and no all.rs", folder.display()));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Parameters that nothing reads, for a reason.
const UNREAD: &[(&str, &str)] = &[("mpath", "modules are built in, and the line stays harmless")];

#[test]
fn every_parameter_is_read() {
    let tables =
        Command::new(tandem_tests::program()).args(["modules", "--json"]).output().unwrap();
    let tables: serde_json::Value = serde_json::from_slice(&tables.stdout).unwrap();
    let sources: Vec<(String, String)> = sources()
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().display().to_string(), path))
        .filter(|(name, _)| name.contains("/src/"))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect();
    let mut problems = Vec::new();
    for module in tables.as_array().unwrap() {
        let owner = module["name"].as_str().unwrap();
        let own = format!("modules/{owner}/");
        for param in module["params"].as_array().unwrap() {
            let name = param["name"].as_str().unwrap();
            if !param["moot"].is_null() || UNREAD.iter().any(|(n, _)| *n == name) {
                continue;
            }
            // Its row in the table, and at least one place more. A global may be read anywhere.
            let literal = format!("\"{name}\"");
            let here = |file: &str| {
                let shared = LIBRARIES.iter().any(|l| file.starts_with(&format!("modules/{l}/")));
                owner == "core" || !file.starts_with("modules/") || shared || file.starts_with(&own)
            };
            let found = sources.iter().filter(|(file, _)| here(file));
            if found.map(|(_, text)| text.matches(&literal).count()).sum::<usize>() < 2 {
                problems.push(format!("{owner}: no code reads `{name}`"));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
