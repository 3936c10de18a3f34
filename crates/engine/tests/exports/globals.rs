//! Globals: what each changes, and the notes of those that change nothing.

use tandem_engine::catalogue::Tables;
use tandem_engine::log::Level;
use tandem_engine::testing::{Check, Files, TestNode, evidence};
use tandem_script::diag::render_all;

use super::{HEAD, MODULES, PHONE, REQUEST, accepted, node};

/// What is said about a script that starts.
fn findings(globals: &str) -> String {
    evidence::note(globals);
    let text = format!("{HEAD}{globals}\nroute {{ exit; }}");
    let mut files = Files([("t.cfg".to_owned(), text)].into());
    let compiled = Tables::new(MODULES).with(|c| tandem_script::compile(&mut files, "t.cfg", c));
    assert!(compiled.0.is_some(), "{}", render_all(&compiled.1, &compiled.2));
    render_all(&compiled.1, &compiled.2)
}

fn is_moot(line: &str) {
    let said = findings(line);
    assert_eq!(said.matches("has no meaning here: ").count(), 1, "{said}");
}

/// The first reply of a node with a line before its routes.
fn reply(line: &str) -> String {
    let mut node = node(line, "sl_send_reply(200, \"OK\");");
    node.udp(PHONE, REQUEST);
    node.sent().remove(0).1
}

/// A reply that no transaction knows, from a socket's own Via or another one.
fn stray(line: &str, via: &str) -> (usize, usize) {
    let text = format!("{HEAD}{line}\nroute {{ exit; }}\nonreply_route {{ xlog(\"seen\"); }}");
    let mut node = TestNode::new(&text, MODULES);
    node.udp(
        PHONE,
        &format!(
            "SIP/2.0 180 Ringing\nVia: SIP/2.0/UDP {via};branch=z9hG4bKo\n\
             Via: SIP/2.0/UDP 127.0.0.8;branch=z9hG4bKa\nFrom: <sip:a@h>;tag=f\n\
             To: <sip:b@h>;tag=t\nCall-ID: c\nCSeq: 1 INVITE\nContent-Length: 0\n\n"
        ),
    );
    (node.logs().len(), node.sent().len())
}

fn lines(globals: &str, route: &str) -> usize {
    let mut node = node(globals, route);
    node.udp(PHONE, REQUEST);
    node.logs().len()
}

fn sent_by(globals: &str) -> String {
    let node = node(globals, "exit;");
    let sockets = &node.node().sockets;
    sockets.iter().next().map(|(_, s)| s.sent_by().to_owned()).unwrap_or_default()
}

const OWN: &str = "127.0.0.1:5060";
const FOREIGN: &str = "10.0.0.9:5060";

