//! What the compiler says about wrong scripts, word for word. `ACCEPT=1 cargo test` rewrites the
//! files. `== name` in a script starts another file that it can include.

use crate::common;

use std::fs;
use std::path::Path;

#[test]
fn diagnostics_are_as_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut scripts: Vec<_> = fs::read_dir(&folder)
        .expect("folder")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "cfg"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 25, "only {} scripts", scripts.len());
    let mut wrong = Vec::new();
    for path in scripts {
        let text = fs::read_to_string(&path).expect("script");
        let mut files = vec![("main.cfg", String::new())];
        for line in text.split_inclusive('\n') {
            match line.strip_prefix("== ") {
                Some(name) => files.push((name.trim_end(), String::new())),
                None => files.last_mut().expect("main").1.push_str(line),
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
        let (program, diags, map) = common::compile_files(&files);
        let mut said = tandem_script::diag::render_all(&diags, &map);
        if program.is_some() {
            said += "starts\n";
        }
        let expected = path.with_extension("txt");
        if std::env::var_os("ACCEPT").is_some() {
            fs::write(&expected, said).expect("write");
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
