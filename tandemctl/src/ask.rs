//! A command to a node and its answer, whatever is between them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::config::{Target, Way};
use crate::fifo;

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// The longest answer over HTTP.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Sends a command and gives the whole JSON-RPC answer.
pub(crate) fn ask(target: &Target, method: &str, params: Json) -> Result<Json, String> {
    let mut request = json!({"jsonrpc": "2.0", "id": std::process::id(), "method": method});
    if !params.is_null() {
        request["params"] = params;
    }
    let text = request.to_string();
    let answer = match &target.way {
        Way::Fifo(path) => fifo::exchange(path, &target.reply_dir, &text, target.timeout),
        Way::Http { host, path, auth } => http(host, path, auth.as_deref(), &text, target.timeout),
        Way::Udp(address) => udp(address, &text, target.timeout),
        Way::Unix(path) => unix(path, &target.reply_dir, &text, target.timeout),
    }?;
    serde_json::from_slice(&answer).map_err(|e| format!("the node's answer is not JSON: {e}"))
}

#[expect(clippy::disallowed_methods, reason = "a command line owns its sockets")]
fn http(
    host: &str,
    path: &str,
    auth: Option<&str>,
    body: &str,
    timeout: Duration,
) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot ask http://{host}{path}: {e}");
    let mut stream = TcpStream::connect(resolved(host, 80)?).map_err(cannot)?;
    stream.set_read_timeout(Some(timeout)).map_err(cannot)?;
    let auth = auth.map(|a| format!("Authorization: Basic {}\r\n", STANDARD.encode(a)));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        auth.unwrap_or_default(),
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(cannot)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(cannot)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    let (head, body) = answer.split_at(end);
    let status = String::from_utf8_lossy(head);
    let status = status.lines().next().unwrap_or("no answer").to_owned();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(body.to_vec());
    }
    let reason = String::from_utf8_lossy(body).trim().to_owned();
    Err(format!("http://{host}{path}: {status}: {reason}"))
}

fn resolved(host: &str, default_port: u16) -> Result<SocketAddr, String> {
    let with_port = |text: &str| text.to_socket_addrs().ok().and_then(|mut all| all.next());
    with_port(host)
        .or_else(|| with_port(&format!("{host}:{default_port}")))
        .ok_or_else(|| format!("{host} is no host and port"))
}

#[expect(clippy::disallowed_methods, reason = "a command line owns its sockets")]
fn udp(address: &str, text: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot ask udp:{address}: {e}");
    let to = resolved(address, 8080)?;
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).map_err(cannot)?;
    socket.set_read_timeout(Some(timeout)).map_err(cannot)?;
    // Connected, so that nobody else answers.
    socket.connect(to).map_err(cannot)?;
    socket.send(text.as_bytes()).map_err(cannot)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let len = socket.recv(&mut buffer).map_err(cannot)?;
    buffer.truncate(len);
    Ok(buffer)
}

fn unix(path: &Path, dir: &Path, text: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot ask unix:{}: {e}", path.display());
    let own = Named(dir.join(format!("tandemctl_socket_{}", std::process::id())));
    let _ = std::fs::remove_file(&own.0);
    let socket = UnixDatagram::bind(&own.0).map_err(cannot)?;
    // A node under another user must be able to answer, whatever the umask says.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let _ = std::fs::set_permissions(&own.0, everybody);
    socket.set_read_timeout(Some(timeout)).map_err(cannot)?;
    socket.send_to(text.as_bytes(), path).map_err(cannot)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let len = socket.recv(&mut buffer).map_err(cannot)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A file that goes away with this value.
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
