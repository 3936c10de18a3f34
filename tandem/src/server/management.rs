//! The ways to a node's management commands: FIFO, datagrams, HTTP. And the pages of modules,
//! which come in through the same listener.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tandem_drivers::fifo::{Fifo, FifoOptions, FifoReply, FifoRequest};
use tandem_drivers::http::{Http, HttpOptions, HttpReply, HttpRequest};
use tandem_drivers::mi_datagram::{self, DatagramOptions, DatagramRequest, MiDatagram, Place};
use tandem_drivers::privileges::Identity;
use tandem_engine::effect::Input;
use tandem_engine::endpoint::{self, Endpoint, HttpAnswer, HttpAsk, HttpServes, MiSocket, Owner};
use tandem_engine::mi::{PARSE_ERROR, RpcError, parse_request, reply_error};
use tokio::sync::{mpsc, oneshot};

/// Askers that may wait for their answers; the oldest one is forgotten for a newer.
const ASKING_MAX: usize = 4_096;

/// Everything that management commands come in through.
pub(super) struct Management {
    fifo: Option<(Fifo, bool)>,
    datagram: Option<(MiDatagram, bool)>,
    http: Option<(Http, endpoint::HttpOptions)>,
    from_fifo: Option<mpsc::Receiver<FifoRequest>>,
    from_datagram: Option<mpsc::Receiver<DatagramRequest>>,
    from_http: Option<mpsc::Receiver<HttpRequest>>,
    /// Who waits for the answer to a request.
    asking: BTreeMap<u64, Asker>,
    requests: u64,
}

enum Asker {
    Fifo(String),
    Datagram(mi_datagram::Asker),
    Http { reply: oneshot::Sender<HttpReply>, pretty: bool },
}

/// What came in.
pub(super) enum Asked {
    Fifo(FifoRequest),
    Datagram(DatagramRequest),
    Http(HttpRequest),
}

