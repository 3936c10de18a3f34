//! Commands of the shell that scripts run.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Bytes of one output that are kept; the rest is read and forgotten.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;
/// Between the request to end and the end by force.
const GRACE: Duration = Duration::from_secs(2);

/// A command for `/bin/sh`.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub command: String,
    pub stdin: Bytes,
    /// Added to the environment of this process.
    pub env: Vec<(String, String)>,
    /// When it is asked to end; `None`: never.
    pub ends_after: Option<Duration>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Status of the exit; 128 and the signal's number if a signal ended it.
    pub status: i32,
    pub stdout: Bytes,
    pub stderr: Bytes,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or its pipes break.
pub async fn run(program: Program) -> io::Result<Ended> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(&program.command).envs(program.env.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let fed = async {
        if let Some(mut pipe) = stdin.take() {
            // A command that does not read its input is no failure.
            let _ = pipe.write_all(&program.stdin).await;
        }
    };
    let ended = wait(&mut child, program.ends_after);
    let ((), stdout, stderr, status) = tokio::join!(fed, read(stdout), read(stderr), ended);
    Ok(Ended { status: status?, stdout: stdout?, stderr: stderr? })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Bytes> {
    let Some(pipe) = pipe else { return Ok(Bytes::new()) };
    let mut kept = Vec::new();
    let mut pipe = pipe.take(OUTPUT_BYTES_MAX);
    pipe.read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await?;
    Ok(Bytes::from(kept))
}

async fn wait(child: &mut Child, ends_after: Option<Duration>) -> io::Result<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = match ends_after {
        None => child.wait().await?,
        Some(after) => match tokio::time::timeout(after, child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                    // It may have ended in this moment.
                    let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                }
                match tokio::time::timeout(GRACE, child.wait()).await {
                    Ok(status) => status?,
                    Err(_) => {
                        child.start_kill()?;
                        child.wait().await?
                    }
                }
            }
        },
    };
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(program: Program) -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(run(program)).expect("run")
    }

    #[test]
    fn input_goes_in_and_both_outputs_come_back() {
        let program = Program {
            command: "cat; echo $GREETING >&2; exit 3".into(),
            stdin: "in".into(),
            env: vec![("GREETING".into(), "hi".into())],
            ends_after: None,
        };
        let ended = Ended { status: 3, stdout: "in".into(), stderr: "hi\n".into() };
        assert_eq!(ran(program), ended);
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let program = Program {
            command: "exec sleep 60".into(),
            ends_after: Some(Duration::from_millis(50)),
            ..Program::default()
        };
        assert_eq!(ran(program).status, 128 + 15);
    }

    #[test]
    fn a_command_may_say_more_than_is_kept() {
        let command = "head -c 1000000 /dev/zero".into();
        let ended = ran(Program { command, ..Program::default() });
        assert_eq!((ended.status, ended.stdout.len()), (0, 256 << 10));
    }
}
