//! The capability `ratelimit-pipe-repl`: each node tells its own counts every so often.

use bytes::Bytes;
use tandem_bin::ratelimit as wire;
use tandem_clock::Now;
use tandem_cluster::{Digests, Form, Snapshot};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::pipe::{Algorithm, Pipe};
use crate::state::RateLimit;

/// How often a count of 0 is told.
const QUIET_MAX: u32 = 3;
/// Bytes of a pipe beside its name.
const PIPE_BYTES: usize = 18;

impl RateLimit {
    /// Tells the peers what is counted here.
    pub(crate) fn send(&self, cx: &mut Cx<'_>) {
        let (now, rules) = (cx.now, self.rules());
        let mut packets: Vec<Vec<wire::Pipe>> = Vec::new();
        let mut bytes = usize::MAX;
        for (name, pipe) in self.pipes.lock().iter_mut().filter(|(_, pipe)| pipe.replicated) {
            let counter = pipe.own(now, &rules);
            pipe.quiet = if counter == 0 { pipe.quiet.saturating_add(1) } else { 0 };
            if pipe.quiet > QUIET_MAX {
                continue;
            }
            bytes = bytes.saturating_add(name.len() + PIPE_BYTES);
            if bytes > self.packet_bytes {
                packets.push(Vec::new());
                bytes = name.len() + PIPE_BYTES;
            }
            let pipe = wire::Pipe {
                name: Bytes::copy_from_slice(name.as_bytes()),
                flags: wire::REPLICATED,
                algorithm: pipe.algorithm.number(),
                limit: pipe.limit,
                counter,
            };
            packets.last_mut().into_iter().for_each(|packet| packet.push(pipe.clone()));
        }
        for packet in packets {
            let Ok(payload) = wire::encode(&packet) else { continue };
            let stamp = cx.node.outbox.stamp(now);
            let (slot, kind, version) = (self.slot, wire::COUNTERS, wire::VERSION);
            cx.node.outbox.append(0, Record::same(slot, kind, version, payload, stamp));
        }
    }
}

impl Replicated for RateLimit {
    fn capability(&self) -> &'static str {
        "ratelimit-pipe-repl"
    }

    fn cluster(&self) -> u32 {
        self.cluster
    }

    fn startup_sync(&self) -> bool {
        false
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        // What a bridge tells between clusters is not looked at.
        if change.kind != wire::COUNTERS {
            return;
        }
        let pipes = match wire::decode(&change.payload) {
            Ok(pipes) => pipes,
            Err(e) => {
                let text = format!("counters of node {} cannot be read: {e}", change.source);
                return cx.log(Level::Warning, text);
            }
        };
        let now = cx.now;
        let until = now.after_s(self.believe_s);
        for told in pipes {
            let name = String::from_utf8_lossy(&told.name).into_owned();
            let algorithm = Algorithm::of_number(told.algorithm).unwrap_or(self.default);
            let new = || Pipe::new(algorithm, told.limit, true, now);
            self.with_pipe(&name, new, |pipe| {
                pipe.remote.insert(change.source, (told.counter, until));
            });
        }
    }

    /// Counters are told all the time: there is nothing to sync.
    fn merge(&self, _: &mut Cx<'_>, _: u32, _: Form, _: u16, _: Vec<Bytes>) {}

    fn snapshot(&self, _: &mut Cx<'_>, _: Form, _: Option<&[u8]>) -> Snapshot {
        Snapshot { version: wire::VERSION, records: Vec::new() }
    }

    fn digests(&self, _: Now) -> Digests {
        Digests::default()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
        Vec::new()
    }
}
