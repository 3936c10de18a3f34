//! `tandemctl` as a person or a hook runs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A link to the command line.
#[derive(Debug)]
pub struct Ctl {
    link: PathBuf,
}

/// What the command printed, and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// Exit status.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ctl {
    pub(crate) fn new(link: PathBuf) -> Self {
        Self { link }
    }

    /// Runs it with these words.
    ///
    /// # Panics
    /// If the link cannot be run.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Answer {
        run(Command::new(&self.link).args(words))
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Answer {
    command.env_remove("TANDEM_FIFO").env_remove("OSIPS_FIFO").stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