impl Management {
    /// Opens what the modules declared. Files belong to `identity` unless a module says otherwise.
    pub(super) fn open(endpoints: &[Endpoint], identity: &Identity) -> Result<Self, String> {
        let mut all = Self {
            fifo: None,
            datagram: None,
            http: None,
            from_fifo: None,
            from_datagram: None,
            from_http: None,
            asking: BTreeMap::new(),
            requests: 0,
        };
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Fifo(options) => all.open_fifo(options.clone(), identity)?,
                Endpoint::MiDatagram(options) => all.open_datagram(options.clone(), identity)?,
                Endpoint::Http(options) => all.open_http(options.clone())?,
                _ => {}
            }
        }
        Ok(all)
    }

    fn open_fifo(
        &mut self,
        options: endpoint::FifoOptions,
        identity: &Identity,
    ) -> Result<(), String> {
        let open = FifoOptions {
            path: options.path,
            mode: options.mode,
            user: owner(options.user, identity.uid),
            group: owner(options.group, identity.gid),
            reply_dir: options.reply_dir,
            ..FifoOptions::default()
        };
        let (fifo, requests) = Fifo::open(&tokio::runtime::Handle::current(), open)
            .map_err(|e| format!("tandem: mi_fifo: {e}"))?;
        self.fifo = Some((fifo, options.pretty));
        self.from_fifo = Some(requests);
        Ok(())
    }

    fn open_datagram(
        &mut self,
        options: endpoint::MiDatagramOptions,
        identity: &Identity,
    ) -> Result<(), String> {
        let open = DatagramOptions {
            place: match options.socket {
                MiSocket::Udp(addr) => Place::Udp(addr),
                MiSocket::Unix { path, mode, user, group } => Place::Unix {
                    path,
                    mode,
                    user: owner(user, identity.uid),
                    group: owner(group, identity.gid),
                },
            },
            bytes_max: options.bytes_max,
            send_timeout: Duration::from_millis(u64::from(options.send_timeout_ms)),
        };
        let (socket, requests) = MiDatagram::open(&tokio::runtime::Handle::current(), open)
            .map_err(|e| format!("tandem: mi_datagram: {e}"))?;
        self.datagram = Some((socket, options.pretty));
        self.from_datagram = Some(requests);
        Ok(())
    }

    fn open_http(&mut self, options: endpoint::HttpOptions) -> Result<(), String> {
        let ip = options.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let auth = options.auth.clone();
        let tls = options.tls.as_ref().map(|tls| {
            tandem_drivers::tls::server_config(
                &tls.cert_file,
                &tls.key_file,
                tls.ciphers.as_deref(),
            )
        });
        let tls = tls.transpose().map_err(|e| format!("tandem: httpd: {e}"))?;
        let mut open = HttpOptions {
            auth: auth.map(|a| (a.realm, a.username, a.password)),
            body_bytes_max: options.body_bytes_max,
            idle: Duration::from_secs(u64::from(options.idle_s)),
            tls,
            ..HttpOptions::new(SocketAddr::new(ip, options.port))
        };
        let runtime = tokio::runtime::Handle::current();
        let opened = Http::open(&runtime, open.clone()).or_else(|e| match options.ip {
            Some(_) => Err(e),
            // A host without IPv6.
            None => {
                open.addr.set_ip([0, 0, 0, 0].into());
                Http::open(&runtime, open.clone())
            }
        });
        let (http, requests) =
            opened.map_err(|e| format!("tandem: httpd: cannot listen on {}: {e}", open.addr))?;
        self.http = Some((http, options));
        self.from_http = Some(requests);
        Ok(())
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            request = received(&mut self.from_fifo) => Asked::Fifo(request),
            request = received(&mut self.from_datagram) => Asked::Datagram(request),
            request = received(&mut self.from_http) => Asked::Http(request),
        }
    }

    /// What a request is for the node; `None`: it was answered here.
    pub(super) fn take(&mut self, asked: Asked) -> Option<Input> {
        match asked {
            Asked::Fifo(request) => {
                Some(self.command(request.body, request.reply.map(Asker::Fifo)))
            }
            Asked::Datagram(request) => {
                Some(self.command(request.body, request.from.map(Asker::Datagram)))
            }
            Asked::Http(request) => self.page(request),
        }
    }

    fn command(&mut self, text: Bytes, asker: Option<Asker>) -> Input {
        let answered = match parse_request(&text) {
            Ok(request) => request.id.is_some(),
            // The field's FIFO says nothing to what is no JSON.
            Err((_, error)) => error.code != PARSE_ERROR || !matches!(asker, Some(Asker::Fifo(_))),
        };
        let request = self.number();
        match asker {
            Some(asker) if answered => self.wait(request, asker),
            // A notification over HTTP still ends with a status.
            Some(Asker::Http { reply, .. }) => {
                let empty = Bytes::new();
                let none = HttpReply { status: 204, content_type: "", allow: None, body: empty };
                let _ = reply.send(none);
            }
            _ => {}
        }
        Input::Mi { request, text }
    }

    fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn wait(&mut self, request: u64, asker: Asker) {
        self.asking.insert(request, asker);
        if self.asking.len() > ASKING_MAX {
            self.asking.pop_first();
        }
    }

    fn page(&mut self, request: HttpRequest) -> Option<Input> {
        let HttpRequest { method, path, query, body, reply } = request;
        let root = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let pages = self.http.as_ref().map_or(&[][..], |(_, options)| &options.pages);
        match pages.iter().find(|p| p.root == root).map(|p| p.serves) {
            None => {
                let _ = reply.send(HttpReply::text(404, "no such page"));
                None
            }
            Some(HttpServes::Mi { .. }) if method != "POST" => {
                let text = "commands are sent as JSON-RPC by POST";
                let refusal = HttpReply { allow: Some("POST"), ..HttpReply::text(405, text) };
                let _ = reply.send(refusal);
                None
            }
            Some(HttpServes::Mi { pretty }) => {
                Some(self.command(body, Some(Asker::Http { reply, pretty })))
            }
            Some(HttpServes::Module { slot }) => {
                let request = self.number();
                self.wait(request, Asker::Http { reply, pretty: false });
                Some(Input::Http { request, slot, ask: HttpAsk { method, path, query, body } })
            }
        }
    }

    /// Sends the answer to a command to who asked for it.
    pub(super) fn answer(&mut self, request: u64, text: Bytes) {
        match self.asking.remove(&request) {
            Some(Asker::Fifo(to)) => {
                if let Some((fifo, pretty)) = &self.fifo {
                    fifo.reply(FifoReply { to, body: written(text, *pretty) });
                }
            }
            Some(Asker::Datagram(to)) => {
                if let Some((socket, pretty)) = &self.datagram {
                    let body = written(text, *pretty);
                    if !socket.reply(to.clone(), body.clone()) {
                        socket.reply(to, too_long(&body));
                    }
                }
            }
            Some(Asker::Http { reply, pretty }) => {
                let body = written(text, pretty);
                let json =
                    HttpReply { status: 200, content_type: "application/json", allow: None, body };
                let _ = reply.send(self.bounded(json));
            }
            None => {}
        }
    }

    /// Sends a page of a module to who asked for it.
    pub(super) fn answer_http(&mut self, request: u64, answer: HttpAnswer) {
        if let Some(Asker::Http { reply, .. }) = self.asking.remove(&request) {
            let HttpAnswer { status, content_type, body } = answer;
            let page = HttpReply { status, content_type, allow: None, body };
            let _ = reply.send(self.bounded(page));
        }
    }

    fn bounded(&self, reply: HttpReply) -> HttpReply {
        let max = self.http.as_ref().map_or(usize::MAX, |(_, o)| o.answer_bytes_max);
        if reply.body.len() <= max {
            return reply;
        }
        let text = format!("the answer is longer than {max} bytes (buf_size of httpd)");
        HttpReply::text(500, &text)
    }

    /// Makes the FIFO again if it was deleted.
    pub(super) fn check_now(&self) {
        self.fifo.iter().for_each(|(fifo, _)| fifo.check_now());
    }

    /// Sends the answers that wait and removes the files.
    pub(super) async fn close(self) {
        let Self { fifo, datagram, http, from_http, asking, .. } = self;
        // Who still waits is told that nobody answers.
        drop((from_http, asking));
        if let Some((fifo, _)) = fifo {
            fifo.close().await;
        }
        if let Some((datagram, _)) = datagram {
            datagram.close().await;
        }
        if let Some((http, _)) = http {
            http.close().await;
        }
    }
}

