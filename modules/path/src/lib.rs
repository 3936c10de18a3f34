//! `path`: the way back to a phone, for the registrar behind this node (RFC 3327).

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::context::{Ctx, RecordRoute};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module, ModuleDef};
use tandem_engine::table::{function, optional, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Dependency, ParamKind, Routes};
use tandem_sip::{Params, Uri, unescape};

/// The table of `path`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "path",
    help: "The way back to a phone, for the registrar behind this node (RFC 3327).",
    dependencies: &[Dependency { module: "rr", when_param: "use_received" }],
    params: &[
        param(
            "use_received",
            ParamKind::Int,
            Some("0"),
            "1: loose_route() sends where `received` of our Route says.",
        ),
        param(
            "enable_double_path",
            ParamKind::Int,
            Some("1"),
            "1: two Path headers when a request leaves from another socket than it came to.",
        ),
    ],
    functions: &[
        function(
            "add_path",
            USER,
            Routes::REQUEST,
            "Adds a Path header with this node's address.",
            |call| add(call, false),
        ),
        function(
            "add_path_received",
            USER,
            Routes::REQUEST,
            "The same, with the source of the request as parameter `received`.",
            |call| add(call, true),
        ),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const USER: &[ArgSig] = &[optional("user", ArgKind::Str)];

struct Path {
    use_received: bool,
    double: bool,
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let on = |name: &str| build.int(name).is_some_and(|n| n != 0);
    Ok(Arc::new(Path { use_received: on("use_received"), double: on("enable_double_path") }))
}

impl Module for Path {
    fn route_taken(&self, _cx: &mut Cx<'_>, ctx: &mut Ctx, params: &[u8]) {
        let received = Params::new(params).value(b"received").filter(|_| self.use_received);
        let uri = received.map(|value| unescape(value).into_owned());
        if let Some(uri) = uri.filter(|uri| Uri::parse(uri).is_ok()) {
            ctx.target.dst_uri = Some(Bytes::from(uri));
        }
    }
}

fn add(call: &mut Call<'_, '_, '_>, received: bool) -> Called {
    let Some(state) = call.state::<Path>() else { return Called::Returned(-1) };
    if call.ctx.own_path.is_some() {
        return call.complain(Level::Error, "a Path was added to this message before");
    }
    let user = call.text(0);
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.!~*'()+&=$,?/%".contains(b);
    if !user.iter().all(plain) {
        return call.complain(Level::Error, "the user of a Path has no blanks and brackets");
    }
    let params = if received { source(call) } else { Bytes::new() };
    call.ctx.own_path =
        Some(RecordRoute { wanted: true, user, params, double: state.double, preset: Vec::new() });
    Called::Returned(1)
}

/// `;received=sip:ADDRESS`, with the transport's `;` and `=` escaped.
fn source(call: &Call<'_, '_, '_>) -> Bytes {
    let source = &call.ctx.source;
    let reliable = call.cx.node.sockets.is_reliable(source.socket);
    let transport = if reliable { "%3Btransport%3Dtcp" } else { "" };
    Bytes::from(format!(";received=sip:{}{transport}", source.addr))
}
