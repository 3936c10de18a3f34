//! Reading scripts from disk, and saying everything that is wrong with them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tandem_clock::Chance;
use tandem_drivers::Clock;
use tandem_engine::build::NodeOptions;
use tandem_engine::catalogue::Tables;
use tandem_engine::node::Node;
use tandem_script::diag::render_all;
use tandem_script::source::{Loaded, Loader};
use tandem_script::{Diag, Program, Severity, SourceMap};

/// The largest script file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Files on disk.
struct Disk;

impl Loader for Disk {
    fn load(&mut self, path: &str, from: Option<&str>) -> Result<Loaded, String> {
        let beside = from.and_then(|f| Path::new(f).parent()).map(|dir| dir.join(path));
        let tried = [Some(PathBuf::from(path)), beside];
        let mut error = String::from("no such file");
        for path in tried.into_iter().flatten() {
            match tandem_drivers::files::read(&path, FILE_BYTES_MAX) {
                Ok(Some(text)) => {
                    return Ok(Loaded { name: path.to_string_lossy().into_owned(), text });
                }
                Ok(None) => {}
                Err(e) => error = e.to_string(),
            }
        }
        Err(error)
    }
}

/// A script that was read, with everything found in it.
pub struct Script {
    pub program: Option<Program>,
    pub diags: Vec<Diag>,
    pub map: SourceMap,
}

/// Reads and compiles a script against the modules of this build.
pub fn load(file: &Path) -> Script {
    let name = file.to_string_lossy();
    let tables = Tables::new(crate::modules());
    let (program, diags, map) = tables.with(|c| tandem_script::compile(&mut Disk, &name, c));
    Script { program, diags, map }
}

/// Reads a script again, as a later version of the one that runs.
///
/// # Errors
/// Everything that is wrong with it.
pub fn reload(file: &Path, running: &Program) -> Result<Box<Program>, String> {
    let name = file.to_string_lossy();
    let tables = Tables::new(crate::modules());
    let (program, diags, map) =
        tables.with(|c| tandem_script::compile_after(&mut Disk, &name, c, Some(running)));
    program.map(Box::new).ok_or_else(|| render_all(&diags, &map))
}

impl Script {
    /// All findings as text; empty if there are none.
    pub fn rendered(&self) -> String {
        render_all(&self.diags, &self.map)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diags.iter().filter(|d| d.severity == severity).count()
    }

    /// Builds the node; what only that finds is added to the list. Opens nothing.
    pub fn build(&mut self, options: NodeOptions) -> Option<Arc<Node>> {
        match Node::build(self.program.take()?, crate::modules(), options) {
            Ok(node) => Some(node),
            Err(faults) => {
                self.diags.extend(faults);
                None
            }
        }
    }
}

/// `tandem check FILE`.
pub fn check(file: &Path, strict: bool) -> ExitCode {
    let mut script = load(file);
    // Building opens nothing; it finds wrong values that only a module can judge. No key made
    // here protects anything.
    let options = NodeOptions {
        chance: Chance::from_number(0),
        now: Clock::new().now(),
        workers: 1,
        command_line: Vec::new(),
    };
    script.build(options);
    print!("{}", script.rendered());
    let (errors, warnings, notes) = (
        script.count(Severity::Error),
        script.count(Severity::Warning),
        script.count(Severity::Note),
    );
    let counts = format!(
        "{}, {}, {}",
        plural(errors, "error"),
        plural(warnings, "warning"),
        plural(notes, "note")
    );
    println!("{}{}: {counts}", if script.diags.is_empty() { "" } else { "\n" }, file.display());
    if errors > 0 || (strict && warnings > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}