pub(super) const CHECKS: &[Check] = &[
    ("param advertised_address", || {
        assert_eq!(sent_by(""), "127.0.0.1:5060");
        assert_eq!(sent_by("advertised_address=\"sip.example.org\""), "sip.example.org:5060");
        assert_eq!(sent_by("advertised_address=10.1.2.3"), "10.1.2.3:5060");
    }),
    ("param advertised_port", || {
        assert_eq!(sent_by("advertised_port=5099"), "127.0.0.1:5099");
    }),
    ("param check_via", || {
        assert_eq!(stray("", FOREIGN).0, 1);
        assert_eq!(stray("check_via=yes", FOREIGN).0, 0);
        assert_eq!(stray("check_via=yes", OWN).0, 1);
    }),
    ("param disable_stateless_fwd", || {
        assert_eq!(stray("", OWN).1, 1);
        assert_eq!(stray("disable_stateless_fwd=yes", OWN).1, 0);
        assert_eq!(stray("", FOREIGN).1, 0, "this node is no reflector");
    }),
    ("param user_agent_header", || {
        let of = |line: &str| {
            node(line, "exit;").node().user_agent().map(|l| String::from_utf8_lossy(l).into_owned())
        };
        assert_eq!(of("user_agent_header=\"User-Agent: me\"").unwrap(), "User-Agent: me");
        assert!(of("").unwrap().starts_with("User-Agent: Tandem"));
        assert_eq!(of("server_signature=no"), None);
    }),
    ("param sip_warning", || {
        assert!(!reply("").contains("Warning:"));
        let text = reply("sip_warning=yes");
        assert!(text.contains("Warning: 392 127.0.0.1:5060 \"Noisy feedback tells:"), "{text}");
        assert!(text.contains("req_src_ip=127.0.0.9 req_src_port=5062"), "{text}");
    }),
    // The module tm reads it and has the test of what it changes.
    ("param disable_503_translation", || {
        accepted("disable_503_translation=yes", "disable_503_translation");
    }),
    ("param enable_asserts", || {
        let route = "assert($rm == \"BYE\"); exit;";
        assert_eq!(lines("", route), 0);
        assert_eq!(lines("enable_asserts=yes", route), 1);
    }),
    ("param abort_on_assert", || {
        let mut node = node("enable_asserts=yes\nabort_on_assert=yes", "assert($rm == \"BYE\");");
        node.udp(PHONE, REQUEST);
        assert!(node.fatal().unwrap().contains("assertion"));
    }),
    ("param xlog_level", || {
        let route = "xlog(\"L_INFO\", \"i\"); xlog(\"L_ERR\", \"e\"); log(3, \"l\");";
        assert_eq!(lines("", route), 1);
        assert_eq!(lines("xlog_level=3", route), 2);
        assert_eq!(lines("log_level=3", route), 2);
        assert_eq!(lines("xlog_level=-2", route), 0);
    }),
    ("param xlog_print_level", || {
        assert_eq!(lines("", "xlog(\"x\");"), 1);
        assert_eq!(lines("xlog_print_level=3", "xlog(\"x\");"), 0);
    }),
    ("param debug_mode", || {
        let node = node("debug_mode=yes\nstderror_enabled=no", "exit;");
        assert_eq!(node.node().log_level(), 4);
        assert!(node.node().writes_stderr());
    }),
    ("param log_prefix", || {
        assert_eq!(node("log_prefix=\"a: \"", "exit;").node().log_prefix(), "a: ");
    }),
    ("param tos", || {
        let of = |line: &str| {
            let node = node(line, "exit;");
            let sockets = &node.node().sockets;
            sockets.iter().next().and_then(|(_, s)| s.tos)
        };
        assert_eq!(of(""), None);
        assert_eq!(of("tos=0x68"), Some(0x68));
        assert_eq!(of("tos=IPTOS_LOWDELAY"), Some(0x10));
    }),
    ("param maxbuffer", || {
        let node = node("maxbuffer=65536", "exit;");
        assert_eq!(node.node().recv_buffer_bytes(), Some(65_536));
    }),
    // The server reads these; its own tests see the difference.
    ("param stderror_log_format", || {
        accepted("stderror_log_format=json", "stderror_log_format");
    }),
    ("param syslog_log_format", || accepted("syslog_log_format=json_cee", "syslog_log_format")),
    ("param syslog_level_filter", || accepted("syslog_level_filter=3", "syslog_level_filter")),
    ("param open_files_limit", || accepted("open_files_limit=4096", "open_files_limit")),
    ("param disable_core_dump", || accepted("disable_core_dump=yes", "disable_core_dump")),
    ("param log_stdout", || is_moot("log_stdout = 1")),
    ("param stderror_level_filter", || {
        let node = node("stderror_level_filter=1", "exit;");
        assert!(node.node().writes_stderr_at(Level::Warning));
        assert!(!node.node().writes_stderr_at(Level::Notice));
    }),
    ("param tcp_workers", || is_moot("tcp_workers = 2")),
    ("param timer_workers", || is_moot("timer_workers = 2")),
    ("param tcp_threads", || is_moot("tcp_threads = 1")),
    ("param tcp_threshold", || is_moot("tcp_threshold = 1")),
    ("param auto_scaling_cycle", || is_moot("auto_scaling_cycle = 1")),
    ("param auto_scaling_profile", || is_moot("auto_scaling_profile = \"x\"")),
    ("param mem-group", || is_moot("mem-group = \"x\"")),
    ("param mem_warming", || is_moot("mem_warming = 1")),
    ("param mem_warming_pattern_file", || is_moot("mem_warming_pattern_file = \"x\"")),
    ("param mem_warming_percentage", || is_moot("mem_warming_percentage = 1")),
    ("param memdump", || is_moot("memdump = 1")),
    ("param memlog", || is_moot("memlog = 1")),
    ("param shm_hash_split_percentage", || is_moot("shm_hash_split_percentage = 1")),
    ("param shm_memlog_size", || is_moot("shm_memlog_size = 1")),
    ("param shm_secondary_hash_size", || is_moot("shm_secondary_hash_size = 1")),
    ("param restart_persistency_cache_file", || is_moot("restart_persistency_cache_file = \"x\"")),
    ("param restart_persistency_size", || is_moot("restart_persistency_size = 1")),
    ("param log_json_buf_size", || is_moot("log_json_buf_size = 1")),
    ("param log_msg_buf_size", || is_moot("log_msg_buf_size = 1")),
    ("param pv_print_buf_size", || is_moot("pv_print_buf_size = 1")),
    ("param xlog_buf_size", || is_moot("xlog_buf_size = 1")),
    ("param dns", || is_moot("dns = 1")),
    ("param rev_dns", || is_moot("rev_dns = 1")),
    ("param mcast_loopback", || is_moot("mcast_loopback = 1")),
    ("param mcast_ttl", || is_moot("mcast_ttl = 1")),
    ("param query_buffer_size", || is_moot("query_buffer_size = 1")),
    ("param query_flush_time", || is_moot("query_flush_time = 1")),
    ("param db_max_async_connections", || is_moot("db_max_async_connections = 1")),
    ("param db_version_table", || is_moot("db_version_table = \"x\"")),
    ("param poll_method", || is_moot("poll_method = \"x\"")),
    ("param xlog_force_color", || is_moot("xlog_force_color = 1")),
    ("param auto_aliases", || is_moot("auto_aliases = 1")),
    ("param mhomed", || is_moot("mhomed = 1")),
];

#[test]
fn older_names_come_with_one_note_that_says_what_to_write() {
    for (line, new) in [
        ("children=4", "udp_workers"),
        ("tcp_children=4", "tcp_workers"),
        ("debug=3", "log_level"),
        ("log_stderror=no", "stderror_enabled"),
        ("memlog=1", "has no meaning"),
        ("fork=yes", "remove the line"),
        ("disable_tcp=yes", "remove the line"),
        ("disable_tls=yes", "remove the line"),
        ("tcp_parallel_read_on_workers=1", "remove the line"),
        ("port=5060", "socket"),
    ] {
        let said = findings(line);
        assert!(said.contains(new), "{line}: {said}");
        assert!(said.matches("note[").count() <= 2 && !said.contains("warning["), "{said}");
    }
    let said = findings("udp_workers = 4 use_auto_scaling_profile BUSY");
    assert!(said.contains("auto scaling"), "{said}");
}
