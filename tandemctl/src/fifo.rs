//! The FIFO transport, client side (mi_fifo): one line `:REPLY:JSON` in, the answer through a
//! FIFO that this side made.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Sends a request and waits for its answer.
pub(crate) fn exchange(
    fifo: &Path,
    reply_dir: &Path,
    request: &str,
    timeout: Duration,
) -> Result<Vec<u8>, String> {
    let reply = ReplyFifo::create(reply_dir)?;
    send(fifo, &format!(":{}:{request}\n", reply.name))?;
    reply.read(timeout)
}

fn send(path: &Path, line: &str) -> Result<(), String> {
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|e| {
        format!("no FIFO at {shown} ({e}); is the node running, and is this its fifo_name?")
    })?;
    if !meta.file_type().is_fifo() {
        return Err(format!("{shown} is not a FIFO"));
    }
    // Without a reader the open fails at once instead of waiting for a node that is gone.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut fifo = OpenOptions::new().write(true).custom_flags(flags).open(path).map_err(|e| {
        if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
            format!("nobody reads {shown}: the node that made it is not running")
        } else {
            format!("cannot open {shown}: {e}")
        }
    })?;
    fifo.write_all(line.as_bytes()).map_err(|e| format!("cannot write to {shown}: {e}"))
}

/// The FIFO for one answer; it goes away with this value.
struct ReplyFifo {
    name: String,
    path: PathBuf,
    file: File,
}

impl ReplyFifo {
    fn create(dir: &Path) -> Result<Self, String> {
        let name = format!("tandemctl_reply_{}", std::process::id());
        let path = dir.join(&name);
        let _ = std::fs::remove_file(&path);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode)
            .map_err(|e| format!("cannot make the reply FIFO {}: {e}", path.display()))?;
        // Open for reading before asking, so that the node finds a reader.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
            .map_err(|e| format!("cannot open the reply FIFO {}: {e}", path.display()))?;
        // A node under another user must be able to write, whatever the umask says.
        let _ = rustix::fs::fchmod(&file, mode);
        Ok(Self { name, path, file })
    }

    fn read(&self, timeout: Duration) -> Result<Vec<u8>, String> {
        let timeout_text = format!("no answer within {} s", timeout.as_secs_f64());
        let wait =
            Timespec::try_from(timeout).map_err(|_| "the timeout is too long".to_string())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 65_536];
        loop {
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut fds, Some(&wait)) {
                Ok(0) => return Err(timeout_text),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(format!("cannot wait for the answer: {e}")),
            }
            match (&self.file).read(&mut chunk) {
                Ok(0) if answer.is_empty() => {
                    return Err("the node closed without an answer".into());
                }
                Ok(0) => return Ok(answer),
                Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(format!("cannot read the answer: {e}")),
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err("the answer is longer than 1 GiB".into());
            }
        }
    }
}

impl Drop for ReplyFifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
