//! What `tandem check` says about scripts, word for word, against the tables of this build.
//! `ACCEPT=1 cargo test -p tandem --test check` rewrites the answers. `== name` in a script starts
//! another file that it can include.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tandem::script::{Script, load_from};
use tandem_clock::{Chance, Now};
use tandem_engine::build::NodeOptions;
use tandem_script::Severity;
use tandem_script::source::{Loaded, Loader};

/// At least so many scripts of each kind of mistake.
const KINDS: &[(&str, usize)] = &[
    ("lexical", 8),
    ("structure", 8),
    ("wrong_type", 8),
    ("wrong_route", 8),
    ("unknown_name", 8),
    ("older_spelling", 8),
    ("cluster", 8),
    ("include", 8),
    ("dependency", 8),
];

struct Files(BTreeMap<String, String>);

impl Files {
    /// `main.cfg`, and what `== name` lines start.
    fn of(path: &Path) -> Self {
        let (mut files, mut name) = (BTreeMap::new(), "main.cfg".to_owned());
        for line in fs::read_to_string(path).unwrap().split_inclusive('\n') {
            match line.strip_prefix("== ") {
                Some(next) => name = next.trim_end().to_owned(),
                None => files.entry(name.clone()).or_insert_with(String::new).push_str(line),
            }
        }
        Self(files)
    }
}

impl Loader for Files {
    fn load(&mut self, path: &str, _from: Option<&str>) -> Result<Loaded, String> {
        let text = self.0.get(path).ok_or("no such file")?;
        Ok(Loaded { name: path.to_owned(), text: text.clone().into_bytes() })
    }
}

/// The script as `tandem check` sees it, and whether a node could be built.
fn checked(path: &Path) -> (Script, bool) {
    let mut script = load_from(&mut Files::of(path), "main.cfg");
    let now = Now { mono_ns: 1, unix_ms: 1_800_000_000_000 };
    let options =
        NodeOptions { chance: Chance::from_number(1), now, workers: 1, command_line: Vec::new() };
    let starts = script.build(options).is_some();
    (script, starts)
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "cfg")).collect();
    found.sort();
    found
}

#[test]
fn every_mistake_is_reported_where_it_is_with_what_to_do() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in scripts("check") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let kind = KINDS.iter().find(|(kind, _)| name.starts_with(kind));
        *counts.entry(kind.unwrap_or_else(|| panic!("{name}: of no kind")).0).or_default() += 1;
        let (script, starts) = checked(&path);
        assert!(!script.diags.is_empty(), "{name}: nothing was found");
        let mut said = script.rendered();
        if starts {
            said += "starts\n";
        }
        let expected = path.with_extension("txt");
        if std::env::var_os("ACCEPT").is_some() {
            fs::write(&expected, said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (kind, least) in KINDS {
        assert!(counts.get(kind).is_some_and(|n| n >= least), "{kind}: too few scripts");
    }
}

#[test]
fn nothing_is_found_in_scripts_as_people_write_them() {
    let all = scripts("good");
    assert!(all.len() >= 20, "only {} scripts", all.len());
    for path in all {
        let (script, starts) = checked(&path);
        assert!(starts && script.diags.is_empty(), "{}:\n{}", path.display(), script.rendered());
    }
}

#[test]
fn an_older_spelling_never_keeps_a_script_from_starting() {
    for path in scripts("check") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("older_spelling") {
            let (script, starts) = checked(&path);
            let worse = script.diags.iter().any(|d| d.severity != Severity::Note);
            assert!(starts && !worse, "{name}:\n{}", script.rendered());
        }
    }
}
