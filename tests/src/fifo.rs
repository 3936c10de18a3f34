//! The management FIFO byte by byte, without the project's own client.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value as Json, json};

use crate::{PATIENCE, breathe, now};

/// Sends a command and gives back the whole answer.
///
/// # Panics
/// If no JSON comes back.
#[must_use]
pub fn mi(fifo: &Path, method: &str, params: Json) -> Json {
    let mut request = json!({"jsonrpc": "2.0", "id": 7, "method": method});
    if !params.is_null() {
        request["params"] = params;
    }
    let answer = exchange(fifo, &request.to_string(), PATIENCE);
    let answer = answer.unwrap_or_else(|| panic!("{method}: no answer from {}", fifo.display()));
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
}

/// Writes `:REPLY:` and the text, and gives back what comes through REPLY until it is closed;
/// `None` if nothing has come after `patience`.
///
/// # Panics
/// If the FIFO cannot be written or a reply FIFO cannot be made.
#[must_use]
pub fn exchange(fifo: &Path, text: &str, patience: Duration) -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tandem_e2e_reply_{}_{n}", std::process::id());
    let path = Path::new("/tmp").join(&name);
    let _ = std::fs::remove_file(&path);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // The server may have become somebody else, and the umask does not count here.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, all).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let answer = ask(fifo, &path, &format!(":{name}:{text}\n"), patience);
    let _ = std::fs::remove_file(&path);
    answer
}

fn ask(fifo: &Path, reply: &Path, line: &str, patience: Duration) -> Option<String> {
    let open = |path: &Path, options: &mut OpenOptions| -> File {
        let opened = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
        opened.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let mut reply = open(reply, OpenOptions::new().read(true));
    let mut request = open(fifo, OpenOptions::new().write(true));
    request.write_all(line.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", fifo.display()));
    let deadline = now() + patience;
    let mut answer = Vec::new();
    let mut chunk = [0; 65_536];
    while now() < deadline {
        match reply.read(&mut chunk) {
            // No writer yet, or the writer has closed.
            Ok(0) if answer.is_empty() => breathe(),
            Ok(0) => return Some(String::from_utf8_lossy(&answer).into_owned()),
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(_) => breathe(),
        }
    }
    None
}
