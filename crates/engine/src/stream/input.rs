//! What connections bring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_clock::{Mono, Now};
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message, Method, Transport, Uri};

use super::proxy::line_for;
use super::table::{Proxy, end_of_life};
use super::{DISCONNECTED, Frame, FrameError, Framer, Reading, StreamId, StreamInput, Streams};
use crate::context::{Ctx, Source};
use crate::core::stat;
use crate::effect::{Effect, Out};
use crate::log::Level;
use crate::module::Timer;
use crate::own_reply::{Leave, reply_stateless};
use crate::sockets::{Proto, SocketId, Sockets};
use crate::worker::{Worker, timer};

/// How long a connection has been silent that is closed for a new one when there are too many.
const REST_S: u32 = 10;

impl Worker {
    /// Takes an event of a connection.
    pub(crate) fn stream(&mut self, now: Now, event: StreamInput, out: &mut Out) {
        match event {
            StreamInput::Accepted { conn, peer, local } => {
                self.stream_accepted(now, conn, (peer, local), out);
            }
            StreamInput::Connected { conn, local } => {
                let until = self.life(now);
                let waiting = self.node().streams.table.lock().connected(conn, local, until);
                self.watch_idle(now, conn, until, out);
                self.introduce(conn, out);
                for send in waiting {
                    out.push(Effect::StreamWrite { conn, bytes: send.payload });
                }
            }
            StreamInput::ConnectFailed { conn, error } => {
                let remote = self.node().streams.table.lock().ends(conn).map(|e| e.1);
                if let Some(remote) = remote {
                    let text = format!("cannot connect to tcp:{remote}: {error}");
                    self.cx(now, out).log(Level::Info, text);
                }
                self.stream_gone(now, conn, out);
            }
            StreamInput::Data { conn, bytes } => self.stream_data(now, conn, &bytes, out),
            StreamInput::Closed { conn } => self.stream_gone(now, conn, out),
        }
    }

    fn stream_accepted(
        &mut self,
        now: Now,
        conn: StreamId,
        (peer, local): (SocketAddr, SocketAddr),
        out: &mut Out,
    ) {
        let node = Arc::clone(self.node());
        let Some(socket) = listener(&node.sockets, local) else {
            return out.push(Effect::StreamClose { conn });
        };
        if node.streams.table.lock().len() >= node.streams.settings.connections_max
            && !self.make_room(now, out)
        {
            return out.push(Effect::StreamClose { conn });
        }
        let until = self.life(now);
        let reads = node.sockets.get(socket).is_some_and(|s| s.proxy.reads);
        let proxy = if reads { Proxy::Expected } else { Proxy::None };
        node.streams.table.lock().accepted(conn, socket, (peer, local), until, proxy);
        self.watch_idle(now, conn, until, out);
    }

    /// The table is full: whoever connects and says nothing must not keep out those who do.
    fn make_room(&mut self, now: Now, out: &mut Out) -> bool {
        let streams = &self.node().streams;
        let rests = streams.settings.lifetime_s.saturating_sub(REST_S);
        let table = streams.table.lock();
        let least_wanted = table.least_wanted(now, end_of_life(now, rests));
        drop(table);
        if let Some(conn) = least_wanted {
            let text = "too many TCP connections: one that rests is closed for a new one";
            self.cx(now, out).log(Level::Warning, text);
            self.close_stream(now, conn, out);
        }
        least_wanted.is_some()
    }

    /// Writes the header of the PROXY protocol in front of everything, where the socket wants it.
    fn introduce(&self, conn: StreamId, out: &mut Out) {
        let ends = self.node().streams.table.lock().ends(conn);
        let Some((socket, remote, local)) = ends else { return };
        if self.node().sockets.get(socket).is_some_and(|s| s.proxy.writes) {
            let bytes = Bytes::from(line_for(local, remote));
            out.push(Effect::StreamWrite { conn, bytes });
        }
    }

    fn life(&self, now: Now) -> Mono {
        end_of_life(now, self.node().streams.settings.lifetime_s)
    }

    fn watch_idle(&mut self, now: Now, conn: StreamId, until: Mono, out: &mut Out) {
        let watch = Timer { kind: timer::STREAM_IDLE, id: conn.0 };
        self.cx(now, out).set_timer(until, watch);
    }

