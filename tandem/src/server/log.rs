//! Where log lines go: standard error (time, level, text), syslog, or both.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tandem_clock::Now;
use tandem_engine::date::iso;
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_script::program::Setting;

use super::log_format::Format;

/// The sink of this process; before it is set, lines go to standard error.
static SINK: OnceLock<Sink> = OnceLock::new();

/// The socket of the host's syslog.
const DEV_LOG: &str = "/dev/log";

/// Names of facilities with their numbers (RFC 5424 6.2.1).
const FACILITIES: &[(&str, u8)] = &[
    ("LOG_KERN", 0),
    ("LOG_USER", 1),
    ("LOG_MAIL", 2),
    ("LOG_DAEMON", 3),
    ("LOG_AUTH", 4),
    ("LOG_SYSLOG", 5),
    ("LOG_LPR", 6),
    ("LOG_NEWS", 7),
    ("LOG_UUCP", 8),
    ("LOG_CRON", 9),
    ("LOG_AUTHPRIV", 10),
    ("LOG_FTP", 11),
    ("LOG_LOCAL0", 16),
    ("LOG_LOCAL1", 17),
    ("LOG_LOCAL2", 18),
    ("LOG_LOCAL3", 19),
    ("LOG_LOCAL4", 20),
    ("LOG_LOCAL5", 21),
    ("LOG_LOCAL6", 22),
    ("LOG_LOCAL7", 23),
];

struct Sink {
    node: Arc<Node>,
    /// `-E`.
    always_stderr: bool,
    syslog: Option<Syslog>,
}

/// Sets the sink from the globals of the script; `always_stderr` is `-E`.
///
/// # Errors
/// A facility that does not exist.
pub(super) fn open(node: &Arc<Node>, always_stderr: bool) -> Result<(), String> {
    let stderr = always_stderr || node.writes_stderr();
    let wanted = match node.program.global("syslog_enabled") {
        Some(Setting::Int(n)) => *n != 0,
        // Who turned standard error off and said nothing else wants syslog: until 3.3 those two
        // were one switch (`log_stderror=no`).
        _ => !stderr,
    };
    let syslog = if wanted { Some(Syslog::of(node)?) } else { None };
    // A process runs one node; a second call changes nothing.
    let _ = SINK.set(Sink { node: Arc::clone(node), always_stderr, syslog });
    Ok(())
}

/// Whether lines go to standard error.
pub(super) fn to_stderr() -> bool {
    SINK.get().is_none_or(|sink| sink.always_stderr || sink.node.writes_stderr())
}

/// Writes one line.
pub(super) fn line(now: Now, level: Level, text: &str) {
    let mut lines = Lines::default();
    lines.add(now, level, text);
    lines.write();
}

/// Lines of one turn on their way to standard error, together in one system call: a call record
/// each would cost as much as the rest of what is done for it outside of the workers.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stderr: String,
}

impl Lines {
    /// Bytes that are written without waiting for more.
    const MAX: usize = 16 * 1024;

    /// Adds a line; to syslog it goes at once.
    pub(super) fn add(&mut self, now: Now, level: Level, text: &str) {
        let Some(sink) = SINK.get() else { return self.add_stderr(now, level, text) };
        let prefixed = format!("{}{text}", sink.node.log_prefix());
        let text = &prefixed;
        let syslog = sink.syslog.as_ref().filter(|_| sink.node.log_outputs().syslog.takes(level));
        let lost = syslog.is_some_and(|syslog| syslog.send(level, text).is_err());
        // Nobody reads syslog here (a container): better on standard error than nowhere.
        if sink.always_stderr || sink.node.writes_stderr_at(level) || lost {
            self.add_stderr(now, level, text);
        }
    }

    fn add_stderr(&mut self, now: Now, level: Level, text: &str) {
        let time = iso(now.unix_s());
        let plain = format!("{time} {:7} {text}", level.name());
        self.stderr.push_str(&Format::of_stderr().line(&time, level, text, plain));
        self.stderr.push('\n');
        if self.stderr.len() >= Self::MAX {
            self.write();
        }
    }

    /// Writes what was added.
    pub(super) fn write(&mut self) {
        if !self.stderr.is_empty() {
            // Nobody can be told that standard error is gone.
            let _ = std::io::stderr().lock().write_all(self.stderr.as_bytes());
            self.stderr.clear();
        }
    }
}

/// A client of the host's syslog (RFC 3164 as the C library writes it, without the time, which
/// the receiver knows better).
struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: u8,
    ident: String,
    format: Format,
}

impl Syslog {
    fn of(node: &Node) -> Result<Self, String> {
        let text = |name: &str| match node.program.global(name) {
            Some(Setting::Str(text)) => Some(text.clone()),
            _ => None,
        };
        let facility = text("syslog_facility").map_or(Ok(3), |name| facility(&name))?;
        let own = || {
            let path = std::env::args_os().next().unwrap_or_default();
            let name = Path::new(&path).file_name().map(|n| n.to_string_lossy().into_owned());
            name.unwrap_or_else(|| "tandem".into())
        };
        let ident = text("syslog_name").unwrap_or_else(own);
        let format = Format::of(node, "syslog_log_format")?;
        Ok(Self { format, ..Self::new(Path::new(DEV_LOG), facility, &ident)? })
    }

    fn new(path: &Path, facility: u8, ident: &str) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("tandem: no socket for syslog: {e}");
        let socket = UnixDatagram::unbound().map_err(cannot)?;
        // A syslog that hangs costs its own lines, not the service.
        socket.set_nonblocking(true).map_err(cannot)?;
        let ident = format!("{ident}[{}]", std::process::id());
        let format = Format::Text;
        Ok(Self { socket, path: path.to_owned(), facility, ident, format })
    }

    fn send(&self, level: Level, text: &str) -> std::io::Result<()> {
        let severity = match level {
            Level::Alert => 1,
            Level::Critical => 2,
            Level::Error => 3,
            Level::Warning => 4,
            Level::Notice => 5,
            Level::Info => 6,
            Level::Debug => 7,
        };
        let priority = self.facility * 8 + severity;
        let plain = format!("{}: {text}", level.name());
        // The receiver adds the time.
        let message = self.format.line("", level, text, plain);
        let line = format!("<{priority}>{}: {message}", self.ident);
        match self.socket.send_to(line.as_bytes(), &self.path) {
            // The reader is behind; standard error would only be behind as well.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn facility(name: &str) -> Result<u8, String> {
    let found = FACILITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, number)| *number).ok_or_else(|| {
        let near = tandem_script::nearest(name, FACILITIES.iter().map(|f| f.0));
        let hint = near.map(|n| format!(", did you mean {n}?")).unwrap_or_default();
        format!("tandem: syslog_facility: unknown facility `{name}`{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reaches_syslog_with_priority_name_and_process() {
        let path = std::env::temp_dir().join(format!("tandem-syslog-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let syslog = Syslog::new(&path, 16, "sip").unwrap();
        assert!(syslog.send(Level::Error, "nobody listens").is_err());
        let receiver = UnixDatagram::bind(&path).unwrap();
        syslog.send(Level::Warning, "hello").unwrap();
        let mut buffer = [0; 200];
        let len = receiver.recv(&mut buffer).unwrap();
        let expected = format!("<132>sip[{}]: WARNING: hello", std::process::id());
        assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), expected);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn facilities_have_names_and_a_wrong_one_a_neighbour() {
        assert_eq!(facility("LOG_LOCAL0"), Ok(16));
        assert!(facility("LOG_LOCAL9").unwrap_err().contains("did you mean LOG_LOCAL"));
    }
}
