//! Child processes that end with the test.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{breathe, now, wait_until};

/// A running program whose output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a program ended.
pub type Ended = ExitStatus;

impl Process {
    /// Starts `program` in `dir`; its output is appended to `log`. It is killed when the thread
    /// that called this ends, whatever happens to the test.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, program: &Path, args: &[&str], dir: &Path, log: &Path) -> Self {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap_or_else(|e| panic!("cannot open {}: {e}", log.display()))
        };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .current_dir(dir)
            .env_remove("TANDEM_FIFO")
            .env_remove("OSIPS_FIFO")
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of /proc/PID/status without its name, e.g. `VmRSS` or `Uid`; empty if it has ended.
    #[must_use]
    pub fn proc_status(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        lines.unwrap_or_default().trim().to_owned()
    }

    /// Resident memory in MB.
    #[must_use]
    pub fn memory_mb(&self) -> u64 {
        let kb = self.proc_status("VmRSS");
        kb.split(' ').next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal; one to a process that has ended goes nowhere. After SIGSTOP all its threads
    /// stand still.
    pub fn signal(&mut self, signal: Signal) {
        // Reaped children keep no id that could meanwhile belong to a stranger.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), signal);
            if signal == Signal::STOP {
                wait_until("a stopped process stands still", Duration::from_secs(10), || {
                    stands_still(self.pid())
                });
            }
        }
    }

    /// Sends a signal to it and to every process that it or one of those has started: PostgreSQL
    /// has one for each connection.
    pub fn signal_all(&mut self, signal: Signal) {
        self.signal(signal);
        let mut of: Vec<u32> = vec![self.pid()];
        while let Some(parent) = of.pop() {
            for child in children(parent) {
                signal_to(child, signal);
                of.push(child);
            }
        }
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<Ended> {
        self.child.try_wait().unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Ended {
        let deadline = now() + patience;
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            assert!(now() < deadline, "{} still runs after {patience:?}", self.name);
            breathe();
        }
    }

    /// Ends it without a chance to say goodbye, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until its output contains `text`.
    ///
    /// # Panics
    /// If it ends before, or `patience` runs out.
    pub fn wait_for_output(&mut self, text: &str, patience: Duration) {
        self.wait_for_output_after(0, text, patience);
    }

    /// Waits until its output contains `text` behind its first `skip` bytes, which an earlier
    /// life wrote.
    ///
    /// # Panics
    /// As [`Process::wait_for_output`].
    pub fn wait_for_output_after(&mut self, skip: usize, text: &str, patience: Duration) {
        let name = self.name.clone();
        wait_until(&format!("{name} prints {text:?}"), patience, || {
            if self.output().get(skip..).is_some_and(|output| output.contains(text)) {
                return true;
            }
            if let Some(ended) = self.ended() {
                let last = self.output();
                let signal = ended.signal();
                assert!(last.contains(text), "{name} ended ({ended}, {signal:?}):\n{last}");
            }
            false
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the last lines of {}\n{}", self.name, tail(&self.output(), 60));
        }
    }
}

/// The last `lines` lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Whether a process with this id runs (a zombie does not).
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything; the state follows the last one.
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The processes that one has started.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:"));
        line.and_then(|l| l.trim().parse::<u32>().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}

/// Whether every thread of a process is stopped, or on its way out.
fn stands_still(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let state = |stat: String| stat.rsplit(')').next()?.trim_start().chars().next();
    stats.filter_map(state).all(|state| matches!(state, 'T' | 'Z' | 'X'))
}

/// Sends a signal to a process that the test knows by its id only (a child of its child).
pub fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
