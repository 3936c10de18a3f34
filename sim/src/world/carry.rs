//! Carries out what a node asks of the world.

use bytes::Bytes;
use serde_json::Value as Json;
use tandem_bin::{Framer, Packet};
use tandem_clock::MS;
use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::{BinInput, Effect, Input, Send};
use tandem_engine::log::Level;

use super::World;
use super::host::Write;
use super::queue::{Event, Life};
use crate::actors::message::summary;
use crate::checkers::answers;
use crate::options::Dice;
use crate::trace::Who;

impl World {
    pub(super) fn carry_out(&mut self, of: Life, effect: Effect) {
        match effect {
            Effect::Send(send) => self.send_from(of, &send),
            Effect::BinConnect { conn, peer, .. } => {
                match self.hosts.iter().find(|h| h.bin == peer).map(|h| h.id) {
                    Some(peer) => {
                        let (streams, mut wire) = self.wire();
                        streams.connect(&mut wire, of, conn, peer);
                    }
                    None => self.deliver(of, 0, Input::Bin(BinInput::ConnectFailed { conn })),
                }
            }
            Effect::BinWrite { conn, bytes } => {
                self.trace.feed(self.now, b'b', &bytes);
                self.show_packets(of, &bytes);
                self.judge_told(of, &bytes);
                let bytes = match self.fault {
                    Some(fault) => fault.on_write(of.node, bytes),
                    None => bytes,
                };
                if !bytes.is_empty() {
                    let (streams, mut wire) = self.wire();
                    streams.write(&mut wire, of, conn, &bytes);
                }
            }
            Effect::BinClose { conn } => {
                let (streams, mut wire) = self.wire();
                streams.close(&mut wire, of, conn);
            }
            Effect::MiReply { request, text } => self.answered(of, request, &text),
            Effect::Db { query, ask, .. } => {
                let takes = self.dice.between(MS / 2, 5 * MS);
                self.queue.push(self.now + takes, Event::Database { of, query, ask });
            }
            Effect::Dns { query, question } => {
                let takes = self.dice.between(MS / 2, 50 * MS);
                self.queue.push(self.now + takes, Event::Named { of, query, question });
            }
            Effect::ReadFile { token, name } => {
                let found = self.running(of).and_then(|host| host.disk.read(&name));
                self.deliver(of, 0, Input::FileRead { token, result: Ok(found) });
            }
            Effect::LoadScript { request } => {
                let result = Err("the scripts of the simulation stay as they are".to_owned());
                self.deliver(of, 0, Input::ScriptLoaded { request, result });
            }
            Effect::WriteFile { token, name, bytes } => self.write_file(of, token, name, bytes),
            Effect::Stop { failed } => {
                self.violate("world", format!("node {} stops (failed: {failed})", of.node));
            }
            Effect::Notify { to, payload } => {
                self.trace.feed(self.now, b'n', &payload);
                self.say(Who::Node(of.node), || format!("tells {to:?} of an event"));
            }
            Effect::Log { level, text } => self.logged(of, level, text),
            Effect::Spool { token, ask } => {
                let gone = Err("the node does not run".to_owned());
                let result = self.running(of).map_or(gone, |host| host.disk.spool.ask(ask));
                self.deliver(of, 0, Input::Spool { token, result });
            }
            Effect::Run { token, .. } => {
                let result = Err("there is no shell in the simulation".to_owned());
                self.deliver(of, 0, Input::ProgramEnded { token, result });
            }
            Effect::Client {
                token,
                ask: ClientAsk::Open { .. } | ClientAsk::OpenDatagrams { .. },
            } => {
                let event = ClientEvent::Closed("there is nobody".to_owned());
                self.deliver(of, 0, Input::Client(ClientNews { token, event }));
            }
            Effect::Client { .. } => {}
            // Nobody in this world speaks HTTP.
            Effect::HttpReply { .. } => {}
            // Nor SIP over connections.
            Effect::StreamConnect { .. }
            | Effect::StreamWrite { .. }
            | Effect::StreamClose { .. } => {}
            Effect::Wake => self.wake(of, 0, self.now + 10_000),
            Effect::Ready => self.say(Who::Node(of.node), || "is ready".into()),
            Effect::Fatal { text } => {
                self.violate("world", format!("node {} gives up: {text}", of.node));
            }
        }
    }