    fn stream_data(&mut self, now: Now, conn: StreamId, bytes: &Bytes, out: &mut Out) {
        let node = Arc::clone(self.node());
        let until = self.life(now);
        let ends = {
            let mut table = node.streams.table.lock();
            table.touch(conn, until);
            table.ends(conn)
        };
        // Read before its end was known here.
        let Some((socket, remote, local)) = ends else { return };
        let source = Source { addr: remote, socket, local_ip: local.ip() };
        let mut reading = node.streams.reading.lock().remove(&conn).unwrap_or_default();
        reading.framer.push(bytes);
        let mut proxy = node.streams.table.lock().proxy(conn);
        if matches!(proxy, Proxy::Expected) {
            proxy = match reading.framer.take_proxy() {
                Ok(None) => {
                    self.pong(conn, reading.framer.take_early_pings(), out);
                    return self.keep_reading(now, conn, reading, out);
                }
                Ok(Some(proxied)) => {
                    node.streams.table.lock().set_proxy(conn, proxied);
                    proxied.map_or(Proxy::None, Proxy::Known)
                }
                Err(error) => {
                    self.stream_broken(now, conn, &source, &error.to_string(), out);
                    return;
                }
            };
        }
        let proxied = if let Proxy::Known(proxied) = proxy { Some(proxied) } else { None };
        let options = node.streams.settings.proto;
        let mut pings = reading.framer.take_early_pings();
        loop {
            match reading.framer.next(options.pieces_max) {
                Ok(Some(Frame::Message(message))) => {
                    node.streams.table.lock().speaks(conn);
                    reading.since = None;
                    self.set_proxied(proxied);
                    if let Err(problem) = self.stream_message(now, (conn, source), message, out) {
                        self.stream_broken(now, conn, &source, &problem, out);
                        return;
                    }
                }
                Ok(Some(Frame::Ping)) => pings += 1,
                Ok(None) => break,
                Err(error) => {
                    self.refuse_frame(now, source, &reading.framer, error, out);
                    self.stream_broken(now, conn, &source, &error.to_string(), out);
                    return;
                }
            }
        }
        self.pong(conn, pings, out);
        self.keep_reading(now, conn, reading, out);
    }

    /// Keeps what is no whole message yet, and watches how long it takes.
    fn keep_reading(&mut self, now: Now, conn: StreamId, mut reading: Reading, out: &mut Out) {
        let node = Arc::clone(self.node());
        if !reading.framer.is_partial() {
            // A connection that rests keeps no memory here.
            if reading.framer.is_idle() && !reading.watched {
                return;
            }
            reading.since = None;
        } else if reading.since.is_none() {
            reading.since = Some(now.mono_ns);
            if !reading.watched {
                reading.watched = true;
                let at = now.after_s(u64::from(node.streams.settings.message_s));
                let watch = Timer { kind: timer::STREAM_MESSAGE, id: conn.0 };
                self.cx(now, out).set_timer(at, watch);
            }
        }
        node.streams.reading.lock().insert(conn, reading);
    }

    /// Answers keepalives (RFC 5626 3.5.1). Whoever sends many at once gets one answer: a flood of
    /// pings is no flood of pongs.
    fn pong(&mut self, conn: StreamId, pings: u64, out: &mut Out) {
        if pings == 0 {
            return;
        }
        let streams = &self.node().streams;
        streams.pings.fetch_add(pings, Ordering::Relaxed);
        if streams.settings.proto.ping_pong {
            streams.pongs.fetch_add(1, Ordering::Relaxed);
            out.push(Effect::StreamWrite { conn, bytes: Bytes::from_static(b"\r\n") });
        }
    }

    /// Takes a whole message; the error is that of one that cannot be read at all.
    fn stream_message(
        &mut self,
        now: Now,
        (conn, source): (StreamId, Source),
        bytes: Bytes,
        out: &mut Out,
    ) -> Result<(), String> {
        let msg = Message::parse(bytes).map_err(|e| e.to_string())?;
        if msg.is_request() {
            learn_names(&self.node().streams, &source, &msg);
            self.find_flow(now, conn, &source, &msg, out);
        }
        self.message(now, msg, source, out);
        Ok(())
    }

    /// A phone that is back over a new connection is found there from its first request on. A
    /// REGISTER finds its flow by itself, when its sender is known.
    fn find_flow(
        &mut self,
        now: Now,
        conn: StreamId,
        source: &Source,
        msg: &Message,
        out: &mut Out,
    ) {
        let node = Arc::clone(self.node());
        if msg.method() == Method::Register || !node.streams.may_bind(conn) {
            return;
        }
        for (slot, _, module) in node.loaded() {
            self.cx(now, out).for_slot(slot, |cx| module.stream_request(cx, source, msg));
        }
    }

    /// Answers a request that cannot be framed, if its headers say whom.
    fn refuse_frame(
        &mut self,
        now: Now,
        source: Source,
        framer: &Framer,
        error: FrameError,
        out: &mut Out,
    ) {
        let Ok(msg) = Message::parse(framer.head()) else { return };
        if !msg.is_request() || msg.top_via().is_err() {
            return;
        }
        let (code, reason) = match error {
            FrameError::TooLong => (513, "Message Too Large"),
            FrameError::NoLength => (400, "Missing Content-Length"),
            _ => (400, "Bad Content-Length"),
        };
        let mut ctx = Ctx::new(msg, source, Routes::REQUEST);
        reply_stateless(&mut self.cx(now, out), &mut ctx, code, reason.as_bytes(), b"", Leave::Now);
    }

