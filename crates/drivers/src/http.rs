//! The HTTP listener: requests out of connections, answers back into them.
//!
//! What a page is and who answers it is not known here. Every limit is: connections, bytes of a
//! request, idle time, and how long an answer may take.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Where to listen, and the limits.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    pub addr: SocketAddr,
    /// Realm, user and password of Basic authentication (RFC 7617).
    pub auth: Option<(String, String, String)>,
    /// A longer body is answered with 413.
    pub body_bytes_max: usize,
    /// How long a connection may be without a request; zero: no limit.
    pub idle: Duration,
    /// How long a body may take to arrive, and the node to answer.
    pub patience: Duration,
    /// For a further connection the oldest one is closed that has no request being answered.
    pub connections_max: usize,
    /// Certificates and ciphers, for HTTPS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl HttpOptions {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            auth: None,
            body_bytes_max: 64 << 10,
            idle: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            connections_max: 256,
            tls: None,
        }
    }
}

/// A request. Dropping it without an answer answers 503.
#[derive(Debug)]
pub struct HttpRequest {
    pub method: String,
    pub path: String,
    /// What follows `?`.
    pub query: String,
    pub body: Bytes,
    pub reply: oneshot::Sender<HttpReply>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    pub status: u16,
    pub content_type: &'static str,
    /// For 405: the methods that would do.
    pub allow: Option<&'static str>,
    pub body: Bytes,
}

impl HttpReply {
    /// A line of text with a status.
    pub fn text(status: u16, text: &str) -> Self {
        let body = Bytes::from(format!("{text}\n"));
        Self { status, content_type: "text/plain", allow: None, body }
    }
}

/// An open listener. It ends when this is dropped; [`Http::close`] sends what is answered first.
#[derive(Debug)]
pub struct Http {
    local: SocketAddr,
    task: JoinHandle<()>,
    /// Dropped when the connections are to end.
    open: Option<watch::Sender<()>>,
    room: Arc<Semaphore>,
    connections_max: u32,
}

impl Http {
    /// Listens on this runtime. Requests come out of the receiver, which holds a few; a consumer
    /// that does not take them makes the clients wait.
    ///
    /// # Errors
    /// What the system says about the address.
    pub fn open(
        runtime: &Handle,
        options: HttpOptions,
    ) -> io::Result<(Self, mpsc::Receiver<HttpRequest>)> {
        let _inside = runtime.enter();
        let socket = std::net::TcpListener::bind(options.addr)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        let local = listener.local_addr()?;
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (open, ends) = watch::channel(());
        let connections_max = options.connections_max.min(CONNECTIONS_MAX);
        let room = Arc::new(Semaphore::new(connections_max));
        let site = Arc::new(Site::new(options, requests, ends));
        let task = runtime.spawn(accept(listener, Arc::clone(&room), site));
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        Ok((Self { local, task, open: Some(open), room, connections_max }, received))
    }

