//! A host: what outlives the process on it, and the process.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Mono, Now};
use tandem_cluster::Step;
use tandem_engine::build::NodeOptions;
use tandem_engine::catalogue::{Modules, Tables};
use tandem_engine::effect::Input;
use tandem_engine::node::Node;
use tandem_engine::testing::{Files, Spool};
use tandem_engine::worker::Worker;
use tandem_script::diag::render_all;

use super::queue::Life;
use crate::stock::{Resident, Stock};

/// True time starts here.
const EPOCH_UNIX_MS: u64 = 1_800_000_000_000;

/// A host and the node on it.
pub(crate) struct Host {
    pub(crate) id: u32,
    pub(crate) sip: SocketAddr,
    pub(crate) bin: SocketAddr,
    pub(crate) script: String,
    pub(crate) clock: HostClock,
    pub(crate) disk: Disk,
    pub(crate) lives: u64,
    pub(crate) chance: Chance,
    pub(crate) process: Option<Process>,
    pub(crate) is_stock: bool,
    /// What runs in place of `process` on the host of a stock node.
    pub(crate) stock: Option<Stock>,
    /// Phones that register with a stock node.
    pub(crate) residents: Vec<Resident>,
}

impl Host {
    /// Whether the node runs.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some() || self.stock.is_some()
    }

    /// Whether it runs, and has heard what others know since it started.
    pub(crate) fn remembers(&self) -> bool {
        let Some(status) = self.node().and_then(|node| node.membership().status()) else {
            return false;
        };
        let mut peers = status.clusters.iter().flat_map(|cluster| &cluster.nodes);
        let compared = peers.any(|n| n.steps.iter().any(|s| s.step != Step::NeverCompared));
        self.lives == 1 || compared
    }

    /// The node is gone.
    pub(crate) fn kill(&mut self) {
        self.process = None;
        self.stock = None;
    }

    /// Starts a stock node.
    pub(crate) fn boot_stock(&mut self, now: Mono, nodes: &[(u32, SocketAddr)], has_targets: bool) {
        let dice = self.chance.fork();
        self.lives += 1;
        let now = self.clock.at(now);
        self.stock = Some(Stock::new(self.id, self.id == 1, nodes, now, dice, has_targets));
    }

    /// The running node.
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.process.as_ref().map(|p| &p.node)
    }

    pub(crate) fn life(&self) -> Life {
        Life { node: self.id, life: self.lives }
    }

    /// Compiles the script and builds the node; the text says what is wrong with the script.
    pub(crate) fn boot(
        &mut self,
        now: Mono,
        modules: Modules,
        workers: usize,
    ) -> Result<(), String> {
        let now = self.clock.at(now);
        let name = format!("node{}.cfg", self.id);
        let mut files = Files([(name.clone(), self.script.clone())].into());
        let (program, diags, map) =
            Tables::new(modules).with(|c| tandem_script::compile(&mut files, &name, c));
        let program = program.ok_or_else(|| render_all(&diags, &map))?;
        let options = NodeOptions {
            chance: self.chance.fork(),
            now,
            // One more, for looking at the node from outside.
            workers: workers + 1,
            command_line: vec!["tandem".into(), "-f".into(), name],
        };
        let node = Node::build(program, modules, options).map_err(|d| render_all(&d, &map))?;
        let mut worker = |id| Worker::new(Arc::clone(&node), id, self.chance.fork(), now);
        let places = (0..workers).map(|id| Place::new(worker(id))).collect();
        let observer = worker(workers);
        self.lives += 1;
        self.process = Some(Process { node, workers: places, observer });
        Ok(())
    }
}

/// The running node.
pub(crate) struct Process {
    pub(crate) node: Arc<Node>,
    pub(crate) workers: Vec<Place>,
    /// Answers questions of the checkers; never ends a batch, so it changes nothing.
    pub(crate) observer: Worker,
}

/// A worker, what waits for it, and when it gets the processor.
pub(crate) struct Place {
    pub(crate) worker: Worker,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) wake: Option<Mono>,
}

