//! Connections that carry SIP; read by `stream::StreamSettings`.

use tandem_script::sig::{ParamKind, ParamSig};

use super::global;

use ParamKind::{Int, Str};

pub(super) const GLOBALS: &[ParamSig] = &[
    global("tcp_accept_aliases", Int, Some("0"), &[], "Whether `;alias` in Via counts (RFC 5923)."),
    global("tcp_connect_timeout", Int, Some("100"), &[], "ms that a connect may take."),
    global("tcp_connection_lifetime", Int, Some("120"), &[], "Seconds without traffic."),
    global("tcp_keepalive", Int, Some("1"), &[], "Whether the kernel probes silent peers."),
    global("tcp_keepcount", Int, None, &[], "Probes until a peer is dead; default: the system's."),
    global("tcp_keepidle", Int, None, &[], "Seconds until the first probe."),
    global("tcp_keepinterval", Int, None, &[], "Seconds between probes."),
    global("tcp_max_connections", Int, Some("2048"), &[], "Connections, in both directions."),
    global("tcp_max_msg_time", Int, Some("4"), &[], "Seconds until a message must be whole."),
    global(
        "tcp_no_new_conn_bflag",
        Str,
        None,
        &[],
        "Branch flag: no connection is opened for this branch.",
    ),
    global(
        "tcp_no_new_conn_rplflag",
        Str,
        None,
        &[],
        "Message flag: no connection is opened for the replies to this request.",
    ),
    global("tcp_socket_backlog", Int, None, &[], "Connections that wait to be accepted."),
];