    /// Takes no more requests, and waits until the answers that were given are written, a second
    /// at most.
    pub async fn close(mut self) {
        self.task.abort();
        self.open = None;
        let all = self.room.acquire_many(self.connections_max);
        let _ = tokio::time::timeout(CLOSING, all).await;
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every connection shares.
struct Site {
    options: HttpOptions,
    /// The only value of the Authorization header that opens the door.
    key: Option<String>,
    requests: mpsc::Sender<HttpRequest>,
    /// Closed when the connections are to end.
    ends: watch::Receiver<()>,
    /// Connections that have no request being answered, by age.
    resting: Mutex<BTreeMap<u64, Arc<Notify>>>,
}

/// A connection: its place in the order, and what tells it to end.
#[derive(Clone)]
struct Visit {
    id: u64,
    ends: Arc<Notify>,
}

impl Site {
    fn new(
        options: HttpOptions,
        requests: mpsc::Sender<HttpRequest>,
        ends: watch::Receiver<()>,
    ) -> Self {
        let key = options.auth.as_ref().map(|(_, user, password)| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        Self { options, key, requests, ends, resting: Mutex::default() }
    }

    fn rests(&self, visit: &Visit) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.insert(visit.id, Arc::clone(&visit.ends));
    }

    fn works(&self, visit: &Visit) {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).remove(&visit.id);
    }

    /// Clients that hold connections and ask nothing must not keep out those who ask.
    fn make_room(&self) {
        let oldest = self.resting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        if let Some((_, ends)) = oldest {
            ends.notify_one();
        }
    }

    /// Whether a request may pass.
    fn admits(&self, request: &Request<Incoming>) -> bool {
        let Some(key) = &self.key else { return true };
        let given = request.headers().get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        // The name of the scheme may be in any case; the time taken says nothing of the key.
        let same_scheme = given.get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"Basic "));
        let (given, key) = (given.get(6..).unwrap_or_default(), key.as_bytes());
        let key = key.get(6..).unwrap_or_default();
        let differs = given.iter().zip(key).fold(0, |d, (a, b)| d | (a ^ b));
        same_scheme && given.len() == key.len() && differs == 0
    }

    async fn answer(&self, request: Request<Incoming>, visit: &Visit) -> HttpReply {
        let method = request.method().as_str().to_owned();
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let too_long = || {
            let max = self.options.body_bytes_max;
            HttpReply::text(413, &format!("the body is longer than {max} bytes (post_buf_size)"))
        };
        if request.body().size_hint().lower() > self.options.body_bytes_max as u64 {
            return too_long();
        }
        let body = Limited::new(request.into_body(), self.options.body_bytes_max);
        let body = match tokio::time::timeout(self.options.patience, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => return too_long(),
            Ok(Err(_)) => return HttpReply::text(400, "the body cannot be read"),
            Err(_) => return HttpReply::text(408, "the body took too long"),
        };
        let (reply, answered) = oneshot::channel();
        let ask = async {
            let request = HttpRequest { method, path, query, body, reply };
            self.requests.send(request).await.ok()?;
            answered.await.ok()
        };
        self.works(visit);
        let reply = tokio::time::timeout(self.options.patience, ask).await;
        self.rests(visit);
        match reply {
            Ok(Some(reply)) => reply,
            Ok(None) => HttpReply::text(503, "the node does not answer"),
            Err(_) => HttpReply::text(504, "the answer took too long"),
        }
    }

    async fn respond(&self, request: Request<Incoming>, visit: &Visit) -> Response<Full<Bytes>> {
        if !self.admits(&request) {
            let mut response = written(HttpReply::text(401, "authentication is required"));
            let realm = self.options.auth.as_ref().map_or("", |a| a.0.as_str());
            let challenge = format!("Basic realm=\"{}\"", realm.replace(['"', '\\'], ""));
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                response.headers_mut().insert(WWW_AUTHENTICATE, value);
            }
            return response;
        }
        written(self.answer(request, visit).await)
    }
}

fn written(reply: HttpReply) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_body = status != StatusCode::NO_CONTENT;
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = status;
    if has_body {
        let kind = HeaderValue::from_static(reply.content_type);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    if let Some(methods) = reply.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}

async fn accept(listener: TcpListener, room: Arc<Semaphore>, site: Arc<Site>) {
    for id in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a peer that gave up: neither ends the listener.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if room.available_permits() == 0 {
            site.make_room();
        }
        // Where all of them are being answered, the client waits for a moment.
        let permit = tokio::time::timeout(ROOM_WAIT, room.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { continue };
        let visit = Visit { id, ends: Arc::default() };
        site.rests(&visit);
        drop(tokio::spawn(serve(stream, site.clone(), visit, permit)));
    }
}

async fn serve(stream: TcpStream, site: Arc<Site>, visit: Visit, _permit: OwnedSemaphorePermit) {
    let ends = Arc::clone(&visit.ends);
    tokio::select! {
        () = visited(stream, site.clone(), visit.clone()) => {}
        () = ends.notified() => {}
    }
    site.works(&visit);
}

async fn visited(stream: TcpStream, site: Arc<Site>, visit: Visit) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = site.options.tls.clone() else { return talk(stream, site, visit).await };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await {
        talk(stream, site, visit).await;
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, site: Arc<Site>, visit: Visit) {
    let idle = Some(site.options.idle).filter(|idle| !idle.is_zero());
    let mut ends = site.ends.clone();
    let service = service_fn(|request| {
        let (site, visit) = (site.clone(), visit.clone());
        async move { Ok::<_, Infallible>(site.respond(request, &visit).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // A connection that breaks off concerns its client alone.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ends.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Requests that may wait for the node.
const REQUESTS_MAX: usize = 64;
/// Bytes of the request line and the headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Above any number of connections that a host has descriptors for.
const CONNECTIONS_MAX: usize = 1 << 20;
/// How long the end waits for answers to be written.
const CLOSING: Duration = Duration::from_secs(1);
/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client waits for its place.
const ROOM_WAIT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
