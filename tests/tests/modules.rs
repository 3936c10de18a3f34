//! Modules whose work leaves the node, on a real process: commands of the shell, SQL, rule files,
//! pages over HTTP.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use tandem_db::schema;
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, program};

fn make_tables(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let file = site.dir().join("node.sqlite");
        let options = SqliteOptions { create: true, ..SqliteOptions::new(file) };
        let tables: Vec<_> =
            ["usr_preferences", "address"].iter().filter_map(|t| schema::table(t)).collect();
        sqlite::create_schema(&options, &tables).await.unwrap();
    });
}

fn start(site: &Site, modules: &str, rest: &str) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let load = modules.split(' ').map(|name| format!("loadmodule \"{name}.so\"\n"));
    let script = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"sipmsgops.so\"\nloadmodule \"mi_fifo.so\"\n{}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n{rest}",
        load.collect::<String>()
    );
    let file = site.write("modules.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_script_runs_commands_and_sql_and_reads_rules() {
    let site = Site::bare("modules");
    make_tables(&site);
    site.write("rules.deny", "ALL : \"^sip:00\"\n");
    let _node = start(
        &site,
        "db_sqlite exec sqlops permissions",
        &format!(
            "db_default_url = \"sqlite://{}/node.sqlite\"\n\
             modparam(\"exec\", \"time_to_kill\", 1)\n\
             route {{\n\
             sql_query(\"INSERT INTO usr_preferences (uuid, attribute, value) \
             VALUES ('u1', 'lang', 'de')\");\n\
             sql_query_one(\"SELECT value, count(*) FROM usr_preferences\", \
             \"$var(v);$var(n)\");\n\
             $avp(env) = \"WHO=me\";\n\
             exec(\"cat; printf $$WHO >&2\", \"in\", $var(o), $var(e), $avp(env));\n\
             $var(c) = $rc;\n\
             exec(\"exec sleep 60\");\n\
             $var(k) = $rc;\n\
             allow_uri(\"rules\", \"sip:0049@x\");\n\
             append_to_reply(\"X-Told: $var(v) $var(n) $var(c) $var(o) $var(e) $var(k) \
             $rc\\r\\n\");\n\
             sl_send_reply(200, \"OK\");\n}}\n",
            site.dir().display()
        ),
    );
    let phone = Phone::new("asker", (site.net.ip(9), 5060));
    let reply = phone.options(SocketAddr::from((site.net.ip(1), 5060)));
    assert_eq!(reply.want("X-Told"), "de 1 1 in me -1 -1");
    let fifo = site.dir().join("fifo");
    let asked = json!(["rules", "sip:a@b", "sip:49@x"]);
    assert_eq!(mi(&fifo, "permissions:allow_uri", asked)["result"], "OK");
}

#[test]
fn prometheus_reads_the_statistics() {
    let site = Site::bare("prometheus");
    let ip = site.net.ip(1);
    let _node = start(
        &site,
        "httpd prometheus",
        &format!(
            "modparam(\"httpd\", \"ip\", \"{ip}\")\nmodparam(\"httpd\", \"port\", 9090)\n\
             modparam(\"prometheus\", \"statistics\", \"core:rcv_requests\")\n\
             route {{ sl_send_reply(200, \"OK\"); }}\n"
        ),
    );
    let phone = Phone::new("asker", (site.net.ip(9), 5060));
    assert_eq!(phone.options(SocketAddr::from((ip, 5060))).code(), Some(200));
    let page = get(SocketAddr::from((ip, 9090)));
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("\nopensips_rcv_requests 1\n"), "{page}");
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn get(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}
