//! What scripts call and read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_dialog::{Created, Dialogs, Flags};
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx, VarCall, VariableDef};
use tandem_engine::table::variable;
use tandem_nathelper::address;
use tandem_script::host::{Assign, Called};
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;
use tandem_sip::Method;

use crate::NatTraversal;
use crate::endpoints::Endpoint;
use crate::follow::Asked;

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

pub(crate) fn nat_keepalive(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(module) = call.state::<NatTraversal>() else { return NO };
    let method = call.ctx.msg.method();
    if !matches!(method, Method::Register | Method::Subscribe | Method::Invite) {
        let text = "nat_keepalive() is for REGISTER, SUBSCRIBE and INVITE";
        return call.complain(Level::Warning, text);
    }
    if method == Method::Invite && !module.track(call.cx, call.ctx) {
        return NO;
    }
    module.asked(call.ctx).keeps_sender.store(true, Ordering::Relaxed);
    OK
}

impl NatTraversal {
    /// What is kept with a request, made if it is not there.
    pub(crate) fn asked(&self, ctx: &mut Ctx) -> Arc<Asked> {
        if let Some(asked) = ctx.attached.get::<Asked>(self.slot) {
            return asked;
        }
        let asked = Arc::new(Asked::new(ctx.msg.clone(), ctx.source));
        ctx.attached.put(self.slot, Arc::clone(&asked) as _);
        asked
    }

    /// Follows the call of an INVITE; false: the module dialog is not there, or refuses.
    fn track(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> bool {
        if ctx.msg.to_tag().is_some() {
            return false;
        }
        let Some((slot, dialogs)) = cx.node.find::<Dialogs>() else { return false };
        let made = cx.for_slot(slot, |cx| dialogs.create(cx, ctx, Flags::NONE));
        if !matches!(made, Ok(Created::New | Created::Known)) {
            return false;
        }
        self.asked(ctx).tracks.store(true, Ordering::Relaxed);
        true
    }
}

pub(crate) fn fix_contact(call: &mut Call<'_, '_, '_>) -> Called {
    if address::put_source_in_contacts(call.ctx, b"", false) { OK } else { NO }
}

pub(crate) fn client_nat_test(call: &mut Call<'_, '_, '_>) -> Called {
    let tests = call.int(0).unwrap_or(0);
    let (ctx, source) = (&*call.ctx, call.ctx.source.addr);
    let hit = (tests & 1 != 0 && address::has_private_contact(ctx))
        || (tests & 2 != 0 && address::via_differs(ctx, source))
        || (tests & 4 != 0 && address::has_private_via(ctx));
    if hit { OK } else { NO }
}

pub(crate) const VARIABLES: &[VariableDef] = &[
    VariableDef {
        sig: VariableSig {
            name: "keepalive.socket",
            writable: false,
            takes_name: true,
            takes_index: false,
            help: "The socket, as proto:ip:port, from which the endpoint with this URI is kept \
                   alive; null: it is not.",
        },
        get: |call| {
            let Some(module) = call.state::<NatTraversal>() else { return Value::Null };
            let Some(endpoint) = Endpoint::parse(call.access.name) else { return Value::Null };
            let socket = module.endpoints.lock().get(endpoint).map(|entry| entry.socket);
            let socket = socket.and_then(|socket| call.cx.node.sockets.get(socket));
            socket.map_or(Value::Null, |s| Value::str(s.text().as_bytes().to_vec()))
        },
        set: None,
    },
    variable(
        "source_uri",
        "Where the message came from: sip:ip:port, with its transport unless that is UDP.",
        |call| {
            let source = call.ctx.source;
            Value::str(address::source_uri(&call.cx.node.sockets, &source).into_bytes())
        },
    ),
    VariableDef {
        sig: VariableSig {
            name: "nat_traversal.track_dialog",
            writable: true,
            takes_name: false,
            takes_index: false,
            help: "1: the call of this INVITE is followed, and its callee kept alive while it \
                   lasts; 0: it is not.",
        },
        get: |call| Value::Int(i32::from(is_tracked(call))),
        set: Some(set_tracking),
    },
];

fn is_tracked(call: &VarCall<'_, '_>) -> bool {
    let asked = call.ctx.attached.get::<Asked>(call.cx.slot);
    asked.is_some_and(|asked| asked.tracks.load(Ordering::Relaxed))
}

fn set_tracking(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let module = call.state::<NatTraversal>().ok_or("nat_traversal is not loaded")?;
    let wanted = matches!(value, Value::Int(n) if n != 0);
    if !wanted {
        if let Some(asked) = call.ctx.attached.get::<Asked>(call.cx.slot) {
            asked.tracks.store(false, Ordering::Relaxed);
        }
        return Ok(());
    }
    if call.ctx.msg.method() != Method::Invite {
        return Err("only the call of an INVITE can be followed".into());
    }
    let followed = module.track(call.cx, call.ctx);
    followed.then_some(()).ok_or_else(|| "there is no dialog to follow".into())
}
