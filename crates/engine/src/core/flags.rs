//! Message flags and branch flags.

use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::module::{Call, FunctionDef};
use crate::table::{function, literal, optional};

const FLAG: &[ArgSig] = &[literal("flag", ArgKind::MessageFlag)];
const BRANCH_FLAG: &[ArgSig] =
    &[literal("flag", ArgKind::BranchFlag), optional("branch_idx", ArgKind::Int)];

pub(super) const SETFLAG: FunctionDef =
    function("setflag", FLAG, Routes::ANY, "Sets a message flag.", |call| {
        call.ctx.flags |= message_bit(call);
        Called::Returned(1)
    });

pub(super) const RESETFLAG: FunctionDef =
    function("resetflag", FLAG, Routes::ANY, "Clears a message flag.", |call| {
        call.ctx.flags &= !message_bit(call);
        Called::Returned(1)
    });

pub(super) const ISFLAGSET: FunctionDef =
    function("isflagset", FLAG, Routes::ANY, "Tests a message flag.", |call| {
        Called::Returned(if call.ctx.flags & message_bit(call) != 0 { 1 } else { -1 })
    });

pub(super) const SETBFLAG: FunctionDef = function(
    "setbflag",
    BRANCH_FLAG,
    Routes::ANY,
    "Sets a branch flag; index 0 is the R-URI branch.",
    |call| {
        let bit = branch_bit(call);
        on_branch(call, |flags| *flags |= bit)
    },
);

pub(super) const RESETBFLAG: FunctionDef =
    function("resetbflag", BRANCH_FLAG, Routes::ANY, "Clears a branch flag.", |call| {
        let bit = branch_bit(call);
        on_branch(call, |flags| *flags &= !bit)
    });

pub(super) const ISBFLAGSET: FunctionDef =
    function("isbflagset", BRANCH_FLAG, Routes::ANY, "Tests a branch flag.", |call| {
        let bit = branch_bit(call);
        let mut set = false;
        match on_branch(call, |flags| set = *flags & bit != 0) {
            Called::Returned(1) if set => Called::Returned(1),
            _ => Called::Returned(-1),
        }
    });

fn message_bit(call: &Call<'_, '_, '_>) -> u32 {
    match call.ready(0) {
        Some(Ready::MessageFlag(bit)) => 1u32.checked_shl(u32::from(*bit)).unwrap_or(0),
        _ => 0,
    }
}

fn branch_bit(call: &Call<'_, '_, '_>) -> u32 {
    match call.ready(0) {
        Some(Ready::BranchFlag(bit)) => 1u32.checked_shl(u32::from(*bit)).unwrap_or(0),
        _ => 0,
    }
}

fn on_branch(call: &mut Call<'_, '_, '_>, change: impl FnOnce(&mut u32)) -> Called {
    let index = call.int(1).unwrap_or(0);
    let flags = match usize::try_from(index) {
        Ok(0) => Some(&mut call.ctx.target.flags),
        Ok(n) => call.ctx.branches.get_mut(n - 1).map(|b| &mut b.flags),
        Err(_) => None,
    };
    match flags {
        Some(flags) => {
            change(flags);
            Called::Returned(1)
        }
        None => Called::Returned(-1),
    }
}
