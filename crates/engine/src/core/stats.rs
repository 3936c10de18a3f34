//! Statistics of the core, and those of the groups `load` and `shmem`.

use tandem_clock::{Now, SEC};

use crate::node::Node;
use crate::stats::StatDef;
use crate::table::{counter, gauge};

/// Places in the table.
pub(crate) mod stat {
    pub(crate) const RCV_REQUESTS: usize = 0;
    pub(crate) const RCV_REPLIES: usize = 1;
    pub(crate) const FWD_REQUESTS: usize = 2;
    pub(crate) const FWD_REPLIES: usize = 3;
    pub(crate) const DROP_REQUESTS: usize = 4;
    pub(crate) const DROP_REPLIES: usize = 5;
    pub(crate) const ERR_REQUESTS: usize = 6;
    pub(crate) const ERR_REPLIES: usize = 7;
    pub(crate) const BAD_URIS: usize = 8;
    pub(crate) const BAD_MSG_HDR: usize = 9;
    pub(super) const TIMESTAMP: usize = 10;
    pub(super) const SHM_TOTAL: usize = 11;
    pub(super) const SHM_MAX_USED: usize = 12;
    pub(super) const SHM_FREE: usize = 13;
    pub(super) const SHM_USED: usize = 14;
    pub(super) const SHM_REAL_USED: usize = 15;
    pub(super) const LOAD: usize = 16;
    pub(super) const LOAD_1M: usize = 17;
    pub(super) const LOAD_10M: usize = 18;
    pub(super) const LOAD_ALL: usize = 19;
    pub(super) const LOAD_1M_ALL: usize = 20;
    pub(super) const LOAD_10M_ALL: usize = 21;
    pub(super) const PROCESSES: usize = 22;
    pub(crate) const DNS_QUERIES: usize = 23;
    pub(crate) const DNS_SLOW_QUERIES: usize = 24;
    pub(crate) const CUT_RUNS: usize = 25;
    pub(crate) const SLOW_MESSAGES: usize = 26;
    pub(crate) const FAILED_STEPS: usize = 27;
    pub(crate) const QUARANTINED: usize = 28;
    pub(super) const WAITING_UDP: usize = 29;
    pub(super) const WAITING_TCP: usize = 30;
}

pub(super) const STATISTICS: &[StatDef] = &[
    counter("rcv_requests", "Requests received."),
    counter("rcv_replies", "Replies received."),
    counter("fwd_requests", "Requests forwarded without a transaction."),
    counter("fwd_replies", "Replies forwarded without a transaction."),
    counter("drop_requests", "Requests whose route ended with drop."),
    counter("drop_replies", "Replies that onreply_route dropped."),
    counter("err_requests", "Requests that are malformed or could not be forwarded."),
    counter("err_replies", "Replies that are not ours or could not be forwarded."),
    counter("bad_URIs_rcvd", "Requests whose R-URI cannot be read."),
    counter("bad_msg_hdr", "Messages with a missing or malformed header."),
    gauge("timestamp", "Seconds since the start."),
    gauge("shmem:total_size", "Bytes that the node may use (-m)."),
    gauge("shmem:max_used_size", "Bytes in use, at most since the start."),
    gauge("shmem:free_size", "Bytes that are left."),
    gauge("shmem:used_size", "Bytes in use."),
    gauge("shmem:real_used_size", "Bytes in use, those of the allocator included."),
    gauge("load:load", "Load of the SIP workers in the last second, in percent."),
    gauge("load:load1m", "Load of the SIP workers in the last minute."),
    gauge("load:load10m", "Load of the SIP workers in the last ten minutes."),
    gauge("load:load-all", "Load of all workers in the last second."),
    gauge("load:load1m-all", "Load of all workers in the last minute."),
    gauge("load:load10m-all", "Load of all workers in the last ten minutes."),
    gauge("load:processes_number", "Workers, the one for everything but SIP included."),
    counter("dns:dns_total_queries", "Questions asked of the DNS."),
    counter("dns:dns_slow_queries", "Questions that took longer than exec_dns_threshold."),
    counter("cut_runs", "Script runs that went on without end, or too deep, and were cut off."),
    counter("slow_messages", "Messages that took longer than exec_msg_threshold."),
    counter("failed_steps", "Inputs that a bug kept from being dealt with."),
    counter("quarantined_messages", "Messages of calls in which a bug has come to light."),
    gauge("net:waiting_udp", "Bytes that wait in the UDP sockets."),
    gauge("net:waiting_tcp", "Bytes that wait in the connections that carry SIP over TCP."),
    gauge("net:waiting_tls", "Always 0: the node has no TLS sockets."),
    gauge("shmem:fragments", "Always 0: memory comes from the system, in no pieces of our own."),
    gauge("rpmem:rpm_total_size", NO_RESTART_MEMORY),
    gauge("rpmem:rpm_used_size", NO_RESTART_MEMORY),
    gauge("rpmem:rpm_real_used_size", NO_RESTART_MEMORY),
    gauge("rpmem:rpm_max_used_size", NO_RESTART_MEMORY),
    gauge("rpmem:rpm_free_size", NO_RESTART_MEMORY),
    gauge("rpmem:rpm_fragments", NO_RESTART_MEMORY),
];

const NO_RESTART_MEMORY: &str = "Always 0: no memory outlives a restart; what has to survive is \
                                 with the peer and in the database.";

/// The value of a statistic that is not counted.
pub(super) fn value(node: &Node, now: Now, index: usize) -> u64 {
    let sip = |window_s| node.load.percent(now, 1, window_s);
    let all = |window_s| node.load.percent(now, 0, window_s);
    match index {
        stat::TIMESTAMP => now.mono_ns.saturating_sub(node.started.mono_ns) / SEC,
        stat::SHM_TOTAL => node.memory.total(),
        stat::SHM_MAX_USED => node.memory.peak(),
        stat::SHM_FREE => node.memory.total().saturating_sub(node.memory.used()),
        stat::SHM_USED | stat::SHM_REAL_USED => node.memory.used(),
        stat::WAITING_UDP => node.load.waiting_udp(),
        stat::WAITING_TCP => node.load.waiting_tcp(),
        stat::LOAD => sip(1),
        stat::LOAD_1M => sip(60),
        stat::LOAD_10M => sip(600),
        stat::LOAD_ALL => all(1),
        stat::LOAD_1M_ALL => all(60),
        stat::LOAD_10M_ALL => all(600),
        stat::PROCESSES => node.load.workers() as u64,
        _ => 0,
    }
}

/// The load of each worker.
pub(super) fn of_workers(node: &Node, now: Now) -> Vec<(String, u64)> {
    let windows = [("load", 1), ("load1m", 60), ("load10m", 600)];
    let each = (0..node.load.workers()).flat_map(|id| {
        windows.map(|(name, window_s)| {
            (format!("load:{name}-proc-{id}"), node.load.percent_of(now, id, window_s))
        })
    });
    each.collect()
}
