//! What a module wants the binary to open for it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use tandem_db::Backend;
use tandem_script::sig::{ParamKind, ParamSig};

use crate::module::{Build, BuildError, ParamValue};
use crate::table::{moot, param};

/// An outside connection of a node. The binary opens it and exchanges bytes with the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A named pipe for management commands.
    Fifo(FifoOptions),
    /// How files of `sqlite://` urls are opened.
    Sqlite(SqliteOptions),
    /// How databases on servers of one kind are used.
    SqlServer(SqlServerOptions),
    /// A listener for HTTP.
    Http(HttpOptions),
    /// A datagram socket for management commands.
    MiDatagram(MiDatagramOptions),
}

/// A listener for HTTP and the pages that modules hung on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// `None`: every address.
    pub ip: Option<IpAddr>,
    pub port: u16,
    /// Basic authentication that every page asks for.
    pub auth: Option<HttpAuth>,
    /// Longer bodies are answered with 413.
    pub body_bytes_max: usize,
    /// Longer answers are not sent: the request is answered with 500.
    pub answer_bytes_max: usize,
    /// Seconds after which a connection without a request is closed; 0: never.
    pub idle_s: u32,
    /// Certificate and key, for HTTPS; `None`: HTTP.
    pub tls: Option<HttpTls>,
    pub pages: Vec<HttpPage>,
}

/// What makes a listener one of HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Versions and ciphers as GnuTLS writes them; `None`: what is good today.
    pub ciphers: Option<String>,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAuth {
    pub realm: String,
    pub username: String,
    pub password: String,
}

/// A page and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPage {
    /// First part of the path, without slashes: `mi`.
    pub root: String,
    /// The module that hung it there.
    pub module: &'static str,
    pub serves: HttpServes,
}

/// Who answers a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpServes {
    /// Management commands in the bodies of POST requests.
    Mi { pretty: bool },
    /// [`crate::module::Module::http`] of the module in this slot.
    Module { slot: u16 },
}

/// A request for a page of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAsk {
    pub method: String,
    /// The whole path, with the page's root.
    pub path: String,
    /// What follows `?`; empty if nothing does.
    pub query: String,
    pub body: Bytes,
}

/// The answer to a request for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// A datagram socket for management commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiDatagramOptions {
    pub socket: MiSocket,
    /// The longest request and the longest answer.
    pub bytes_max: usize,
    /// How long an answer may wait for room in the client's socket.
    pub send_timeout_ms: u32,
    /// Indent answers.
    pub pretty: bool,
}

/// Where datagrams come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MiSocket {
    Udp(SocketAddr),
    Unix { path: PathBuf, mode: u32, user: Option<Owner>, group: Option<Owner> },
}

/// A named pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FifoOptions {
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    pub user: Option<Owner>,
    pub group: Option<Owner>,
    /// Where the pipes for answers are.
    pub reply_dir: PathBuf,
    /// Indent answers.
    pub pretty: bool,
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Id(u32),
    Name(String),
}

impl Owner {
    /// The last of the values of a parameter, which is a number or a name.
    pub fn of(values: &[ParamValue]) -> Option<Self> {
        values.last().map(|v| match v {
            ParamValue::Int(id) => Self::Id(id.unsigned_abs()),
            ParamValue::Str(name) => Self::Name(name.clone()),
        })
    }
}

/// The permissions that a parameter gives to a file.
///
/// # Errors
/// What is none.
pub fn permissions(from: &Build<'_>, name: &'static str) -> Result<u32, BuildError> {
    let mode = from.int(name).and_then(|m| u32::try_from(m).ok()).filter(|m| *m <= 0o777);
    mode.ok_or_else(|| BuildError::new(name, "permissions go from 0 to 0777"))
}

const NO_TRACING: &str = "there is no tracing of commands";
/// Parameters of every module that takes commands.
pub const TRACE_DESTINATION: ParamSig = moot("trace_destination", ParamKind::Str, NO_TRACING);
pub const TRACE_BWLIST: ParamSig = moot("trace_bwlist", ParamKind::Str, NO_TRACING);
pub const PRETTY_PRINTING: ParamSig =
    param("pretty_printing", ParamKind::Int, Some("0"), "Indents answers.");

/// Whether answers are indented.
pub fn pretty(from: &Build<'_>) -> bool {
    from.int("pretty_printing").unwrap_or(0) != 0
}

/// Options of every connection to servers of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlServerOptions {
    pub backend: Backend,
    /// How long a connect or a query may take.
    pub timeout_ms: u64,
    /// Attempts to connect before a query fails.
    pub connects_max: u32,
    /// Attempts at a query whose connection is lost.
    pub attempts_max: u32,
    /// A query that takes longer is logged; 0: none.
    pub slow_us: u64,
    /// Whether urls may ask for TLS.
    pub tls: bool,
}

/// Options of every SQLite connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    pub busy_timeout_ms: u32,
    /// Name and value.
    pub pragmas: Vec<(String, String)>,
    /// Libraries that every connection loads, with their entry point if that has no usual name.
    pub extensions: Vec<(String, Option<String>)>,
}
