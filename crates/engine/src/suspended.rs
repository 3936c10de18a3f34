//! What modules do with runs that wait.

use std::sync::Arc;

use tandem_script::program::VarId;
use tandem_script::value::Value;
use tandem_script::vm;

use crate::context::Ctx;
use crate::module::Cx;
use crate::node::Job;
use crate::run::host;

impl Cx<'_> {
    /// Continues a suspended run after this step.
    pub fn resume(&mut self, run: u64, code: i32) {
        self.worker.add_job(Job::Resume { run, code });
    }

    /// Has a suspended run call the function it waits for once more, after this step: what the
    /// function lacked is there now.
    pub fn call_again(&mut self, run: u64) {
        self.resume(run, vm::CALL_AGAIN);
    }

    /// Changes the context of a run that waits, e.g. to store a result.
    pub fn with_suspended(&self, run: u64, change: impl FnOnce(&mut Ctx)) {
        if let Some(suspended) = self.node.suspended.lock().get_mut(&run) {
            change(&mut suspended.ctx);
        }
    }

    /// Changes the context of a run that waits, with the node at hand; `None` if the run has gone
    /// on. Nobody else sees the run meanwhile.
    pub fn change_suspended<R>(
        &mut self,
        run: u64,
        change: impl FnOnce(&mut Cx<'_>, &mut Ctx) -> R,
    ) -> Option<R> {
        let mut waiting = self.node.suspended.lock().remove(&run)?;
        let result = change(self, &mut waiting.ctx);
        self.node.suspended.lock().insert(run, waiting);
        Some(result)
    }

    /// Writes a variable of a run that waits, e.g. an output argument of the function that it
    /// waits for.
    ///
    /// # Errors
    /// If the variable cannot have this value.
    pub fn assign_suspended(&mut self, run: u64, var: VarId, value: Value) -> Result<(), String> {
        let Some(mut waiting) = self.node.suspended.lock().remove(&run) else { return Ok(()) };
        let program = Arc::clone(&waiting.script.program);
        let mut host = host(self, &mut waiting.ctx, &program);
        let result = vm::assign_output(&program, &mut waiting.run, var, value, &mut host);
        self.node.suspended.lock().insert(run, waiting);
        result
    }
}
