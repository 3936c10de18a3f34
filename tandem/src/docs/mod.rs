//! The pages of the book that are made from the export tables: `tandem modules --docs DIR`.
//!
//! `DIR/compatibility.md` holds the tables against the names of the field; `DIR/modules/NAME.md`
//! is the page of a module. A test compares the pages in `docs/` with what this writes.

mod compatibility;
mod page;

use std::path::Path;
use std::process::ExitCode;

use tandem_engine::module::ModuleDef;

/// Writes every page below `dir`.
pub fn write(dir: &Path) -> ExitCode {
    match write_all(dir) {
        Ok(pages) => {
            println!("{pages} pages below {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("tandem: cannot write the pages below {}: {e}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> std::io::Result<usize> {
    let modules = crate::modules();
    std::fs::create_dir_all(dir.join("modules"))?;
    for def in modules {
        let example = std::fs::read_to_string(dir.join("examples").join(file(def, "cfg"))).ok();
        let text = page::write(def, example.as_deref());
        std::fs::write(dir.join("modules").join(file(def, "md")), text)?;
    }
    std::fs::write(dir.join("compatibility.md"), compatibility::write(modules))?;
    Ok(modules.len() + 1)
}

fn file(def: &ModuleDef, ending: &str) -> String {
    format!("{}.{ending}", def.name)
}

/// A text that may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