/// Waits for what a transport brings; one that is not open brings nothing.
async fn received<T>(from: &mut Option<mpsc::Receiver<T>>) -> T {
    match from {
        Some(from) => match from.recv().await {
            Some(request) => request,
            None => pending().await,
        },
        None => pending().await,
    }
}

fn owner(given: Option<Owner>, own: Option<u32>) -> Option<String> {
    match given {
        Some(Owner::Id(id)) => Some(id.to_string()),
        Some(Owner::Name(name)) => Some(name),
        None => own.map(|id| id.to_string()),
    }
}

fn written(text: Bytes, pretty: bool) -> Bytes {
    if pretty { indented(&text).unwrap_or(text) } else { text }
}

fn indented(text: &[u8]) -> Option<Bytes> {
    let json: serde_json::Value = serde_json::from_slice(text).ok()?;
    Some(Bytes::from(format!("{json:#}")))
}

/// What is answered instead of something that fits no datagram.
fn too_long(answer: &[u8]) -> Bytes {
    let json: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = RpcError {
        code: -32000,
        message: "Server error".into(),
        data: Some("the answer is longer than socket_buf_size; use mi_fifo or mi_http".into()),
    };
    Bytes::from(reply_error(json.get("id").unwrap_or(&serde_json::Value::Null), &error))
}