impl Place {
    fn new(worker: Worker) -> Self {
        Self { worker, inbox: VecDeque::new(), wake: None }
    }
}

/// The clocks of a host. They run at the speed of true time; the wall clock is off and may jump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    /// Added to true time: monotonic clocks of two hosts have nothing in common.
    pub(crate) mono_offset: Mono,
    pub(crate) skew_ms: i64,
}

impl HostClock {
    pub(crate) fn at(&self, now: Mono) -> Now {
        let unix_ms = (EPOCH_UNIX_MS + now / MS).saturating_add_signed(self.skew_ms);
        Now { mono_ns: now + self.mono_offset, unix_ms }
    }

    /// True time of an instant on this host's monotonic clock.
    pub(crate) fn true_time(&self, mono: Mono) -> Mono {
        mono.saturating_sub(self.mono_offset)
    }
}

/// Files of a node. They survive a crash; a write under way may or may not.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, Bytes>,
    pending: BTreeMap<u64, Write>,
    next: u64,
    /// What was added there is kept, whatever becomes of the process.
    pub(crate) spool: Spool,
    /// Writes complete in their order.
    pub(crate) busy_until: Mono,
}

#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) token: u64,
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
    pub(crate) fails: bool,
}

impl Disk {
    pub(crate) fn read(&self, name: &str) -> Option<Bytes> {
        self.files.get(name).cloned()
    }

    /// Begins a write and numbers it.
    pub(crate) fn begin(&mut self, write: Write) -> u64 {
        self.next += 1;
        self.pending.insert(self.next, write);
        self.next
    }

    /// Ends a write: the token and the result for the node.
    pub(crate) fn end(&mut self, write: u64) -> Option<(u64, Result<(), String>)> {
        let write = self.pending.remove(&write)?;
        if write.fails {
            return Some((write.token, Err("no space left on device".to_owned())));
        }
        self.files.insert(write.name, write.bytes);
        Some((write.token, Ok(())))
    }

    /// The process dies: each write under way has reached the disk or not.
    pub(crate) fn crash(&mut self, mut is_kept: impl FnMut() -> bool) {
        for write in std::mem::take(&mut self.pending).into_values() {
            if is_kept() && !write.fails {
                self.files.insert(write.name, write.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(bytes: &'static [u8], fails: bool) -> Write {
        Write { token: 7, name: "tags".into(), bytes: Bytes::from_static(bytes), fails }
    }

    #[test]
    fn a_file_changes_when_its_write_ends_and_a_failed_write_changes_nothing() {
        let mut disk = Disk::default();
        let first = disk.begin(write(b"a", false));
        assert_eq!(disk.read("tags"), None);
        assert_eq!(disk.end(first), Some((7, Ok(()))));
        let second = disk.begin(write(b"b", true));
        assert!(disk.end(second).is_some_and(|(_, result)| result.is_err()));
        assert_eq!(disk.read("tags").as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn a_crash_loses_or_keeps_a_write_under_way_and_keeps_all_others() {
        let mut disk = Disk::default();
        let first = disk.begin(write(b"a", false));
        disk.end(first);
        let second = disk.begin(write(b"b", false));
        disk.crash(|| false);
        assert_eq!(disk.read("tags").as_deref(), Some(&b"a"[..]));
        assert_eq!(disk.end(second), None, "nobody is left to be told");
        disk.begin(write(b"c", false));
        disk.crash(|| true);
        assert_eq!(disk.read("tags").as_deref(), Some(&b"c"[..]));
    }

    #[test]
    fn a_wall_clock_may_jump_and_the_monotonic_one_does_not() {
        let mut clock = HostClock { mono_offset: 50, skew_ms: 1_500 };
        let before = clock.at(1_000 * MS);
        clock.skew_ms -= 3_000;
        let after = clock.at(1_000 * MS);
        assert_eq!(before.mono_ns, after.mono_ns);
        assert_eq!(before.unix_ms - after.unix_ms, 3_000);
        assert_eq!(clock.true_time(after.mono_ns), 1_000 * MS);
    }
}
