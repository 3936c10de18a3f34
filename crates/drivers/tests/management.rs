//! Management over HTTP and datagrams, with real sockets.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use tandem_drivers::http::{Http, HttpOptions, HttpReply};
use tandem_drivers::mi_datagram::{DatagramOptions, MiDatagram, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::runtime::Handle;

/// Sends a request and gives the whole answer of a connection that is then closed.
async fn exchange(http: &Http, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(http.local_addr()).await.expect("connect");
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

/// A listener that answers every request with its own path and body.
fn echo(change: impl FnOnce(&mut HttpOptions)) -> Http {
    let mut options = HttpOptions::new("127.0.0.1:0".parse().expect("address"));
    change(&mut options);
    let (http, mut requests) = Http::open(&Handle::current(), options).expect("listener");
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let body = [request.path.as_bytes(), b"?", request.query.as_bytes(), &request.body];
            let body = Bytes::from(body.concat());
            let reply = HttpReply { status: 200, content_type: "a/b", allow: None, body };
            request.reply.send(reply).expect("somebody waits");
        }
    });
    http
}

#[tokio::test]
async fn requests_are_answered_and_long_ones_refused() {
    let http = echo(|o| o.body_bytes_max = 10);
    let answer = exchange(&http, "POST /mi?x", "0123456789").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: a/b\r\n") && answer.ends_with("/mi?x0123456789"));
    let answer = exchange(&http, "POST /mi", "0123456789x").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let long = "x".repeat(64 << 10);
    let answer = exchange(&http, &format!("GET /{long}"), "").await;
    assert!(answer.starts_with("HTTP/1.1 4") || answer.is_empty(), "{answer}");
    assert!(exchange(&http, "GET /mi", "").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_listener_with_a_password_opens_to_nothing_else() {
    let auth = ("r".to_owned(), "user".to_owned(), "secret".to_owned());
    let http = echo(|o| o.auth = Some(auth));
    let asked = exchange(&http, "POST /mi", "{}").await;
    assert!(asked.starts_with("HTTP/1.1 401 "), "{asked}");
    assert!(asked.contains("www-authenticate: Basic realm=\"r\"\r\n"), "{asked}");
    let with = |key: &str| format!("POST /mi HTTP/1.1\r\nAuthorization: {key}\r\nX: x");
    // "user:secret" and "user:secreT".
    for (key, status) in [
        ("Basic dXNlcjpzZWNyZXQ=", "200"),
        ("basic dXNlcjpzZWNyZXQ=", "200"),
        ("Basic dXNlcjpzZWNyZVQ=", "401"),
        ("Basic", "401"),
        ("Digest dXNlcjpzZWNyZXQ=", "401"),
    ] {
        // The header is smuggled in front of the closing line of the request line.
        let head = with(key);
        let (line, header) = head.split_once(" HTTP/1.1\r\n").expect("two parts");
        let mut stream = TcpStream::connect(http.local_addr()).await.expect("connect");
        let text = format!("{line} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{key}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let http = echo(|o| o.idle = Duration::from_millis(50));
    let mut stream = TcpStream::connect(http.local_addr()).await.expect("connect");
    stream.write_all(b"POST /mi HT").await.expect("write");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
}

/// One answer, and the end at once behind it.
#[tokio::test]
async fn the_last_answer_is_written_before_the_end() {
    let options = HttpOptions::new("127.0.0.1:0".parse().expect("address"));
    let (http, mut requests) = Http::open(&Handle::current(), options).expect("listener");
    let mut idle = TcpStream::connect(http.local_addr()).await.expect("connect");
    let mut stream = TcpStream::connect(http.local_addr()).await.expect("connect");
    let request = "POST /mi HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("write");
    let asked = requests.recv().await.expect("request");
    drop(requests);
    let body = Bytes::from("bye".repeat(1000));
    let reply = HttpReply { status: 200, content_type: "a/b", allow: None, body };
    asked.reply.send(reply).expect("somebody waits");
    http.close().await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("byebye"), "{answer}");
    assert_eq!(idle.read_to_string(&mut answer).await.expect("read"), 0);

    let probe = UdpSocket::bind("127.0.0.1:0").await.expect("client");
    let at = probe.local_addr().expect("address");
    drop(probe);
    let (socket, mut requests) =
        MiDatagram::open(&Handle::current(), datagrams(Place::Udp(at))).expect("socket");
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("client");
    client.send_to(b"ask", at).await.expect("send");
    let request = requests.recv().await.expect("request");
    assert!(socket.reply(request.from.expect("a sender"), request.body));
    socket.close().await;
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).await.expect("answer"), 3);
}

#[tokio::test]
async fn clients_that_only_hold_connections_do_not_keep_out_those_who_ask() {
    let http = echo(|o| o.connections_max = 4);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(http.local_addr()).await.expect("connect");
        stream.write_all(b"POST /mi HTTP/1.1\r\nContent-Le").await.expect("write");
        silent.push(stream);
    }
    let answer = exchange(&http, "POST /mi?x", "0123456789").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let mut oldest = silent.remove(0);
    let mut rest = Vec::new();
    let _ = oldest.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "it was closed");
}

fn datagrams(place: Place) -> DatagramOptions {
    DatagramOptions { place, bytes_max: 100, send_timeout: Duration::from_secs(1) }
}

#[tokio::test]
async fn a_datagram_is_answered_to_its_sender() {
    let dir = std::env::temp_dir().join(format!("tandem-datagram-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("folder");
    let path = dir.join("mi");
    let place = Place::Unix { path: path.clone(), mode: 0o600, user: None, group: None };
    // What an earlier run left is replaced; a file of somebody is not.
    drop(std::os::unix::net::UnixDatagram::bind(&path).expect("left over"));
    let (socket, mut requests) =
        MiDatagram::open(&Handle::current(), datagrams(place.clone())).expect("socket");
    let mode = std::fs::metadata(&path).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = UnixDatagram::bind(dir.join("client")).expect("client");
    client.send_to(b"ask", &path).await.expect("send");
    let request = requests.recv().await.expect("request");
    assert_eq!(&request.body[..], b"ask");
    let from = request.from.expect("a name");
    assert!(!socket.reply(from.clone(), Bytes::from(vec![0; 101])));
    assert!(socket.reply(from, Bytes::from_static(b"told")));
    let mut buffer = [0; 16];
    let len = client.recv(&mut buffer).await.expect("answer");
    assert_eq!(&buffer[..len], b"told");
    drop(socket);
    assert!(!path.exists());
    std::fs::write(&path, "mine").expect("file");
    let error = MiDatagram::open(&Handle::current(), datagrams(place)).expect_err("a file");
    assert!(error.to_string().contains("is no socket"), "{error}");
    std::fs::remove_dir_all(dir).expect("clean up");
}

#[tokio::test]
async fn udp_serves_as_well() {
    let probe = UdpSocket::bind("127.0.0.1:0").await.expect("client");
    let at = probe.local_addr().expect("address");
    drop(probe);
    let (socket, mut requests) =
        MiDatagram::open(&Handle::current(), datagrams(Place::Udp(at))).expect("socket");
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("client");
    client.send_to(b"ask", at).await.expect("send");
    let request = requests.recv().await.expect("request");
    assert!(socket.reply(request.from.expect("a sender"), request.body));
    let mut buffer = [0; 16];
    let len = client.recv(&mut buffer).await.expect("answer");
    assert_eq!(&buffer[..len], b"ask");
}
