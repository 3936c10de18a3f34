//! Digest authentication on real processes: users in SQLite, and nonces that both nodes judge.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tandem_db::{Query, schema};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_sip::{Algorithm, AuthRole, Credentials, Message, Response};
use tandem_tests::{PATIENCE, Process, Site, program, sipp, wait_until};
use tokio::sync::mpsc;

const MODULES: &str = "loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
     loadmodule \"signaling.so\"\nloadmodule \"auth.so\"\n";

/// A database with the user alice.
fn make_users(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options =
            SqliteOptions { create: true, ..SqliteOptions::new(site.dir().join("users.sqlite")) };
        let tables: Vec<_> =
            ["subscriber", "domain"].iter().filter_map(|t| schema::table(t)).collect();
        sqlite::create_schema(&options, &tables).await.unwrap();
        let (completions, mut done) = mpsc::channel(1);
        let here = tokio::runtime::Handle::current();
        let db = sqlite::Sqlite::spawn(&here, options, completions);
        let text = |s: &str| tandem_db::Value::Str(s.to_owned());
        let user = vec![
            ("username".into(), text("alice")),
            ("domain".into(), text("sip.example.org")),
            ("password".into(), text("secret1")),
        ];
        let domain = vec![("domain".into(), text("sip.example.org"))];
        let rows = vec![
            Query::Insert { table: "subscriber".into(), row: user },
            Query::Insert { table: "domain".into(), row: domain },
        ];
        db.submit(1, Query::Batch(rows)).unwrap();
        done.recv().await.unwrap().result.unwrap();
        db.close().await;
    });
}

fn start(site: &Site, name: &str, script: &str) -> Process {
    let file = site.write(&format!("{name}.cfg"), script);
    let state = format!("state-{name}");
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", &state];
    let log = site.dir().join(format!("{name}.log"));
    let mut node = Process::start(name, &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn phones_register_with_passwords_in_sqlite() {
    let site = Site::bare("digest");
    make_users(&site);
    let script = format!(
        "socket=udp:{}:5060\n{MODULES}loadmodule \"db_sqlite.so\"\nloadmodule \"auth_db.so\"\n\
         loadmodule \"domain.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
         db_default_url=\"sqlite://{}/users.sqlite\"\n\
         modparam(\"auth_db\", \"calculate_ha1\", 1)\n\
         modparam(\"auth_db\", \"password_column\", \"password\")\n\
         route {{ if (!is_domain_local($td)) {{ send_reply(403, \"Not ours\"); exit; }}\n\
         if (!www_authorize(\"\", \"subscriber\")) {{\n\
         www_challenge(\"\", \"auth\", \"MD5,SHA-256\"); exit; }}\n\
         if ($au != $fU) {{ send_reply(403, \"Forbidden identity\"); exit; }}\n\
         save(\"location\"); }}\n",
        site.net.ip(1),
        site.dir().display()
    );
    let _node = start(&site, "node", &script);
    let node = SocketAddr::from((site.net.ip(1), 5060));
    let phones = sipp(&site, "register-digest", site.net.ip(20), node, &["-m", "100", "-r", "100"]);
    assert_eq!(phones.status, 0, "{}{}", phones.stdout, phones.stderr);
}

/// The script of one of two nodes that know each other.
fn clustered(site: &Site, id: u8, other: u8) -> String {
    let (ip, peer) = (site.net.ip(id), site.net.ip(other));
    format!(
        "socket=udp:{ip}:5060\nsocket=bin:{ip}:5566\n{MODULES}loadmodule \"proto_bin.so\"\n\
         loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{ip}:5566\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:{peer}:5566\")\n\
         modparam(\"auth\", \"username_spec\", \"$var(u)\")\n\
         modparam(\"auth\", \"password_spec\", \"$var(p)\")\n\
         modparam(\"auth\", \"calculate_ha1\", 1)\n\
         route {{ $var(u) = \"alice\"; $var(p) = \"secret1\";\n\
         if (!pv_www_authorize(\"a.test\")) {{ www_challenge(\"a.test\", \"auth\"); exit; }}\n\
         sl_send_reply(200, \"OK\"); }}\n"
    )
}

fn register(socket: &UdpSocket, node: SocketAddr, header: &str) -> Option<Message> {
    let at = socket.local_addr().unwrap();
    let text = format!(
        "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{node}\r\n\
         From: <sip:alice@a.test>;tag=f\r\nTo: <sip:alice@a.test>\r\nCall-ID: c\r\n\
         CSeq: 1 REGISTER\r\n{header}Content-Length: 0\r\n\r\n"
    );
    socket.send_to(text.as_bytes(), node).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Message::parse(buffer.into()).ok()
}

/// An Authorization header for the challenge of a reply.
fn answer(reply: &Message) -> Option<String> {
    let challenge = reply.header(AuthRole::Server.challenge_header())?;
    let challenge = Credentials::parse(challenge.value()).ok()?;
    let response = Response {
        algorithm: Algorithm::Md5,
        method: b"REGISTER",
        uri: b"sip:a.test",
        nonce: challenge.nonce,
        qop: b"auth",
        nc: b"00000001",
        cnonce: b"xyz",
        body: b"",
    };
    let ha1 = Algorithm::Md5.ha1(b"alice", b"a.test", b"secret1");
    let response = response.compute(ha1.as_bytes());
    Some(format!(
        "Authorization: Digest username=\"alice\", realm=\"a.test\", nonce=\"{}\", \
         uri=\"sip:a.test\", response=\"{}\", qop=auth, nc=00000001, cnonce=\"xyz\"\r\n",
        String::from_utf8_lossy(challenge.nonce),
        String::from_utf8_lossy(response.as_bytes()),
    ))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn a_phone_that_one_node_asked_is_let_in_by_the_other() {
    let site = Site::bare("nonces");
    let _one = start(&site, "one", &clustered(&site, 1, 2));
    let _two = start(&site, "two", &clustered(&site, 2, 1));
    let node = |id: u8| SocketAddr::from((site.net.ip(id), 5060));
    let socket = UdpSocket::bind((site.net.ip(20), 5060)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // The nodes tell each other their keys once they are linked.
    wait_until("node 2 judges the nonces of node 1", PATIENCE, || {
        let asked = register(&socket, node(1), "");
        let header = asked.as_ref().and_then(answer);
        let reply = header.and_then(|header| register(&socket, node(2), &header));
        reply.is_some_and(|reply| reply.status() == 200)
    });
}
