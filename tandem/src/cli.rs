//! The command line of the server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{docs, pair, script, server, tables};

/// A SIP server for services that must not go down.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, arg_required_else_help = true)]
struct Cli {
    /// Run one node with this script.
    #[arg(short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Stay in the foreground. That is what Tandem always does; accepted for old start scripts.
    #[arg(short = 'F')]
    foreground: bool,
    /// Where the node keeps its own state: who held which sharing tag.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report every problem of a script; nothing is started.
    Check {
        file: PathBuf,
        /// Warnings count as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Run an active and a backup node on this machine, with an embedded database.
    Pair {
        /// Folder for the database, the state and the links; default: under the temporary folder.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print what modules there are and what they export.
    Modules {
        /// As JSON: the whole export tables.
        #[arg(long)]
        json: bool,
        /// Write the pages of the book that are made from the tables below this folder.
        #[arg(long, value_name = "DIR", conflicts_with = "json")]
        docs: Option<PathBuf>,
    },
    /// The command line of a running node; the same as `tandemctl`.
    #[command(disable_help_flag = true)]
    Ctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match (cli.command, cli.file) {
        (Some(Command::Check { file, strict }), _) => script::check(&file, strict),
        (Some(Command::Pair { dir }), _) => pair::run(dir),
        (Some(Command::Modules { docs: Some(dir), .. }), _) => docs::write(&dir),
        (Some(Command::Modules { json, .. }), _) => tables::print(json),
        (Some(Command::Ctl { words }), _) => {
            tandemctl::run(std::iter::once(OsString::from("tandemctl")).chain(words))
        }
        (None, Some(file)) => server::run(&file, cli.state_dir),
        (None, None) => {
            eprintln!("tandem: name a script: tandem -f FILE (or `tandem pair` to try it out)");
            ExitCode::FAILURE
        }
    }
}
