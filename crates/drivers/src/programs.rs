//! Commands of the shell that scripts run.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

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
    /// When it is asked to end, with all that it has started; `None`: never.
    pub ends_after: Option<Duration>,
    /// Whether its standard output and its standard error are read. One that is not goes nowhere,
    /// so that nobody waits for what the command leaves running behind it.
    pub wants: [bool; 2],
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Status of the exit; 128 and the signal's number if a signal ended it.
    pub status: i32,
    pub stdout: Bytes,
    pub stderr: Bytes,
}

/// Runs a command to its end: of the shell, and of all that writes to an output that is read.
///
/// # Errors
/// When it cannot be started, or its pipes break.
pub async fn run(program: Program) -> io::Result<Ended> {
    let output = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(&program.command).envs(program.env.iter().cloned());
    let [wants_stdout, wants_stderr] = program.wants;
    command.stdin(Stdio::piped()).stdout(output(wants_stdout)).stderr(output(wants_stderr));
    // What the shell starts is of its group, and ends with it.
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut stdin = child.stdin.take();
    let pipes = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut status = None;
    let result = {
        let fed = async {
            if let Some(mut pipe) = stdin.take() {
                // A command that does not read its input is no failure.
                let _ = pipe.write_all(&program.stdin).await;
            }
        };
        let outputs = (read(pipes.0, &mut stdout), read(pipes.1, &mut stderr));
        let ended = async {
            status = Some(child.wait().await?);
            Ok(())
        };
        let all = async {
            let ((), a, b, c) = tokio::join!(fed, outputs.0, outputs.1, ended);
            a.and(b).and(c)
        };
        within(all, program.ends_after, group).await
    };
    result?;
    let status = status.map_or(FORCED, |status| {
        use std::os::unix::process::ExitStatusExt as _;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    });
    Ok(Ended { status, stdout: stdout.into(), stderr: stderr.into() })
}

/// The status of what does not even end by force.
const FORCED: i32 = 128 + Signal::SIGKILL as i32;

async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut pipe = pipe.take(OUTPUT_BYTES_MAX);
    pipe.read_to_end(kept).await?;
    tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Waits for the end. After the time that a command has, its group is asked to end, then made to.
/// What has left the group and keeps an output open is left alone.
async fn within(
    end: impl Future<Output = io::Result<()>>,
    ends_after: Option<Duration>,
    group: Option<Pid>,
) -> io::Result<()> {
    let Some(ends_after) = ends_after else { return end.await };
    let mut end = std::pin::pin!(end);
    for (patience, signal) in
        [(ends_after, Signal::SIGTERM), (GRACE, Signal::SIGKILL), (GRACE, Signal::SIGKILL)]
    {
        if let Ok(result) = tokio::time::timeout(patience, &mut end).await {
            return result;
        }
        if let Some(group) = group {
            // It may have ended in this moment.
            let _ = killpg(group, signal);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(program: Program) -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(async {
            let soon = tokio::time::timeout(Duration::from_secs(10), run(program)).await;
            soon.expect("it ends soon").expect("run")
        })
    }

    #[test]
    fn input_goes_in_and_both_outputs_come_back() {
        let program = Program {
            command: "cat; echo $GREETING >&2; exit 3".into(),
            stdin: "in".into(),
            env: vec![("GREETING".into(), "hi".into())],
            ends_after: None,
            wants: [true; 2],
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
        let ended = ran(Program { command, wants: [true; 2], ..Program::default() });
        assert_eq!((ended.status, ended.stdout.len()), (0, 256 << 10));
    }

    /// `sleep` is a child of the shell, and would keep the output open.
    #[test]
    fn what_a_command_has_started_ends_with_it() {
        for command in ["echo begun; sleep 30; echo never", "echo begun; sleep 30 &"] {
            let program = Program {
                command: command.into(),
                ends_after: Some(Duration::from_millis(200)),
                wants: [true; 2],
                ..Program::default()
            };
            assert_eq!(ran(program).stdout, "begun\n", "{command}");
        }
    }

    #[test]
    fn nobody_waits_for_an_output_that_is_not_wanted() {
        let command = "sleep 20 & exit 3".into();
        let ended = ran(Program { command, wants: [false; 2], ..Program::default() });
        assert_eq!((ended.status, ended.stdout), (3, Bytes::new()));
    }
}
