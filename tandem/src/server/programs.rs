//! Commands of the shell that scripts run, each a task of the control thread.

use std::time::Duration;

use tandem_drivers::programs;
use tandem_engine::effect::{Command, Ended, Input};
use tokio::sync::mpsc;

/// Runs a command and tells the node how it ended.
pub(super) async fn run(done: mpsc::Sender<Input>, token: u64, command: Command) {
    let Command { command, stdin, env, ends_after_s, wants } = command;
    let ends_after = ends_after_s.map(|s| Duration::from_secs(u64::from(s)));
    let program = programs::Program { command, stdin, env, ends_after, wants };
    let ended = programs::run(program).await;
    let result = match ended {
        Ok(programs::Ended { status, stdout, stderr }) => Ok(Ended { status, stdout, stderr }),
        Err(e) => Err(format!("the command cannot be run: {e}")),
    };
    // Nobody waits for it when the node ends.
    let _ = done.send(Input::ProgramEnded { token, result }).await;
}
