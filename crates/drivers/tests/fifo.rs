//! The MI FIFO with real files.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tandem_drivers::{Fifo, FifoError, FifoOptions, FifoReply, FifoRequest};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

fn options(name: &str) -> FifoOptions {
    let directory = std::env::temp_dir().join(format!("tandem-fifo-{}-{name}", std::process::id()));
    fs::create_dir_all(&directory).expect("directory");
    FifoOptions {
        path: directory.join("mi"),
        reply_dir: directory,
        recreate_check: Duration::from_millis(20),
        reply_timeout: Duration::from_millis(300),
        ..FifoOptions::default()
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("open the FIFO");
    file.write_all(text.as_ref()).expect("write");
}

async fn next(requests: &mut mpsc::Receiver<FifoRequest>) -> FifoRequest {
    let next = tokio::time::timeout(Duration::from_secs(10), requests.recv());
    next.await.expect("a request in time").expect("open channel")
}

/// Makes a reply FIFO and reads it to its end, as a client does.
fn client(options: &FifoOptions, name: &str) -> tokio::task::JoinHandle<String> {
    let path: PathBuf = options.reply_dir.join(name);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&path, mode).expect("reply FIFO");
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        fs::File::open(path).expect("open").read_to_string(&mut text).expect("read");
        text
    })
}

fn clean(options: &FifoOptions) {
    fs::remove_dir_all(&options.reply_dir).expect("clean up");
}

#[tokio::test]
async fn a_request_is_answered_and_the_fifo_is_removed_at_the_end() {
    let options = options("answer");
    let (fifo, mut requests) = Fifo::open(&Handle::current(), options.clone()).expect("open");
    let mode = fs::metadata(&options.path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    let answer = client(&options, "r1");
    write(&options.path, ":r1:{\"id\":1}");
    let request = next(&mut requests).await;
    assert_eq!(request.reply.as_deref(), Some("r1"));
    assert_eq!(request.body, "{\"id\":1}");
    // Larger than a pipe holds, so the client must be waited for.
    let body = "x".repeat(300_000);
    fifo.reply(FifoReply { to: "r1".to_owned(), body: Bytes::from(body.clone()) });
    assert_eq!(answer.await.expect("client"), body);
    fifo.close().await;
    assert!(!options.path.exists());
    clean(&options);
}

#[tokio::test]
async fn a_client_that_never_reads_delays_nobody() {
    let options = options("absent");
    let (fifo, mut requests) = Fifo::open(&Handle::current(), options.clone()).expect("open");
    let unread = options.reply_dir.join("unread");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&unread, mode).expect("reply FIFO");
    fs::write(options.reply_dir.join("file"), "keep").expect("file");
    std::os::unix::fs::symlink(&unread, options.reply_dir.join("link")).expect("link");
    for to in ["unread", "missing", "file", "link", "../escape", ""] {
        fifo.reply(FifoReply { to: to.to_owned(), body: Bytes::from_static(b"no") });
    }
    let answer = client(&options, "r2");
    write(&options.path, ":r2:{}\n");
    next(&mut requests).await;
    fifo.reply(FifoReply { to: "r2".to_owned(), body: Bytes::from_static(b"yes") });
    assert_eq!(answer.await.expect("client"), "yes");
    while fifo.unanswered() < 6 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fs::read(options.reply_dir.join("file")).expect("file"), b"keep");
    fifo.close().await;
    clean(&options);
}

#[tokio::test]
async fn many_clients_that_never_read_delay_nobody() {
    let patient = FifoOptions { reply_timeout: Duration::from_secs(60), ..options("flood") };
    let (fifo, mut requests) = Fifo::open(&Handle::current(), patient.clone()).expect("open");
    for n in 0..1_000 {
        fifo.reply(FifoReply { to: format!("missing{n}"), body: Bytes::from_static(b"no") });
        tokio::task::yield_now().await;
    }
    let answer = client(&patient, "r3");
    write(&patient.path, ":r3:{}\n");
    next(&mut requests).await;
    fifo.reply(FifoReply { to: "r3".to_owned(), body: Bytes::from_static(b"yes") });
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
    assert_eq!(answer.expect("in time").expect("client"), "yes");
    // Those that have waited for the longest are given up.
    assert!(fifo.unanswered() >= 700, "{}", fifo.unanswered());
    drop(fifo);
    clean(&patient);
}

#[tokio::test]
async fn garbage_and_a_deleted_fifo_are_survived() {
    let options = options("recreate");
    let (fifo, mut requests) = Fifo::open(&Handle::current(), options.clone()).expect("open");
    write(&options.path, ":2.x command:reply\nargument\n\n::{\"n\":1}\n");
    // The first line has the shape of a request; whoever parses JSON stays silent.
    assert_eq!(next(&mut requests).await.body, "reply");
    assert_eq!(next(&mut requests).await, FifoRequest { reply: None, body: "{\"n\":1}".into() });
    assert_eq!(fifo.skipped(), 1);
    fs::remove_file(&options.path).expect("remove");
    while fifo.recreated() == 0 {
        tokio::task::yield_now().await;
    }
    write(&options.path, "::{\"n\":2}");
    assert_eq!(next(&mut requests).await.body, "{\"n\":2}");
    fifo.close().await;
    clean(&options);
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_kept() {
    let mut options = options("way");
    fs::write(&options.path, "mine").expect("file");
    let error = Fifo::open(&Handle::current(), options.clone()).expect_err("a file");
    assert!(matches!(error, FifoError::NotAFifo(_)));
    assert_eq!(fs::read(&options.path).expect("file"), b"mine");
    options.user = Some("no such user".to_owned());
    let error = Fifo::open(&Handle::current(), options.clone()).expect_err("a user");
    assert_eq!(error.to_string(), "there is no user `no such user`");
    options.user = None;
    options.path = options.reply_dir.join("missing/mi");
    let error = Fifo::open(&Handle::current(), options.clone()).expect_err("no directory");
    assert!(error.to_string().starts_with("cannot create "));
    clean(&options);
}
