//! The command line and the Python package of the field, as PyPI has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Answer, program};

/// An environment of Python with both.
#[derive(Debug)]
pub struct OpensipsCli {
    bin: PathBuf,
}

impl OpensipsCli {
    /// Installs them once, under the target folder; `None`, and a line that says why, where they
    /// cannot be had.
    #[must_use]
    pub fn install() -> Option<Self> {
        let own = std::env::current_exe().unwrap_or_else(|_| program());
        let target = own.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned();
        let dir = target.join("opensips-cli");
        let cli = Self { bin: dir.join("bin") };
        if cli.bin.join("opensips-cli").is_file() {
            return Some(cli);
        }
        // Tests that run side by side each make their own, and the first one stays.
        let making = target.join(format!("opensips-cli-{}", std::process::id()));
        let made = step(Command::new("python3").args(["-m", "venv"]).arg(&making)).and_then(|()| {
            let python = making.join("bin/python");
            step(Command::new(python).args(["-m", "pip", "-q", "install", "opensipscli"]))
        });
        if let Err(why) = made {
            let _ = std::fs::remove_dir_all(&making);
            eprintln!("SKIPPED: opensipscli cannot be installed from PyPI: {why}");
            return None;
        }
        // A script of an environment names its interpreter by the folder it was made in: the
        // package is run as a module, so that the folder may be renamed.
        let _ = std::fs::rename(&making, &dir);
        let _ = std::fs::remove_dir_all(&making);
        Some(cli)
    }

    /// Runs `opensips-cli` with these options and one command.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(&self, options: &[String], command: &[&str]) -> Answer {
        let mut words: Vec<String> = options.iter().map(|o| format!("-o{o}")).collect();
        words.push("-x".into());
        words.extend(command.iter().map(ToString::to_string));
        self.python("import sys; from opensipscli.main import main; sys.exit(main())", &words)
    }

    /// Runs a program in Python.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn python(&self, text: &str, words: &[String]) -> Answer {
        let output = Command::new("timeout")
            .arg("60")
            .arg(self.bin.join("python"))
            .args(["-c", text])
            .args(words)
            .output()
            .unwrap_or_else(|e| panic!("python: {e}"));
        Answer {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn step(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(said.lines().last().unwrap_or("it failed").to_owned())
}
