//! `tandem pair`: an active and a backup node on this machine, as two real processes.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use tandem_db::{Query, Value};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const NODES: [Node; 2] = [
    Node {
        id: 1,
        address: "127.0.1.1",
        role: "active",
        script: include_str!("../../examples/hot-standby/node1.cfg"),
    },
    Node {
        id: 2,
        address: "127.0.1.2",
        role: "backup",
        script: include_str!("../../examples/hot-standby/node2.cfg"),
    },
];

struct Node {
    id: u32,
    address: &'static str,
    role: &'static str,
    script: &'static str,
}

impl Node {
    fn fifo(&self) -> String {
        format!("/tmp/tandem_fifo_{}", self.id)
    }

    fn dir(&self, base: &Path) -> PathBuf {
        base.join(format!("node{}", self.id))
    }

    /// What starts this node, in the folder of the pair.
    fn command(&self) -> Vec<String> {
        let dir = format!("node{}", self.id);
        [
            "-f".into(),
            format!("{dir}/node{}.cfg", self.id),
            "--state-dir".into(),
            format!("{dir}/state"),
        ]
        .into()
    }
}

/// Runs the pair until Ctrl-C.
pub fn run(dir: Option<PathBuf>) -> ExitCode {
    let dir = dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("tandem-pair-{}", rustix::process::getuid().as_raw()))
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&format!("no event loop: {e}")),
    };
    match runtime.block_on(pair(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => failed(&text),
    }
}

fn failed(text: &str) -> ExitCode {
    eprintln!("tandem pair: {text}");
    ExitCode::FAILURE
}

