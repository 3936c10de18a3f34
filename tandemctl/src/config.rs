//! Which FIFO is meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::{Call, folder};

/// Where to ask, and how long to wait.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) fifo: PathBuf,
    pub(crate) reply_dir: PathBuf,
    pub(crate) timeout: Duration,
}

pub(crate) fn resolve(call: &Call) -> Target {
    let fifo = call
        .fifo
        .clone()
        .or_else(|| from_environment("TANDEM_FIFO"))
        .or_else(|| from_environment("OSIPS_FIFO"))
        .or_else(|| rc_files(&call.program).iter().find_map(|file| from_rc(file)))
        .unwrap_or_else(|| PathBuf::from("/tmp/opensips_fifo"));
    Target {
        fifo,
        reply_dir: call.reply_dir.clone().unwrap_or_else(|| PathBuf::from("/tmp")),
        timeout: call.timeout.unwrap_or(Duration::from_secs(5)),
    }
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn rc_files(program: &Path) -> Vec<PathBuf> {
    let beside = folder(program).map(Path::to_path_buf);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let fixed = ["/etc/tandem", "/etc/opensips"].map(PathBuf::from);
    let mut files = Vec::new();
    for dir in beside.into_iter().chain(fixed) {
        files.push(dir.join("tandemctlrc"));
        files.push(dir.join("opensipsctlrc"));
    }
    files.extend(home.map(|h| h.join(".opensipsctlrc")));
    files
}

/// `OSIPS_FIFO="/path"` of a shell-style file.
fn from_rc(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(parse_line)
}

fn parse_line(line: &str) -> Option<PathBuf> {
    let (name, value) = line.trim().split_once('=')?;
    let value = value.trim().trim_matches(['"', '\'']);
    (name.trim() == "OSIPS_FIFO" && !value.is_empty()).then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifo_of_an_opensipsctlrc_is_found() {
        let fifo = parse_line(r#"OSIPS_FIFO="/run/opensips/fifo""#);
        assert_eq!(fifo.as_deref(), Some(Path::new("/run/opensips/fifo")));
        assert_eq!(parse_line("# OSIPS_FIFO=/x"), None);
        assert_eq!(parse_line("DBENGINE=MYSQL"), None);
    }
}
