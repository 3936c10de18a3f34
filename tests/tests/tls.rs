//! What is protected on its way: commands over HTTPS, queries to database servers.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use tandem_db::{DbUrl, Query, Rows};
use tandem_drivers::sql_server::{self, ServerOptions};
use tandem_tests::{DbServer, Kind, PATIENCE, Process, Site, certificates, program, wait_until};

const COMMAND: &str = r#"{"jsonrpc":"2.0","id":1,"method":"version"}"#;

fn start(site: &Site, script: &str) -> Process {
    std::fs::write(site.dir().join("tls.cfg"), script).unwrap();
    let log = site.dir().join("node.log");
    let args = ["-F", "-f", "tls.cfg", "--state-dir", "state"];
    Process::start("node", &program(), &args, site.dir(), &log)
}

fn serves(node: &Process) {
    wait_until("the node is ready", PATIENCE, || node.output().contains("ready"));
}

/// The answer to a command over HTTPS, or what curl says.
fn ask(site: &Site, url: &str, more: &[&str]) -> Result<Json, String> {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--noproxy", "*", "--cacert", "ca.pem", "-d", COMMAND])
        .args(more)
        .arg(url)
        .current_dir(site.dir())
        .output()
        .expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => serde_json::from_str(&text).map_err(|e| format!("{e}: {text}")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn commands_go_over_https_with_the_versions_that_the_script_allows() {
    let site = Site::bare("tls-http");
    let ip = site.net.ip(1);
    certificates(site.dir(), ip.into());
    let script = |more: &str| {
        format!(
            "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"httpd.so\"\n\
             loadmodule \"mi_http.so\"\nmodparam(\"httpd\", \"ip\", \"{ip}\")\n\
             modparam(\"httpd\", \"tls_cert_file\", \"cert.pem\")\n\
             modparam(\"httpd\", \"tls_key_file\", \"key.pem\")\n{more}route {{ exit; }}\n"
        )
    };
    let url = format!("https://{ip}:8888/mi");
    let node = start(&site, &script(""));
    serves(&node);
    for version in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
        let answer = ask(&site, &url, version).unwrap();
        assert!(answer["result"]["Server"].as_str().unwrap().starts_with("Tandem"), "{answer}");
    }
    assert!(ask(&site, &url.replace("https", "http"), &[]).is_err(), "there is no way around");
    drop(node);
    std::fs::remove_file(site.dir().join("node.log")).unwrap();
    let old = "modparam(\"httpd\", \"tls_ciphers\", \
        \"SECURE256:+SECURE192:-VERS-ALL:+VERS-TLS1.2\")\n";
    let node = start(&site, &script(old));
    serves(&node);
    assert!(ask(&site, &url, &["--tlsv1.2"]).is_ok());
    assert!(ask(&site, &url, &["--tlsv1.3"]).is_err(), "the script leaves TLS 1.2 alone");
    let weak = ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert!(ask(&site, &url, &weak).is_err(), "SECURE256 has no AES-128");
}

#[test]
fn a_listener_without_a_readable_certificate_does_not_start() {
    let site = Site::bare("tls-nocert");
    let ip = site.net.ip(1);
    let node = start(
        &site,
        &format!(
            "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"httpd.so\"\n\
             modparam(\"httpd\", \"tls_cert_file\", \"none.pem\")\n\
             modparam(\"httpd\", \"tls_key_file\", \"none.pem\")\nroute {{ exit; }}\n"
        ),
    );
    wait_until("it says why", PATIENCE, || node.output().contains("httpd: none.pem: "));
}

fn asked(url: &str, sql: &str) -> Result<Rows, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = ServerOptions::new(DbUrl::parse(url).map_err(|e| e.to_string())?);
    let query = Query::Raw { sql: sql.into() };
    runtime.block_on(sql_server::ask(&options, &query)).map_err(|e| e.to_string())
}

/// What the server says of how the connection is protected.
fn protection(kind: Kind, url: &str) -> Result<String, String> {
    let sql = match kind {
        Kind::MariaDb => "SHOW SESSION STATUS LIKE 'Ssl_version'",
        Kind::Postgres => {
            "SELECT 'v', COALESCE(version, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        }
    };
    let rows = asked(url, sql)?;
    Ok(rows.rows[0][1].as_str().unwrap_or_default().to_owned())
}

fn protected(kind: Kind, module: &str) {
    let site = Site::bare(&format!("tls-{module}"));
    let Some(server) = DbServer::start_tls(&site, kind) else { return };
    let name = if kind == Kind::Postgres { "postgres" } else { "mysql" };
    let (plain, ca) = (server.url(name), server.ca().display().to_string());
    assert_eq!(protection(kind, &plain).as_deref(), Ok(""));
    for options in [format!("tls_ca={ca}"), format!("tls_ca={ca}&tls_verify=2")] {
        let version = protection(kind, &format!("{plain}?tls_domain=db&{options}")).unwrap();
        assert!(version.starts_with("TLSv1."), "{options}: {version}");
    }
    let trusting = protection(kind, &format!("{plain}?tls_verify=0")).unwrap();
    assert!(trusting.starts_with("TLSv1."));
    let stranger = protection(kind, &format!("{plain}?tls_domain=db"));
    assert!(stranger.is_err(), "nobody that the system trusts has signed it: {stranger:?}");
    starts_with_tls(&site, &server, module, &format!("{plain}?tls_domain=db&tls_ca={ca}"));
}

/// A node says that it needs `use_tls`, and serves with it.
fn starts_with_tls(site: &Site, server: &DbServer, module: &str, url: &str) {
    let ip = site.net.ip(1);
    let script = |more: &str| {
        format!(
            "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"{module}.so\"\n\
             loadmodule \"sqlops.so\"\nmodparam(\"sqlops\", \"db_url\", \"{url}\")\n{more}\
             startup_route {{ sql_query_one(\"SELECT 6 * 7\", \"$var(x)\"); \
             xlog(\"L_NOTICE\", \"it is $var(x)\"); }}\nroute {{ exit; }}\n"
        )
    };
    assert!(Path::new(&server.ca()).is_file());
    let refused = start(site, &script(""));
    wait_until("it says what to do", PATIENCE, || refused.output().contains("\"use_tls\", 1"));
    drop(refused);
    let allowed = format!("modparam(\"{module}\", \"use_tls\", 1)\n");
    let node = start(site, &script(&allowed));
    wait_until("the node has asked", PATIENCE, || node.output().contains("it is 42"));
}

#[test]
fn queries_to_mariadb_go_over_tls() {
    protected(Kind::MariaDb, "db_mysql");
}

#[test]
fn queries_to_postgres_go_over_tls() {
    protected(Kind::Postgres, "db_postgres");
}