    fn send_from(&mut self, of: Life, send: &Send) {
        let Some(host) = self.running(of) else { return };
        let socket = host.node().and_then(|n| n.sockets.get(send.socket)).map(|s| s.addr);
        let Some(from) = socket else { return };
        self.trace.feed(self.now, b's', &send.payload);
        let what = || format!("-> {:<22} {}", send.to, summary(&send.payload));
        self.trace.line(self.now, Who::Node(of.node), what);
        if self.fault.is_some_and(|fault| fault.swallows(of.node, &send.payload)) {
            return;
        }
        let more = self.fault.and_then(|fault| fault.beside_reply(of.node, &send.payload));
        for payload in std::iter::once(send.payload.clone()).chain(more) {
            if let Some(text) = self.answers.sent(of, send.to, &payload) {
                self.violate(answers::NAME, text);
            }
            self.send(from, send.to, &payload);
        }
    }

    fn write_file(&mut self, of: Life, token: u64, name: String, bytes: Bytes) {
        let fails = self.dice.happens(self.options.disk_failure);
        let takes = self.dice.between(MS / 10, u64::from(self.options.disk_ms_max) * MS);
        let now = self.now;
        let Some(host) = self.running(of) else { return };
        let write = host.disk.begin(Write { token, name, bytes, fails });
        host.disk.busy_until = host.disk.busy_until.max(now) + takes;
        let at = host.disk.busy_until;
        self.queue.push(at, Event::Written { of, write });
    }

    fn answered(&mut self, of: Life, request: u64, text: &Bytes) {
        self.trace.feed(self.now, b'm', text);
        if self.switched(of, request, text) {
            return;
        }
        if self.asking.remove(&(of, request)).is_none() {
            return;
        }
        let answer: Json = serde_json::from_slice(text).unwrap_or(Json::Null);
        let shown = answer.get("result").or_else(|| answer.get("error")).cloned();
        let shown = shown.unwrap_or(Json::Null).to_string();
        self.say(Who::Operator, || format!("hears from node {}: {shown}", of.node));
        if answer.get("result").is_some() {
            self.counts.commands += 1;
            self.holder.told();
        } else {
            self.violate("world", format!("a command to node {} failed: {shown}", of.node));
        }
    }

    fn logged(&mut self, of: Life, level: Level, text: String) {
        self.trace.feed(self.now, b'l', text.as_bytes());
        if level <= Level::Notice {
            self.say(Who::Node(of.node), || format!("log {}: {text}", level.name()));
        }
    }

    /// A line for each packet, except those that only show that a node lives.
    pub(super) fn show_packets(&mut self, of: Life, bytes: &Bytes) {
        let Self { trace, now, .. } = self;
        let mut framer = Framer::default();
        framer.push(bytes);
        while let Ok(Some(frame)) = framer.next_frame() {
            let Ok(packet) = Packet::decode(frame) else { return };
            let name = packet_name(&packet);
            if !name.is_empty() {
                let to = packet.trailer.map(|t| format!(" to node {}", t.destination));
                let length = packet.payload.len();
                trace.line(*now, Who::Node(of.node), || {
                    format!("=> {name}{}, {length} bytes", to.unwrap_or_default())
                });
            }
        }
    }
}

/// What a packet is called; empty for PING, PONG and ACK.
fn packet_name(packet: &Packet) -> String {
    let internal = [
        "",
        "",
        "LS_UPDATE",
        "FULL_TOP_UPDATE",
        "UNKNOWN_ID",
        "NODE_DESCRIPTION",
        "",
        "",
        "",
        "CAP_UPDATE",
    ];
    let extra = [
        "REMOVE_NODE",
        "GENERIC_MSG",
        "MI_CMD",
        "",
        "SYNC_REQ",
        "SYNC",
        "SYNC_END",
        "SHTAG_ACTIVE",
    ];
    let tandem = ["", "HELLO", "ENVELOPE", "", "CLAIMS", "RECORDS", "DONE", "DIGEST"];
    let at = |list: &[&str], n: u32| list.get(n as usize).copied().unwrap_or("?").to_owned();
    match packet.capability.as_ref() {
        b"clusterer-internal" => at(&internal, packet.packet_type),
        b"clusterer-extra" => at(&extra, packet.packet_type.saturating_sub(6)),
        b"tandem" => at(&tandem, packet.packet_type),
        other => format!("{} type {}", String::from_utf8_lossy(other), packet.packet_type),
    }
}
