//! Functions that change where a request goes.

use bytes::Bytes;
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;
use tandem_sip::Uri;

use crate::log::Level;
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, optional};
use crate::uri_edit::{Part, with_part};

const HOST: &[ArgSig] = &[arg("host", ArgKind::Str)];
const HOSTPORT: &[ArgSig] = &[arg("hostport", ArgKind::Str)];
const USER: &[ArgSig] = &[arg("user", ArgKind::Str)];
const PORT: &[ArgSig] = &[arg("port", ArgKind::Str)];
const URI: &[ArgSig] = &[arg("uri", ArgKind::Str)];
const TEXT: &[ArgSig] = &[arg("text", ArgKind::Str)];
const COUNT: &[ArgSig] = &[arg("n", ArgKind::Int)];
const SOCKET: &[ArgSig] = &[arg("socket", ArgKind::Str)];
const BOND: &[ArgSig] = &[arg("socket", ArgKind::Str), arg("bond", ArgKind::Str)];
const MYSELF: &[ArgSig] = &[arg("host", ArgKind::Str), optional("port", ArgKind::Int)];

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);

pub(super) const SOCKET_BELONGS_TO_BOND: FunctionDef = function(
    "socket_belongs_to_bond",
    BOND,
    Routes::ANY,
    "Whether a socket is one of those that a bond (`socket = bond:NAME {...}`) holds.",
    |call| {
        let (socket, bond) = (call.text(0), call.text(1));
        let (socket, name) = (String::from_utf8_lossy(&socket), String::from_utf8_lossy(&bond));
        let sockets = &call.cx.node.sockets;
        let Some(members) = sockets.bond(&name) else {
            return call.complain(Level::Error, format!("there is no bond `{name}`"));
        };
        let found = sockets.named(&socket).or_else(|| sockets.equal(&socket));
        if found.is_some_and(|id| members.contains(&id)) { OK } else { FAILED }
    },
);

pub(super) const SETHOST: FunctionDef =
    function("sethost", HOST, Routes::ANY, "Replaces the domain of the R-URI.", |call| {
        edit(call, Part::Host)
    });

pub(super) const SETHOSTPORT: FunctionDef = function(
    "sethostport",
    HOSTPORT,
    Routes::ANY,
    "Replaces domain and port of the R-URI.",
    |call| edit(call, Part::HostPort),
);

pub(super) const SETUSER: FunctionDef =
    function("setuser", USER, Routes::ANY, "Replaces the user of the R-URI.", |call| {
        edit(call, Part::User)
    });

pub(super) const SETUSERPASS: FunctionDef = function(
    "setuserpass",
    &[arg("pass", ArgKind::Str)],
    Routes::ANY,
    "Replaces the password of the R-URI.",
    |call| edit(call, Part::Password),
);

pub(super) const SETPORT: FunctionDef =
    function("setport", PORT, Routes::ANY, "Replaces the port of the R-URI.", |call| {
        edit(call, Part::Port)
    });

pub(super) const SETURI: FunctionDef =
    function("seturi", URI, Routes::ANY, "Replaces the whole R-URI.", |call| {
        let uri = call.text(0);
        if Uri::parse(&uri).is_err() {
            return FAILED;
        }
        call.ctx.target.uri = Some(uri);
        OK
    });

pub(super) const PREFIX: FunctionDef =
    function("prefix", TEXT, Routes::ANY, "Puts text in front of the R-URI's user.", |call| {
        let text = call.text(0);
        change_user(call, |user| Some([&text, user].concat()))
    });

pub(super) const STRIP: FunctionDef = function(
    "strip",
    COUNT,
    Routes::ANY,
    "Drops the first characters of the R-URI's user.",
    |call| {
        let n = count(call);
        change_user(call, |user| user.get(n..).map(<[u8]>::to_vec))
    },
);

