//! Connections as a script and an operator see them: `tcp:list`, `tcp:close` and functions.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};
use tandem_cluster::ConnId;
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::bin_links::BinLink;
use crate::date;
use crate::effect::Effect;
use crate::mi::{MiCall, MiDef, MiOutcome};
use crate::module::{Cx, FunctionDef};
use crate::sockets::Proto;
use crate::stream::{StreamId, StreamView};
use crate::table::{arg, function, mi_text, optional};

const PORT: &[ArgSig] = &[optional("port_alias", ArgKind::Int)];
const CONN: &[ArgSig] = &[arg("conn", ArgKind::Str)];

/// Transports of connections that `tcp:list` may be asked for.
const PROTOS: &[&str] = &["tcp", "tls", "ws", "wss", "bin", "bins", "hep_tcp", "hep_tls"];

pub(super) const FORCE_TCP_ALIAS: FunctionDef = function(
    "force_tcp_alias",
    PORT,
    Routes::ANY,
    "Requests to the sender's Via port, or to this port, use the connection of this message.",
    |call| {
        let given = call.int(0).map(u16::try_from);
        let port = match given {
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => None,
            None => call.ctx.msg.top_via().ok().map(|via| via.port_or_default()),
        };
        let done = port.is_some_and(|port| call.cx.node.streams.alias(&call.ctx.source, port));
        Called::Returned(if done { 1 } else { -1 })
    },
);

pub(super) const TCP_CLOSE_CONN: FunctionDef = function(
    "tcp_close_conn",
    CONN,
    Routes::ANY,
    "Closes a connection: its id, ip:port or proto:ip:port.",
    |call| {
        let text = call.text(0);
        let closed = std::str::from_utf8(&text).is_ok_and(|text| close(call.cx, text));
        Called::Returned(if closed { 1 } else { -1 })
    },
);

pub(super) const COMMANDS: &[MiDef] = &[LIST, CLOSE];

const LIST: MiDef = MiDef {
    name: "tcp:list",
    old_names: &["list_tcp_conns"],
    param_sets: &[&[], &[mi_text("proto")]],
    help: "The connections, by id.",
    run: list,
};

const CLOSE: MiDef = MiDef {
    name: "tcp:close",
    old_names: &[],
    param_sets: &[&[mi_text("ipport")]],
    help: "Closes the connections with this address at either end.",
    run: |call| {
        let text = call.text("ipport").unwrap_or_default();
        if close(call.cx, &text) {
            MiOutcome::ok()
        } else {
            MiOutcome::failed(400, "Bad tcp connection")
        }
    },
};

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let wanted = call.text("proto").map(|p| p.to_ascii_lowercase());
    if let Some(proto) = &wanted
        && !PROTOS.contains(&proto.as_str())
    {
        return MiOutcome::failed(400, "Bad protocol");
    }
    let (streams, links) = (call.cx.node.streams.list(), call.cx.node.membership.links());
    let bin = links.iter().map(|link| bin_row(call.cx, link));
    let rows = streams.iter().map(|view| row(call.cx, view)).chain(bin);
    let rows = rows.filter(|row| wanted.as_ref().is_none_or(|p| row["Type"] == p.as_str()));
    MiOutcome::Done(json!({"Connections": rows.collect::<Vec<Json>>()}))
}

fn row(cx: &Cx<'_>, view: &StreamView) -> Json {
    let proto = cx.node.sockets.get(view.socket).map_or("tcp", |s| s.proto.text());
    // The lifetime as a date, by the clock of this moment.
    let left_s = view.until.saturating_sub(cx.now.mono_ns) / tandem_clock::SEC;
    json!({
        "ID": view.id.number(),
        "Type": proto,
        "State": if view.open { 0 } else { 1 },
        "Remote": view.remote.to_string(),
        "Local": view.local.to_string(),
        "Lifetime": date::iso(cx.now.unix_s() + left_s),
        "Alias port": view.alias_port,
    })
}

fn bin_row(cx: &Cx<'_>, link: &BinLink) -> Json {
    let ours = cx.node.sockets.iter().find(|(_, s)| s.proto == Proto::Bin).map(|(_, s)| s.addr);
    let local = match (link.local, link.conn) {
        (None, ConnId::Outgoing(_)) => ours.map(|addr| SocketAddr::new(addr.ip(), 0)),
        (local, _) => local.or(ours),
    };
    let lifetime_s = u64::from(cx.node.streams.settings.lifetime_s);
    json!({
        "ID": link.number(),
        "Type": Proto::Bin.text(),
        "State": if link.open { 0 } else { 1 },
        "Remote": link.remote.to_string(),
        "Local": local.map(|addr| addr.to_string()).unwrap_or_default(),
        "Lifetime": date::iso(cx.now.unix_s() + lifetime_s),
        "Alias port": link.remote.port(),
    })
}

/// Closes what the text names; false if nothing has that name.
fn close(cx: &mut Cx<'_>, text: &str) -> bool {
    let streams = &cx.node.streams;
    let conns = match text.parse::<u64>() {
        Ok(number) => streams.by_number(number).into_iter().collect(),
        Err(_) => {
            let addr =
                text.split_once(':').filter(|(p, _)| PROTOS.contains(p)).map_or(text, |p| p.1);
            addr.parse::<SocketAddr>().map_or_else(|_| Vec::new(), |addr| streams.at(addr))
        }
    };
    let found = !conns.is_empty();
    for conn in conns {
        cx.out.push(Effect::StreamClose { conn });
    }
    found
}

impl StreamId {
    /// As it is shown: accepted connections have odd numbers, those of ours even ones.
    pub fn number(self) -> u64 {
        let accepted = self.0 >> 63;
        ((self.0 & !(1 << 63)) << 1) | accepted
    }
}
