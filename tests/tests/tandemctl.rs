//! The command line over every way to a node, and its commands on the database.

use std::process::Command;

use tandem_tests::{PATIENCE, Process, Site, program};

/// Exit status and what was printed by `tandem ctl`.
fn ctl(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(program())
        .arg("ctl")
        .args(words)
        .env_remove("TANDEM_URL")
        .env_remove("TANDEM_DB")
        .output()
        .expect("tandem ctl");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn a_node_is_reached_over_http_and_datagrams() {
    let site = Site::bare("ctl-ways");
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let script = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"httpd.so\"\n\
         loadmodule \"mi_http.so\"\nloadmodule \"mi_datagram.so\"\n\
         modparam(\"httpd\", \"ip\", \"{ip}\")\nmodparam(\"httpd\", \"auth_username\", \"u\")\n\
         modparam(\"httpd\", \"auth_password\", \"p\")\n\
         modparam(\"mi_datagram\", \"socket_name\", \"unix:{dir}/mi\")\nroute {{ exit; }}\n"
    );
    let file = site.write("ctl.cfg", &script).to_string_lossy().into_owned();
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &["-F", "-f", &file], site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    let (http, unix) = (format!("http://u:p@{ip}:8888/mi"), format!("unix:{dir}/mi"));
    for url in [&http, &unix] {
        let (status, said, error) = ctl(&["--url", url, "version"]);
        assert_eq!(status, 0, "{error}");
        assert!(said.contains("Tandem"), "{said}");
        let (status, _, error) = ctl(&["--url", url, "mi", "nosuch"]);
        assert_eq!(status, 1, "{error}");
        assert!(error.contains("-32601"), "{error}");
    }
    let (status, said, _) = ctl(&["--url", &http, "httpd:list_root_path"]);
    assert_eq!((status, said.as_str()), (0, "HTTP_ROOT  MODULE\nmi         mi_http\n"));
    let wrong = format!("http://u:x@{ip}:8888/mi");
    assert_eq!(ctl(&["--url", &wrong, "version"]).0, 2);
    assert_eq!(ctl(&["--url", "http://127.0.0.1:1", "version"]).0, 2);
    assert_eq!(ctl(&["--url", "gopher:x", "version"]).0, 2);
}

#[test]
fn tables_are_made_and_users_kept_without_a_node() {
    let site = Site::bare("ctl-db");
    let url = format!("sqlite://{}/tandem.sqlite", site.dir().display());
    let db = |words: &[&str]| ctl(&[&["--db", url.as_str()], words].concat());
    for again in ["create", "upgrade"] {
        let (status, said, error) = db(&["db", again]);
        assert_eq!(status, 0, "{error}");
        assert!(said.contains("tables are there"), "{said}");
    }
    assert_eq!(db(&["db", "create", "nosuch"]).0, 2);
    assert_eq!(db(&["user", "add", "alice@example.org", "secret"]).0, 0);
    assert_eq!(db(&["--plain", "user", "add", "bob@example.org", "secret"]).0, 0);
    assert_ne!(db(&["user", "add", "alice@example.org", "again"]).0, 0, "alice is there");
    let (_, said, _) = db(&["user", "list"]);
    assert_eq!(said, "USER\nalice@example.org\nbob@example.org\n");
    assert_eq!(db(&["user", "passwd", "alice@example.org", "new"]).0, 0);
    assert_eq!(db(&["user", "passwd", "carol@example.org", "new"]).0, 1);
    assert_eq!(db(&["user", "rm", "alice@example.org"]).0, 0);
    assert_eq!(db(&["user", "rm", "alice@example.org"]).0, 1);
    assert_eq!(db(&["--json", "user", "list", "other.org"]).1, "[]\n");
    assert_eq!(ctl(&["user", "list"]).0, 2, "which database?");
}

#[test]
fn a_shell_completes_its_words() {
    assert!(ctl(&["completion", "bash"]).1.contains("complete -F _tandemctl tandemctl"));
    assert!(ctl(&["completion", "zsh"]).1.starts_with("#compdef tandemctl"));
    assert!(ctl(&["completion", "fish"]).1.contains("complete -c tandemctl"));
    assert_eq!(ctl(&["completion", "tcsh"]).0, 2);
}
