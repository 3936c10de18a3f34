//! Globals of another architecture: accepted, each with a note that says why it does nothing.

use tandem_script::sig::{ParamKind, ParamSig};

use crate::table::moot;

use ParamKind::{Int, IntOrStr, Str};

const WAITS: &str = "no worker ever waits: there is nothing to tune";
const MEMORY: &str = "memory comes from the system, and every table has a limit of its own";
const BUFFER: &str = "texts take the room they need";
const OWN_NAMES: &str = "the node answers to the names that its sockets are given by";
const MULTICAST: &str = "no multicast group is joined";
const ROWS: &str = "modules write their rows in batches by themselves";
const RESTART: &str = "what has to survive a restart is with the peer and in the database";

/// A moot global that has another name as well.
const fn also(row: ParamSig, old_names: &'static [&'static str]) -> ParamSig {
    ParamSig { old_names, ..row }
}

pub(super) const GLOBALS: &[ParamSig] = &[
    moot("tcp_workers", IntOrStr, WAITS),
    moot("timer_workers", IntOrStr, WAITS),
    moot("tcp_threads", Int, WAITS),
    also(moot("tcp_threshold", Int, WAITS), &["tcpthreshold"]),
    moot("auto_scaling_cycle", Int, WAITS),
    moot("auto_scaling_profile", Str, WAITS),
    moot("mem-group", Str, MEMORY),
    also(moot("mem_warming", Int, MEMORY), &["mem_warming_enabled"]),
    moot("mem_warming_pattern_file", Str, MEMORY),
    moot("mem_warming_percentage", Int, MEMORY),
    also(moot("memdump", Int, MEMORY), &["mem_dump"]),
    also(moot("memlog", Int, MEMORY), &["mem_log"]),
    moot("shm_hash_split_percentage", Int, MEMORY),
    moot("shm_memlog_size", Int, MEMORY),
    moot("shm_secondary_hash_size", Int, MEMORY),
    moot("restart_persistency_cache_file", Str, RESTART),
    moot("restart_persistency_size", Int, RESTART),
    moot("log_json_buf_size", Int, BUFFER),
    moot("log_msg_buf_size", Int, BUFFER),
    moot("pv_print_buf_size", Int, BUFFER),
    moot("xlog_buf_size", Int, BUFFER),
    moot("dns", Int, OWN_NAMES),
    moot("rev_dns", Int, OWN_NAMES),
    moot("mcast_loopback", Int, MULTICAST),
    moot("mcast_ttl", Int, MULTICAST),
    moot("query_buffer_size", Int, ROWS),
    moot("query_flush_time", Int, ROWS),
    moot("db_max_async_connections", Int, "a query never holds a worker up"),
    moot("db_version_table", Str, "the columns of a table are looked at, not its version"),
    moot("poll_method", Str, "epoll is what is used"),
    moot("log_stdout", Int, "nothing is written to standard output, and it stays as it is"),
    moot("xlog_force_color", Int, "lines are written without colours"),
    moot(
        "auto_aliases",
        Int,
        "a node answers to the names that its sockets are given by; addresses are not looked up \
         backwards",
    ),
    moot(
        "mhomed",
        Int,
        "a request leaves from the socket it came to, or from the one that the script names; \
         one on every address leaves from an address of the interface towards the next hop",
    ),
];