pub(super) const STRIP_TAIL: FunctionDef = function(
    "strip_tail",
    COUNT,
    Routes::ANY,
    "Drops the last characters of the R-URI's user.",
    |call| {
        let n = count(call);
        change_user(call, |user| Some(user.get(..user.len().checked_sub(n)?)?.to_vec()))
    },
);

pub(super) const REVERT_URI: FunctionDef =
    function("revert_uri", &[], Routes::ANY, "Restores the received R-URI.", |call| {
        call.ctx.target.uri = None;
        OK
    });

pub(super) const SETDSTURI: FunctionDef =
    function("setdsturi", URI, Routes::ANY, "Sets $du.", |call| {
        let uri = call.text(0);
        if Uri::parse(&uri).is_err() {
            return FAILED;
        }
        call.ctx.target.dst_uri = Some(uri);
        OK
    });

pub(super) const RESETDSTURI: FunctionDef =
    function("resetdsturi", &[], Routes::ANY, "Clears $du.", |call| {
        call.ctx.target.dst_uri = None;
        OK
    });

pub(super) const ISDSTURISET: FunctionDef =
    function("isdsturiset", &[], Routes::ANY, "Tests whether $du is set.", |call| {
        if call.ctx.target.dst_uri.is_some() { OK } else { FAILED }
    });

pub(super) const FORCE_RPORT: FunctionDef = function(
    "force_rport",
    &[],
    Routes::ANY,
    "Acts as if the top Via had rport (RFC 3581).",
    |call| {
        call.ctx.force_rport = true;
        OK
    },
);

pub(super) const FORCE_SEND_SOCKET: FunctionDef = function(
    "force_send_socket",
    SOCKET,
    Routes::ANY,
    "Chooses the socket to send from.",
    |call| {
        let text = call.text(0);
        let socket = std::str::from_utf8(&text).ok().and_then(|t| call.cx.node.sockets.named(t));
        match socket {
            Some(socket) => {
                call.ctx.target.socket = Some(socket);
                OK
            }
            None => call.complain(
                Level::Error,
                format!("{} is no socket of this node", String::from_utf8_lossy(&text)),
            ),
        }
    },
);

pub(super) const IS_MYSELF: FunctionDef = function(
    "is_myself",
    MYSELF,
    Routes::ANY,
    "Tests whether a host, and a port if given, are this node.",
    |call| {
        let host = call.text(0);
        let port = call.int(1).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
        if call.cx.node.sockets.is_myself(&host, port) { OK } else { FAILED }
    },
);

fn edit(call: &mut Call<'_, '_, '_>, part: Part) -> Called {
    let value = call.text(0);
    match with_part(call.ctx.request_uri(), part, &value) {
        Some(uri) => {
            call.ctx.target.uri = Some(uri);
            OK
        }
        None => FAILED,
    }
}

fn change_user(
    call: &mut Call<'_, '_, '_>,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Called {
    let uri = call.ctx.request_uri();
    let user = Uri::parse(uri).ok().and_then(|u| u.user);
    let changed = user.and_then(change).and_then(|user| with_part(uri, Part::User, &user));
    match changed {
        Some(uri) => {
            call.ctx.target.uri = Some(uri);
            OK
        }
        None => FAILED,
    }
}

fn count(call: &Call<'_, '_, '_>) -> usize {
    call.int(0).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// The q that a script assigns: 0 to 1000, the text of a Contact (`"0.7"`), or none with NULL.
pub(crate) fn assigned_q(value: &Value) -> Result<Option<u16>, String> {
    let q = match value {
        Value::Null => return Ok(None),
        Value::Str(text) => parse_q(text),
        _ => value.int().and_then(|q| u16::try_from(q).ok()).filter(|q| *q <= 1000),
    };
    q.map(Some).ok_or_else(|| "q goes from 0 to 1000, or from \"0\" to \"1\" as a text".into())
}

/// `0.7` as 700.
pub(crate) fn parse_q(text: &Bytes) -> Option<u16> {
    let q: f32 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    (0.0..=1.0).contains(&q).then(|| (q * 1000.0).round() as u16)
}
