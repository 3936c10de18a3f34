//! Script functions.

use std::sync::Arc;

use tandem_dialog::{Change, Created, Flags};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_tm::Tm;

use crate::plan::{Branch, CALLEE, CALLER, Party, Plan};
use crate::state::DialogInfo;
use crate::watch::Watched;

const SIDE: &[ArgSig] = &[ArgSig { check: Some(check_side), ..optional("side", ArgKind::Str) }];

/// The function table.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "dialoginfo_set",
        SIDE,
        Routes::REQUEST,
        "Publishes the states of the call of an INVITE, for its caller (A), its callee (B), or \
         both. It makes the dialog if there is none.",
        dialoginfo_set,
    ),
    function(
        "dialoginfo_set_branch_callee",
        &[arg("callee", ArgKind::Str)],
        Routes::BRANCH,
        "Says who is called on this branch; it is published beside the others.",
        set_branch_callee,
    ),
    function(
        "dialoginfo_mute_branch",
        SIDE,
        Routes::BRANCH,
        "Publishes nothing of this branch, for the caller (A), the callee (B), or both.",
        mute_branch,
    ),
];

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

fn side(text: &[u8]) -> Option<u8> {
    match text {
        b"" => Some(CALLER | CALLEE),
        b"A" | b"a" => Some(CALLER),
        b"B" | b"b" => Some(CALLEE),
        _ => None,
    }
}

/// Judges a literal.
fn check_side(text: &str) -> Result<(), String> {
    side(text.as_bytes()).map(|_| ()).ok_or_else(|| "a side is A, the caller, or B".into())
}

fn dialoginfo_set(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(info) = call.state::<DialogInfo>() else { return NO };
    let Some(sides) = side(&call.text(0)) else {
        return call.complain(Level::Error, "dialoginfo_set: a side is A, the caller, or B");
    };
    let Some(dialogs) = info.dialogs(call.cx) else { return NO };
    if call.ctx.msg.to_tag().is_some() {
        return call.complain(Level::Error, "dialoginfo_set: only the INVITE that begins a call");
    }
    match dialogs.create(call.cx, call.ctx, Flags::NONE) {
        Ok(Created::New | Created::Known) => {}
        Ok(Created::DealtWith) => return Called::Returned(0),
        Err(why) => return call.complain(Level::Error, format!("dialoginfo_set: {why}")),
    }
    let Some(current) = dialogs.current(call.ctx) else { return NO };
    let msg = call.ctx.msg.clone();
    let from = msg.from().ok().and_then(|a| Party::new(a.uri, &a.display_text()));
    let to = msg.to().ok().and_then(|a| Party::new(a.uri, &a.display_text()));
    let caller = party(call, info.params.caller).or(from);
    let callee = party(call, info.params.callee).or(to);
    let (Some(caller), Some(callee)) = (caller, callee) else {
        let text = "dialoginfo_set: caller and callee must be sip: URIs";
        return call.complain(Level::Error, text);
    };
    let plan = Plan { caller, callee, sides, ..Plan::default() };
    let kept = dialogs.change(call.cx, current.id, Change::Many(plan.changes()));
    let is_there = dialogs.read(current.id, |d| Plan::of(d).is_some());
    if let (Err(_), _) | (_, None | Some(false)) = (kept, is_there) {
        return call.complain(Level::Error, "dialoginfo_set: the dialog is full");
    }
    call.ctx.attached.put(call.cx.slot, Arc::new(Watched::new(current.id)));
    OK
}

/// The party that a variable of the configuration names.
fn party(call: &mut Call<'_, '_, '_>, var: Option<VarId>) -> Option<Party> {
    let text = call.read(var?).into_bytes().filter(|text| !text.is_empty())?;
    let party = Party::parse(&text);
    if party.is_none() {
        let text = String::from_utf8_lossy(&text).into_owned();
        call.complain(Level::Warning, format!("dialoginfo_set: `{text}` is no sip: URI"));
    }
    party
}

fn set_branch_callee(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(callee) = Party::parse(&call.text(0)) else {
        let text = "dialoginfo_set_branch_callee: the callee must be a sip: URI";
        return call.complain(Level::Error, text);
    };
    change_branch(call, |branch| branch.callee = Some(callee))
}

fn mute_branch(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(sides) = side(&call.text(0)) else {
        let text = "dialoginfo_mute_branch: a side is A, the caller, or B";
        return call.complain(Level::Error, text);
    };
    change_branch(call, |branch| branch.mute |= sides)
}

/// Changes what the dialog keeps of the branch.
fn change_branch(call: &mut Call<'_, '_, '_>, change: impl FnOnce(&mut Branch)) -> Called {
    let Some(info) = call.state::<DialogInfo>() else { return NO };
    let Some(dialogs) = info.dialogs(call.cx) else { return NO };
    let Some(watched) = call.ctx.attached.get::<Watched>(call.cx.slot) else {
        let text = format!("{}: call dialoginfo_set() in the route of the INVITE", call.site.name);
        return call.complain(Level::Warning, text);
    };
    let number = call.cx.node.find::<Tm>().and_then(|(slot, tm)| tm.branch_of(slot, call.ctx));
    let plan = dialogs.read(watched.id, Plan::of).flatten();
    let (Some(number), Some(mut plan)) = (number, plan) else { return NO };
    let Some(branch) = plan.branch_mut(number) else {
        let text = format!("{}: the call has too many branches", call.site.name);
        return call.complain(Level::Error, text);
    };
    change(branch);
    match dialogs.change(call.cx, watched.id, plan.section()) {
        Ok(_) => OK,
        Err(why) => {
            let text = format!("{}: {why}", call.site.name);
            call.complain(Level::Error, text)
        }
    }
}
