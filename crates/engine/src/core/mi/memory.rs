//! Memory: what the process uses, as lines in the log.

use crate::log::Level;
use crate::mi::{MiCall, MiDef, MiOutcome, MiParam, RpcError};
use crate::table::{command, mi_int};

const LEVEL: &[MiParam] = &[mi_int("log_level")];
const PID: &[MiParam] = &[mi_int("pid")];
const PID_LEVEL: &[MiParam] = &[mi_int("pid"), mi_int("log_level")];

pub(super) const COMMANDS: &[MiDef] = &[
    command(
        "mem:shm_check",
        &["mem_shm_check"],
        &[&[]],
        "Looks for damage in shared memory; the allocator here checks as it goes.",
        |_| MiOutcome::Failed(RpcError::server_error("Command handler returned null")),
    ),
    command(
        "mem:pkg_dump",
        &["mem_pkg_dump"],
        &[PID, PID_LEVEL],
        "Writes the memory of the process to the log.",
        |call| {
            if call.int("pid") != Some(i64::from(call.cx.node.pid())) {
                return MiOutcome::failed(404, "Process not found");
            }
            dump(call)
        },
    ),
    command(
        "mem:shm_dump",
        &["mem_shm_dump"],
        &[&[], LEVEL],
        "Writes the memory of the process to the log.",
        dump,
    ),
    command(
        "mem:rpm_dump",
        &["mem_rpm_dump"],
        &[&[], LEVEL],
        "Writes to the log what memory outlives a restart.",
        |call| {
            let text =
                "memory: none outlives a restart; peers and databases give back what is lost";
            call.cx.log(level(call), text);
            MiOutcome::ok()
        },
    ),
];

fn level(call: &MiCall<'_, '_>) -> Level {
    Level::from_number(call.int("log_level").unwrap_or(3).clamp(-3, 4) as i32)
}

fn dump(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let level = level(call);
    let memory = &call.cx.node.memory;
    let text = format!(
        "memory: {} bytes in use, {} at most since the start, {} allowed",
        memory.used(),
        memory.peak(),
        memory.total()
    );
    let waiting = call.cx.node.suspended.lock().len();
    call.cx.log(level, text);
    call.cx.log(level, format!("memory: {waiting} runs of scripts wait for an answer"));
    MiOutcome::ok()
}