    /// Counts and tells what is wrong with a connection, and closes it behind what is queued.
    fn stream_broken(
        &mut self,
        now: Now,
        conn: StreamId,
        source: &Source,
        problem: &str,
        out: &mut Out,
    ) {
        let mut cx = self.cx(now, out);
        cx.count(stat::BAD_MSG_HDR, 1);
        let text = format!("the connection of tcp:{} is closed: {problem}", source.addr);
        cx.log(Level::Info, text);
        // What the last batch said to this peer goes out first.
        self.route_streams(now, out);
        self.close_stream(now, conn, out);
    }

    /// Closes a connection; nothing finds it any more.
    pub(crate) fn close_stream(&mut self, now: Now, conn: StreamId, out: &mut Out) {
        out.push(Effect::StreamClose { conn });
        self.stream_gone(now, conn, out);
    }

    /// A connection has ended: what waited for it has failed.
    fn stream_gone(&mut self, now: Now, conn: StreamId, out: &mut Out) {
        let node = Arc::clone(self.node());
        node.streams.reading.lock().remove(&conn);
        let (ends, waiting) = {
            let mut table = node.streams.table.lock();
            (table.ends(conn), table.closed(conn))
        };
        if let Some((_, remote, local)) = ends {
            let number = |port: u16| Value::Int(i32::from(port));
            let text = |ip: std::net::IpAddr| Value::str(ip.to_string().into_bytes());
            let params = vec![
                ("src_ip", text(remote.ip())),
                ("src_port", number(remote.port())),
                ("dst_ip", text(local.ip())),
                ("dst_port", number(local.port())),
                ("proto", Value::str(&b"tcp"[..])),
            ];
            self.cx(now, out).raise(DISCONNECTED, params);
        }
        self.sends_failed(now, waiting, out);
    }

    /// A timer of a connection fired.
    pub(crate) fn stream_timer(&mut self, now: Now, fired: Timer, out: &mut Out) {
        let conn = StreamId(fired.id);
        let node = Arc::clone(self.node());
        if fired.kind == timer::STREAM_IDLE {
            match node.streams.table.lock().until(conn) {
                None => return,
                Some(until) if until > now.mono_ns => {
                    // What keeps it may end at any time: it is looked at in between.
                    let look_at = until.min(self.life(now).max(now.after_s(1)));
                    return self.watch_idle(now, conn, look_at, out);
                }
                Some(_) => {}
            }
            return self.close_stream(now, conn, out);
        }
        let limit = u64::from(node.streams.settings.message_s);
        let late = {
            let mut all = node.streams.reading.lock();
            let Some(reading) = all.get_mut(&conn) else { return };
            let due = reading.since.map(|since| since.saturating_add(limit * tandem_clock::SEC));
            match due {
                Some(due) if due <= now.mono_ns => true,
                Some(due) => {
                    self.cx(now, out).set_timer(due, fired);
                    false
                }
                None => {
                    reading.watched = false;
                    false
                }
            }
        };
        let remote = node.streams.table.lock().ends(conn);
        if let Some((socket, addr, local)) = remote.filter(|_| late) {
            let source = Source { addr, socket, local_ip: local.ip() };
            let problem = format!("a message was not whole after {limit} s (tcp_max_msg_time)");
            self.stream_broken(now, conn, &source, &problem, out);
        }
    }
}

/// The socket that a connection was accepted on.
fn listener(sockets: &Sockets, local: SocketAddr) -> Option<SocketId> {
    let tcp = || sockets.of(Proto::Tcp).filter(|(_, s)| s.addr.port() == local.port());
    let exact = tcp().find(|(_, s)| s.addr.ip() == local.ip());
    let any = || {
        let same_family = |ip: std::net::IpAddr| ip.is_ipv4() == local.is_ipv4();
        tcp().find(|(_, s)| s.addr.ip().is_unspecified() && same_family(s.addr.ip()))
    };
    exact.or_else(any).map(|(id, _)| id)
}

/// Other names that the peer may be reached under: the alias of its Via (RFC 5923), and the
/// contacts that it registers for its own address.
fn learn_names(streams: &Streams, source: &Source, msg: &Message) {
    if streams.settings.accept_aliases
        && let Ok(via) = msg.top_via()
        && via.params.get(b"alias").is_some()
    {
        streams.alias(source, via.port_or_default());
    }
    if msg.method() != Method::Register {
        return;
    }
    for contact in msg.addrs(HeaderName::Contact).flatten().take(4) {
        let Ok(uri) = Uri::parse(contact.uri) else { continue };
        let over_tcp = uri.transport() == Some(Transport::Tcp);
        if over_tcp && uri.host_ip() == Some(source.addr.ip()) {
            streams.alias(source, uri.port.unwrap_or(5060));
        }
    }
}
