//! Runs that wait for an answer.

use super::Suspended;
use crate::log::Level;
use crate::module::Cx;
use crate::node::{Job, SUSPENDED_MAX};

/// Keeps a run that waits; it comes back when there is no room.
pub(super) fn keep(cx: &mut Cx<'_>, key: Option<u64>, it: Suspended) -> Result<(), Box<Suspended>> {
    let Some(key) = key else {
        cx.log(Level::Error, "a function suspended without saying what it waits for");
        return Err(Box::new(it));
    };
    let mut table = cx.node.suspended.lock();
    if table.len() < SUSPENDED_MAX {
        table.insert(key, it);
        if let Some(code) = cx.node.early_answers.lock().remove(&key) {
            cx.worker.add_job(Job::Resume { run: key, code });
        }
        return Ok(());
    }
    drop(table);
    cx.log(Level::Error, format!("more than {SUSPENDED_MAX} suspended runs: one was given up"));
    Err(Box::new(it))
}
