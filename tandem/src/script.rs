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

/// What a preprocessor made of the script on disk; it has no includes any more.
struct Preprocessed<'a> {
    command: &'a str,
}

impl Loader for Preprocessed<'_> {
    fn load(&mut self, path: &str, from: Option<&str>) -> Result<Loaded, String> {
        match from {
            None => {
                let text = crate::preprocess::run(&mut Disk, path, self.command)?;
                Ok(Loaded { name: path.to_owned(), text })
            }
            Some(_) => Disk.load(path, from),
        }
    }
}

/// Reads and compiles a script against the modules of this build; `preprocessor` is the command
/// of `-p`.
pub fn load(file: &Path, preprocessor: Option<&str>) -> Script {
    let name = file.to_string_lossy();
    match preprocessor {
        Some(command) => load_from(&mut Preprocessed { command }, &name),
        None => load_from(&mut Disk, &name),
    }
}

/// The same from any source of files.
pub fn load_from(files: &mut impl Loader, name: &str) -> Script {
    let tables = Tables::new(crate::modules());
    let (program, mut diags, map) = tables.with(|c| tandem_script::compile(files, name, c));
    if let Some(program) = &program {
        diags.extend(crate::meaning::cluster(program));
        diags.sort_by_key(|d| (d.span.lo, d.severity));
    }
    Script { program, diags, map }
}

/// Reads a script again, as a later version of the one that runs.
///
/// # Errors
/// Everything that is wrong with it.
pub fn reload(origin: &Origin, running: &Program) -> Result<Box<Program>, String> {
    let name = origin.file.to_string_lossy();
    let tables = Tables::new(crate::modules());
    let (program, diags, map) = tables.with(|c| match origin.preprocessor.as_deref() {
        Some(command) => {
            let mut files = Preprocessed { command };
            tandem_script::compile_after(&mut files, &name, c, Some(running))
        }
        None => tandem_script::compile_after(&mut Disk, &name, c, Some(running)),
    });
    let mut program = program.ok_or_else(|| render_all(&diags, &map))?;
    for socket in &origin.listen {
        program.sockets.push(command_line_socket(socket)?);
    }
    crate::hosts::resolve(&mut program);
    Ok(Box::new(program))
}

/// Where the script of a node comes from, to read it again.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub file: PathBuf,
    /// The command of `-p`.
    pub preprocessor: Option<String>,
    /// The sockets of `-l`.
    pub listen: Vec<String>,
}

fn command_line_socket(text: &str) -> Result<tandem_script::program::Socket, String> {
    tandem_script::parse_socket(text)
        .or_else(|e| tandem_script::parse_socket(&format!("udp:{text}")).map_err(|_| e))
        .map_err(|e| format!("tandem: -l {text}: {e}"))
}

impl Script {
    /// All findings as text; empty if there are none.
    pub fn rendered(&self) -> String {
        render_all(&self.diags, &self.map)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diags.iter().filter(|d| d.severity == severity).count()
    }

    /// Adds a socket of the command line: `[PROTO:]ADDRESS[:PORT]`.
    ///
    /// # Errors
    /// What is wrong with its text.
    pub fn listen(&mut self, text: &str) -> Result<(), String> {
        let Some(program) = &mut self.program else { return Ok(()) };
        program.sockets.push(command_line_socket(text)?);
        Ok(())
    }

    /// Builds the node; what only that finds is added to the list. Opens nothing.
    pub fn build(&mut self, options: NodeOptions) -> Option<Arc<Node>> {
        let mut program = self.program.take()?;
        crate::hosts::resolve(&mut program);
        match Node::build(program, crate::modules(), options) {
            Ok(node) => Some(node),
            Err(faults) => {
                self.diags.extend(faults);
                self.diags.sort_by_key(|d| (d.span.lo, d.severity));
                None
            }
        }
    }
}

/// How much `check` forgives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rigour {
    /// What starts is fine.
    Starts,
    /// `-C`: a function must also be allowed where the calls of routes lead.
    Reached,
    /// `--strict`: no warnings.
    NoWarnings,
}

/// `tandem check FILE`, and `-c`, `-C`.
pub fn check(file: &Path, preprocessor: Option<&str>, rigour: Rigour) -> ExitCode {
    let mut script = load(file, preprocessor);
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
    let reached = script.diags.iter().any(|d| d.code == tandem_script::REACHED);
    let refused = match rigour {
        Rigour::Starts => false,
        Rigour::Reached => reached,
        Rigour::NoWarnings => warnings > 0,
    };
    if errors > 0 || refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}