async fn pair(dir: &Path) -> Result<(), String> {
    let dir = prepare(dir).await?;
    let cannot = |e: std::io::Error| format!("no signals: {e}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let (ended, mut ends) = mpsc::channel(NODES.len());
    let mut running = Vec::new();
    for node in &NODES {
        running.push(start(node, &dir, ended.clone())?);
    }
    explain(&dir, &running);
    let mut left = running.len();
    let mut result = Ok(());
    while left > 0 {
        tokio::select! {
            Some((id, status)) = ends.recv() => {
                left -= 1;
                println!("node {id} has ended: {}", describe(status));
                // A node that was killed is part of the play; one that could not start is not.
                if status.is_some_and(|s| s.code().is_some_and(|c| c != 0)) {
                    result = Err(format!("node {id} could not run; its lines above say why"));
                    break;
                }
                if left > 0 {
                    println!("start it again with: {}", restart_line(&dir, id));
                }
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    stop(&running, &mut ends, left).await;
    result
}

/// Makes the folder: scripts, links, the database with the rows of the cluster. What an earlier
/// pair left there is replaced, so that node 1 starts as the active.
async fn prepare(dir: &Path) -> Result<PathBuf, String> {
    let cannot = |what: &str, path: &Path, e: std::io::Error| {
        format!("cannot {what} {}: {e}", path.display())
    };
    let marker = dir.join("tandem-pair");
    let used = dir.read_dir().is_ok_and(|mut d| d.next().is_some());
    if used && !marker.exists() {
        return Err(format!(
            "{} is not empty and not a folder of a pair; name another with --dir",
            dir.display()
        ));
    }
    if used {
        std::fs::remove_dir_all(dir).map_err(|e| cannot("clear", dir, e))?;
    }
    std::fs::create_dir_all(dir).map_err(|e| cannot("make", dir, e))?;
    std::fs::write(&marker, "made by `tandem pair`\n").map_err(|e| cannot("write", &marker, e))?;
    let dir = dir.canonicalize().map_err(|e| cannot("find", dir, e))?;
    let program = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    for node in &NODES {
        let own = node.dir(&dir);
        std::fs::create_dir_all(&own).map_err(|e| cannot("make", &own, e))?;
        let script = own.join(format!("node{}.cfg", node.id));
        std::fs::write(&script, node.script).map_err(|e| cannot("write", &script, e))?;
        let rc = own.join("tandemctlrc");
        let line = format!("OSIPS_FIFO=\"{}\"\n", node.fifo());
        std::fs::write(&rc, line).map_err(|e| cannot("write", &rc, e))?;
        for name in ["tandemctl", "opensipsctl"] {
            let link = own.join(name);
            symlink(&program, &link).map_err(|e| cannot("link", &link, e))?;
        }
    }
    make_database(&dir).await?;
    Ok(dir)
}

async fn make_database(dir: &Path) -> Result<(), String> {
    let path = dir.join("tandem.sqlite");
    let cannot = |e| format!("cannot make {}: {e}", path.display());
    let options = SqliteOptions { create: true, ..SqliteOptions::new(&path) };
    let tables = tandemctl::database::usual_tables();
    sqlite::create_schema(&options, &tables).await.map_err(cannot)?;
    let (completions, mut done) = mpsc::channel(1);
    let db = sqlite::Sqlite::spawn(&tokio::runtime::Handle::current(), options, completions);
    let rows = NODES.iter().map(cluster_row).collect();
    db.submit(1, Query::Batch(rows)).map_err(cannot)?;
    let answer = done.recv().await.map_or(Ok(()), |c| c.result.map(drop)).map_err(cannot);
    db.close().await;
    answer
}

fn cluster_row(node: &Node) -> Query {
    let text = |s: &str| Value::Str(s.to_owned());
    let int = |n: u32| Value::Int(i64::from(n));
    let flags = if node.id == 1 { text("seed") } else { Value::Null };
    let values = [
        ("cluster_id", int(1)),
        ("node_id", int(node.id)),
        ("url", text(&format!("bin:{}:5566", node.address))),
        ("state", int(1)),
        ("no_ping_retries", int(3)),
        ("priority", int(50)),
        ("flags", flags),
        ("description", text(&format!("node {}", node.id))),
    ];
    Query::Insert {
        table: "clusterer".into(),
        row: values.into_iter().map(|(n, v)| (n.into(), v)).collect(),
    }
}

struct Running {
    pid: rustix::process::Pid,
    node: &'static Node,
}

#[expect(clippy::disallowed_methods, reason = "the server owns its threads")]
fn start(
    node: &'static Node,
    dir: &Path,
    ended: mpsc::Sender<(u32, Option<ExitStatus>)>,
) -> Result<Running, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    let mut child: Child = Command::new(program)
        .args(node.command())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start node {}: {e}", node.id))?;
    let pid = rustix::process::Pid::from_child(&child);
    let lines = child.stderr.take();
    let id = node.id;
    std::thread::spawn(move || {
        for line in lines.into_iter().flat_map(|l| BufReader::new(l).lines()) {
            let Ok(line) = line else { break };
            eprintln!("node {id} | {line}");
        }
        let _ = ended.blocking_send((id, child.wait().ok()));
    });
    Ok(Running { pid, node })
}

async fn stop(
    running: &[Running],
    ends: &mut mpsc::Receiver<(u32, Option<ExitStatus>)>,
    mut left: usize,
) {
    for node in running {
        let _ = rustix::process::kill_process(node.pid, rustix::process::Signal::TERM);
    }
    let patience = tokio::time::sleep(Duration::from_secs(10));
    tokio::pin!(patience);
    while left > 0 {
        tokio::select! {
            Some((id, status)) = ends.recv() => {
                left -= 1;
                println!("node {id} has ended: {}", describe(status));
            }
            () = &mut patience => {
                for node in running {
                    let kill = rustix::process::Signal::KILL;
                    let _ = rustix::process::kill_process(node.pid, kill);
                }
                return;
            }
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        Some(s) if s.success() => "in order".into(),
        Some(s) => s.signal().map_or_else(|| s.to_string(), |n| format!("killed by signal {n}")),
        None => "nobody knows how".into(),
    }
}

fn restart_line(dir: &Path, id: u32) -> String {
    let program = std::env::current_exe().map(|p| p.display().to_string());
    let node = NODES.iter().find(|n| n.id == id);
    let words = node.map(Node::command).unwrap_or_default().join(" ");
    format!("(cd {} && {} {words})", dir.display(), program.unwrap_or_else(|_| "tandem".into()))
}

fn explain(dir: &Path, running: &[Running]) {
    let d = dir.display();
    println!("An active and a backup node are starting, in {d}\n");
    for r in running {
        let pid = r.pid.as_raw_nonzero();
        let Node { id, address, role, .. } = r.node;
        println!("  node {id}  {role}  SIP udp:{address}:5060  pid {pid}");
    }
    println!("\nRegister a phone (any name, no password) at 127.0.1.1, for example:");
    println!("  sipsak -U -s sip:alice@127.0.1.1 -C sip:alice@127.0.0.1:5070 -x 600");
    println!("\nLook:");
    println!("  {d}/node1/tandemctl status");
    println!("  {d}/node2/tandemctl ul_dump");
    println!("\nLose the active, and switch with one command:");
    if let Some(active) = running.first() {
        println!("  kill -9 {}", active.pid.as_raw_nonzero());
    }
    println!("  {d}/node2/tandemctl fifo clusterer_shtag_set_active service/1");
    println!("\nStart the lost node again (it comes back as backup):");
    println!("  {}", restart_line(dir, 1));
    println!("\nCtrl-C ends both.\n");
}
