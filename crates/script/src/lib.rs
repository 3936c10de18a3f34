//! The configuration language: text to syntax tree with spans to a checked program to bytecode
//! for a small virtual machine.
//!
//! The crate knows no module. What functions, variables, parameters and globals exist is data
//! ([`sig`]), and everything a running script does to the world goes through [`host::Host`].
//!
//! The way of a script: [`source`] (files, spans) -> `lex` -> `parse` (`ast`) -> `lower`
//! (checks everything and emits code in one walk) -> [`program::Program`] -> [`vm`].

pub mod diag;
pub mod flags;
pub mod host;
pub mod known;
pub mod program;
pub mod sig;
pub mod source;
pub mod transform;
pub mod value;
pub mod vm;

mod ast;
mod former;
mod lex;
mod lower;
mod nearest;
mod parse;
mod preprocessed;
mod pv;
mod reload;
mod socket;

pub use diag::{Diag, Severity};
pub use lower::REACHED;
pub use nearest::nearest;
pub(crate) use parse::parse_net;
pub use program::Program;
pub use source::{Loader, SourceMap, Span};

/// Reads, checks and compiles a script.
///
/// The list of diagnostics is complete and in source order; the program is there exactly when
/// none of them is an error. `main` is the name of the file to start with, as `files` knows it.
pub fn compile(
    files: &mut impl Loader,
    main: &str,
    catalogue: &sig::Catalogue<'_>,
) -> (Option<Program>, Vec<Diag>, SourceMap) {
    compile_after(files, main, catalogue, None)
}

/// Like [`compile`], as a later version of a script that runs: flags keep their bits.
pub fn compile_after(
    files: &mut impl Loader,
    main: &str,
    catalogue: &sig::Catalogue<'_>,
    before: Option<&Program>,
) -> (Option<Program>, Vec<Diag>, SourceMap) {
    let mut map = SourceMap::default();
    let mut diags = Vec::new();
    let tokens = lex::tokens(files, main, &mut map, &mut diags);
    let open = diags.iter().find(|d| matches!(d.code, "E0006" | "E0008")).map(|d| d.span.lo);
    let items = parse::parse(&tokens, &map, &mut diags);
    if let Some(open) = open {
        // What follows an open string or comment was not read as it was meant.
        diags.retain(|d| d.code < "E0100" || (d.span.lo < open && d.code != "E0110"));
    }
    let program = lower::lower(&items, &map, catalogue, before, &mut diags);
    diags.sort_by_key(|d| (d.span.lo, d.severity));
    diags.dedup_by(|a, b| a.span == b.span && a.message == b.message);
    let failed = diags.iter().any(|d| d.severity == Severity::Error);
    (if failed { None } else { Some(program) }, diags, map)
}

/// Reads a socket as `socket =` takes it, for those that the command line adds.
///
/// # Errors
/// What is wrong with it, in plain words.
pub fn parse_socket(text: &str) -> Result<program::Socket, String> {
    socket::socket(text, Span::default(), program::Place::default()).map_err(|e| e.message)
}
