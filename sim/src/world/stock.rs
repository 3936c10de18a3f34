//! Stock nodes in the world.

use bytes::Bytes;
use tandem_clock::{MS, Mono, SEC};
use tandem_cluster::ConnId;
use tandem_engine::effect::{BinInput, Input};

use super::World;
use super::queue::{Event, Life};
use crate::actors::gateway::Way;
use crate::checkers::holder::View;
use crate::options::Dice;
use crate::plan::REST_S;
use crate::stock::{Act, Stock, TICK_NS};
use crate::trace::Who;

/// Residents do nothing so shortly before the end.
const QUIET_NS: Mono = 2 * SEC;
/// How far workers of a stock node may take packets out of their order.
const OUT_OF_ORDER_NS: u64 = 3 * MS;
/// How often a packet waits for a worker at all.
const WAITS: f64 = 0.3;

impl World {
    /// Starts the node if it is a stock node that is down; false if it is none.
    pub(super) fn start_stock(&mut self, node: u32) -> bool {
        let nodes: Vec<_> = self.hosts.iter().map(|h| (h.id, h.bin)).collect();
        let (now, has_targets) = (self.now, self.options.routing);
        let Some(host) = self.host(node).filter(|h| h.is_stock) else { return false };
        if host.is_up() {
            return true;
        }
        host.boot_stock(now, &nodes, has_targets);
        let of = host.life();
        self.holder.disturbed();
        self.say(Who::Node(node), || "starts, a stock node".into());
        let first = self.dice.between(0, TICK_NS);
        self.queue.push(self.now + first, Event::StockTick { of });
        true
    }

    /// The operator's command to a stock node; false if it is none.
    pub(super) fn activate_stock(&mut self, node: u32) -> bool {
        let Some(host) = self.host(node).filter(|h| h.is_stock) else { return false };
        let of = host.life();
        self.say(Who::Operator, || format!("makes stock node {node} active"));
        self.with_stock(of, |stock, now| stock.activate(now));
        self.counts.commands += 1;
        self.holder.told();
        true
    }

    pub(super) fn stock_tick(&mut self, of: Life) {
        let is_calm = self.network.is_whole() && self.hosts.iter().all(super::host::Host::is_up);
        let at = self.now;
        // What is on its way at the end has not arrived everywhere.
        let is_late = at + QUIET_NS >= (self.options.seconds + REST_S) * SEC;
        let alive: Vec<_> = self.gateways.iter().map(|g| (g.id, g.way == Way::Answers)).collect();
        let Some(host) = self.running(of) else { return };
        let now = host.clock.at(at);
        let super::host::Host { stock, residents, .. } = host;
        let Some(stock) = stock else { return };
        let residents = if is_late { &mut [] } else { &mut residents[..] };
        stock.tick(now, residents, is_calm);
        stock.probe(now, &alive);
        self.stock_acts(of);
        self.queue.push(at + TICK_NS, Event::StockTick { of });
    }

    pub(super) fn stock_packet(&mut self, of: Life, conn: ConnId, frame: &Bytes) {
        self.with_stock(of, |stock, now| stock.packet(now, conn, frame));
    }

    pub(super) fn stock_input(&mut self, of: Life, event: BinInput) {
        match event {
            BinInput::Accepted { conn, peer } => {
                self.with_stock(of, |stock, now| stock.accepted(now, conn, peer.ip()));
            }
            BinInput::Connected { conn, .. } => {
                self.with_stock(of, |stock, _| stock.connected(conn))
            }
            BinInput::ConnectFailed { conn } | BinInput::Closed { conn } => {
                self.with_stock(of, |stock, _| stock.gone(conn));
            }
            BinInput::Data { conn, bytes } => {
                let mut frames = Vec::new();
                self.with_stock(of, |stock, now| frames = stock.frames(now, conn, &bytes));
                for frame in frames {
                    let waits = self.dice.happens(WAITS);
                    let wait = self.dice.between(0, if waits { OUT_OF_ORDER_NS } else { 0 });
                    self.queue.push(self.now + wait, Event::StockPacket { of, conn, frame });
                }
            }
        }
    }

    fn with_stock(&mut self, of: Life, run: impl FnOnce(&mut Stock, tandem_clock::Now)) {
        let at = self.now;
        let Some(host) = self.running(of) else { return };
        let now = host.clock.at(at);
        if let Some(stock) = &mut host.stock {
            run(stock, now);
            self.stock_acts(of);
        }
    }

    fn stock_acts(&mut self, of: Life) {
        let acts = self.running(of).and_then(|h| h.stock.as_mut()).map(Stock::take_acts);
        for act in acts.unwrap_or_default() {
            match act {
                Act::Connect { conn, peer } => {
                    match self.hosts.iter().find(|h| h.bin == peer).map(|h| h.id) {
                        Some(peer) => {
                            let (streams, mut wire) = self.wire();
                            streams.connect(&mut wire, of, conn, peer);
                        }
                        None => {
                            self.deliver(of, 0, Input::Bin(BinInput::ConnectFailed { conn }));
                        }
                    }
                }
                Act::Write { conn, bytes } => {
                    self.trace.feed(self.now, b'b', &bytes);
                    self.show_packets(of, &bytes);
                    let (streams, mut wire) = self.wire();
                    streams.write(&mut wire, of, conn, &bytes);
                }
                Act::Close { conn } => {
                    let (streams, mut wire) = self.wire();
                    streams.close(&mut wire, of, conn);
                }
            }
        }
    }

    /// What each running stock node says of the tag and of its links.
    pub(super) fn stock_views(&self) -> Vec<View> {
        let running = self.hosts.iter().filter_map(|h| Some((h.id, h.stock.as_ref()?)));
        let view = |(node, stock): (u32, &Stock)| View {
            node,
            is_stock: true,
            is_active: stock.is_active(),
            has_duty: stock.is_active(),
            linked: stock.linked().collect(),
        };
        running.map(view).collect()
    }
}
