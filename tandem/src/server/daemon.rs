//! The process: going into the background, and the files that say who it is.
//!
//! A node is not forked: the command starts itself again as a child of a session of its own, and
//! ends with status 0 when the child says that it serves. So nothing is inherited by accident,
//! and start scripts see what they expect: the command returns when the service is up, and fails
//! when it is not.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Resource, getrlimit, setrlimit};
use tandem_engine::node::Node;

/// Set for the child: it reports on its standard output.
const IN_BACKGROUND: &str = "TANDEM_IN_BACKGROUND";
/// What the child says when it serves.
const SERVING: &[u8] = b"serving\n";

/// Whether this process is the one in the background.
pub(super) fn is_child() -> bool {
    std::env::var_os(IN_BACKGROUND).is_some()
}

/// Starts this program again in the background and waits until it serves.
pub(super) fn start_in_background() -> ExitCode {
    match spawn() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("tandem: cannot go into the background: {e}");
            ExitCode::FAILURE
        }
    }
}

fn spawn() -> std::io::Result<ExitCode> {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "tandem".into());
    let mut child = Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(args)
        .env(IN_BACKGROUND, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        // The pipe ends when the child serves, or when it has failed.
        stdout.take(64).read_to_end(&mut said)?;
    }
    if said == SERVING {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child.wait()?.code().and_then(|c| u8::try_from(c).ok());
    Ok(code.filter(|c| *c != 0).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Leaves the terminal; the child's first act.
///
/// # Errors
/// What the system says.
pub(super) fn leave_terminal() -> Result<(), String> {
    rustix::process::setsid().map(|_| ()).map_err(|e| format!("tandem: no session: {e}"))
}

/// Tells the parent that the node serves, and lets go of the standard streams; standard error
/// stays if log lines go there.
pub(super) fn report_serving(keeps_stderr: bool) {
    let _ = std::io::stdout().write_all(SERVING);
    let _ = std::io::stdout().flush();
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        if !keeps_stderr {
            let _ = rustix::stdio::dup2_stderr(&null);
        }
    }
}

/// Lets the process open as many files as the system allows it, where the script names no limit
/// (`open_files_limit`): each connection is one.
pub(super) fn allow_open_files(node: &Node) {
    if node.program.global("open_files_limit").is_some() {
        return;
    }
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // What is not allowed stays as the operator of the machine set it.
    let _ = setrlimit(Resource::Nofile, files);
}

/// Tells a service manager that waits for it (`Type=notify`).
pub(super) fn notify_manager() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", Path::new(&path));
    }
}

/// A file with the number of this process or of its group; removed with this value.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// A process that is named in it and still runs, or what the system refuses.
    pub(super) fn write(path: &Path, number: u32) -> Result<Self, String> {
        let shown = path.display();
        if let Some(other) = running(path).filter(|pid| *pid != number) {
            return Err(format!("tandem: {shown} names the running process {other}"));
        }
        std::fs::write(path, format!("{number}\n"))
            .map_err(|e| format!("tandem: cannot write {shown}: {e}"))?;
        // Relative to a folder that may not be the working folder any more.
        Ok(Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may be in a folder that this user cannot write to; the next start replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The process that a file names, if it runs.
fn running(path: &Path) -> Option<u32> {
    let number: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let pid = Pid::from_raw(number)?;
    match rustix::process::test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => None,
        _ => u32::try_from(number).ok(),
    }
}

/// The group of this process.
pub(super) fn process_group() -> u32 {
    u32::try_from(rustix::process::getpgrp().as_raw_nonzero().get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_written_kept_from_others_and_removed() {
        let path = std::env::temp_dir().join(format!("tandem-pid-{}", std::process::id()));
        std::fs::write(&path, "2147483646\n").unwrap();
        let file = PidFile::write(&path, std::process::id()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        let taken = PidFile::write(&path, 1).err().unwrap();
        assert!(taken.contains("names the running process"), "{taken}");
        drop(file);
        assert!(!path.exists());
    }
}
