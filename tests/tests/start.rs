//! The server as start scripts know it: options, background, signals, the files it writes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tandem_tests::{
    PATIENCE, Process, Site, is_alive, is_root, mi, now, program, signal_to, sipsak, wait_until,
};

/// A script that answers OPTIONS, with a FIFO and HTTP in the site's own place.
fn script(site: &Site, more: &str) -> String {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let text = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"/usr/lib/opensips/modules/mi_fifo.so\"\nloadmodule \"httpd.so\"\n\
         loadmodule \"mi_http.so\"\nmpath=\"/usr/lib/opensips/modules/\"\n\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"httpd\", \"ip\", \"{ip}\")\nmodparam(\"httpd\", \"auth_username\", \"u\")\n\
         modparam(\"httpd\", \"auth_password\", \"p\")\n{more}\n\
         route {{ sl_send_reply(200, \"OK\"); }}\n"
    );
    site.write("start.cfg", &text).to_string_lossy().into_owned()
}

fn node(site: &Site, args: &[&str]) -> Process {
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

fn answers(uri: &str) -> bool {
    sipsak(&["-s", uri]).status == 0
}

#[test]
fn sockets_of_the_command_line_are_added_and_options_without_meaning_noted() {
    let site = Site::bare("start-options");
    let file = script(&site, "");
    let ip = site.net.ip(1);
    let (one, two) = (format!("udp:{ip}:5061"), format!("{}:5062", site.net.ip(2)));
    let args = ["-F", "-E", "-f", &file, "-l", &one, "-l", &two, "-m", "64", "-M", "8", "-n", "1"];
    let mut node = node(&site, &args);
    assert!(node.output().contains("-M has no meaning here"), "{}", node.output());
    for uri in [format!("sip:x@{ip}:5060"), format!("sip:x@{ip}:5061"), format!("sip:x@{two}")] {
        assert!(answers(&uri), "{uri}");
    }
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn a_start_script_gets_a_background_process_with_a_pid_file() {
    let site = Site::bare("start-background");
    let file = script(&site, "stderror_enabled=no\nsyslog_enabled=yes");
    let pid_file = site.dir().join("node.pid");
    let run = || {
        let mut command = Command::new(program());
        command.args(["-f", &file, "-P"]).arg(&pid_file);
        command.output().expect("the server")
    };
    let begun = now();
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(now() - begun < PATIENCE);
    let pid: u32 = std::fs::read_to_string(&pid_file).expect("pid").trim().parse().expect("a pid");
    assert!(is_alive(pid) && answers(&format!("sip:x@{}:5060", site.net.ip(1))));
    let again = run();
    assert!(!again.status.success());
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("names the running process"), "{said}");
    signal_to(pid, Signal::TERM);
    wait_until("it ends and takes its file along", PATIENCE, || {
        !is_alive(pid) && !pid_file.exists()
    });
}

#[test]
fn rights_are_given_up_when_the_sockets_are_open() {
    if !is_root() {
        eprintln!("not run: only root has rights to give up");
        return;
    }
    let site = Site::bare("start-rights");
    let ip = site.net.ip(1);
    // A port that takes root to open.
    let file = script(&site, &format!("socket=udp:{ip}:506"));
    std::fs::create_dir(site.dir().join("state")).expect("a folder");
    let args = ["-F", "-f", &file, "-u", "nobody", "-g", "daemon", "--state-dir", "state"];
    let mut node = node(&site, &args);
    let (uid, gid) = (id_of("/etc/passwd", "nobody"), id_of("/etc/group", "daemon"));
    assert_eq!(node.proc_status("Uid").split_whitespace().collect::<Vec<_>>(), [&uid; 4]);
    assert_eq!(node.proc_status("Gid").split_whitespace().collect::<Vec<_>>(), [&gid; 4]);
    assert!(!node.proc_status("Groups").split_whitespace().any(|group| group == "0"));
    assert_eq!(node.proc_status("CapEff"), "0000000000000000");
    assert!(answers(&format!("sip:x@{ip}:506")));
    let version = mi(&site.dir().join("fifo"), "version", serde_json::Value::Null);
    assert!(version["result"]["Server"].is_string(), "{version}");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
    let unknown = ["-F", "-f", &file, "-u", "no-such-user"];
    let output = Command::new(program()).args(unknown).output().expect("the server");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-user"));
}

/// The number of a user or a group.
fn id_of(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).expect("a file of the system");
    let line = text.lines().find(|l| l.split(':').next() == Some(name)).expect("a name");
    line.split(':').nth(2).expect("a number").to_owned()
}

#[test]
fn a_deleted_fifo_is_back_after_a_hangup_and_gone_at_the_end() {
    let site = Site::bare("start-hangup");
    let file = script(&site, "");
    let mut node = node(&site, &["-F", "-f", &file]);
    let fifo = site.dir().join("fifo");
    std::fs::remove_file(&fifo).expect("a FIFO");
    node.signal(Signal::HUP);
    wait_until("the FIFO is back", PATIENCE, || fifo.exists());
    let answer = mi(&fifo, "version", serde_json::Value::Null);
    assert!(answer["result"]["Server"].is_string(), "{answer}");
    node.signal(Signal::INT);
    assert!(node.wait(Duration::from_secs(5)).success());
    assert!(!fifo.exists());
}

#[test]
fn the_script_goes_through_a_preprocessor_and_the_check_says_what_it_says() {
    let site = Site::bare("start-check");
    let file = script(&site, "log_level=LEVEL");
    let check = |args: &[&str]| {
        let output = Command::new(program()).args(args).output().expect("the server");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    assert_eq!(check(&["-C", "-f", &file, "-p", "sed -e s/LEVEL/3/ -e /^__OSSPP/d"]).0, Some(0));
    let (status, text) = check(&["-c", "-f", &file]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("start.cfg:12"), "{text}");
    let (status, text) = check(&["-V"]);
    assert_eq!(status, Some(0));
    assert!(text.starts_with("version: tandem "), "{text}");
    assert_eq!(check(&["-f", "/nowhere/x.cfg", "-C"]).0, Some(1));
}

/// The status and the body of a request over HTTP.
#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn http(site: &Site, head: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect((site.net.ip(1), 8888)).expect("HTTP");
    let length = body.len();
    let text =
        format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = answer.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default();
    (status, body)
}

#[test]
fn commands_over_http_ask_for_the_password_and_answer_every_request() {
    let site = Site::bare("start-http");
    let file = script(&site, "");
    let _node = node(&site, &["-F", "-f", &file]);
    let key = "Authorization: Basic dTpw";
    let post = |body: &str| http(&site, &format!("POST /mi HTTP/1.1\r\n{key}"), body);
    let (status, body) = post(r#"{"jsonrpc":"2.0","id":1,"method":"version"}"#);
    assert_eq!(status, "200");
    assert!(body.contains("Tandem"), "{body}");
    let (status, body) = post(r#"{"jsonrpc":"2.0","id":1,"method":"nosuch"}"#);
    assert_eq!(status, "200");
    assert!(body.contains("-32601"), "{body}");
    assert_eq!(post("{").0, "200");
    assert_eq!(post(r#"{"jsonrpc":"2.0","method":"version"}"#).0, "204");
    assert_eq!(post(&" ".repeat(100_000)).0, "413");
    assert_eq!(http(&site, &format!("GET /mi HTTP/1.1\r\n{key}"), "").0, "405");
    assert_eq!(http(&site, &format!("GET / HTTP/1.1\r\n{key}"), "").0, "404");
    assert_eq!(http(&site, "POST /mi HTTP/1.1", "{}").0, "401");
    assert!(Path::new(&file).exists());
}
