//! The management interface over the FIFO: shapes and error codes that the field's tools expect.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::{
    Node, PATIENCE, Phone, Process, Site, contacts, exchange, mi, program, wait_until,
};

const QUIET: Duration = Duration::from_millis(800);

fn error(node: &Node, method: &str, params: Json) -> (i64, String, String) {
    let answer = mi(node.fifo(), method, params.clone());
    let error = answer.get("error").unwrap_or_else(|| panic!("{method} {params}: {answer}"));
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (error["code"].as_i64().unwrap_or_default(), text("message"), text("data"))
}

#[test]
fn the_envelope_is_json_rpc_with_members_in_the_known_order() {
    let site = Site::pair("mi-envelope");
    let node = site.start(1);
    let ask = |text: &str| exchange(node.fifo(), text, PATIENCE).expect("an answer");
    wait_until("the node is active", PATIENCE, || node.tag_state() == "active");
    let answer = ask(r#"{"jsonrpc":"2.0","method":"clusterer_list_shtags","id":"x"}"#);
    let expected =
        r#"{"jsonrpc":"2.0","result":[{"Tag":"service","Cluster":1,"State":"active"}],"id":"x"}"#;
    assert_eq!(answer, expected);
    let answer = ask(r#"{"jsonrpc":"2.0","method":"nosuch","id":1}"#);
    let expected =
        r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#;
    assert_eq!(answer, expected);
    for wrong in [
        r#"{"jsonrpc":"1.0","method":"version","id":1}"#,
        r#"{"jsonrpc":"2.0","method":5,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"version","params":"x","id":1}"#,
        r#"[{"jsonrpc":"2.0","method":"version","id":1}]"#,
    ] {
        let answer: Json = serde_json::from_str(&ask(wrong)).expect("JSON");
        assert_eq!(answer["error"]["code"], -32600, "{wrong}: {answer}");
        assert_eq!(answer["error"]["message"], "Invalid Request");
    }
}

#[test]
fn what_is_no_request_gets_no_answer_and_does_no_harm() {
    let site = Site::pair("mi-silent");
    let node = site.start(1);
    let quiet = |text: &str| exchange(node.fifo(), text, QUIET);
    assert_eq!(quiet(r#"{"jsonrpc":"2.0","method":"version"}"#), None, "a notification");
    assert_eq!(quiet("{nonsense"), None, "no JSON");
    std::fs::write(node.fifo(), ":version:reply\n\n::\n:../x:{}\n").expect("the FIFO");
    std::fs::write(node.fifo(), [0xff; 3000]).expect("the FIFO");
    std::fs::write(node.fifo(), "\n").expect("the FIFO");
    assert!(node.mi("version", Json::Null)["Server"].is_string());
}

#[test]
fn parameters_are_matched_as_in_the_field() {
    let site = Site::pair("mi-params");
    let node = site.start(1);
    let invalid = |data: &str| (-32602, "Invalid params".to_owned(), data.to_owned());
    let cases = [
        ("usrloc:dump", json!(["brief"]), "Bad type for parameter 'brief'"),
        ("usrloc:dump", json!(["x", "y"]), "Too few or too many parameters"),
        ("usrloc:show_contact", json!({"bad": 1, "aor": "x"}), "Named parameters do not match"),
        ("statistics:get", json!(["all"]), "Bad type for parameter 'statistics'"),
        ("clusterer:shtag_set_active", Json::Null, "Too few or too many parameters"),
    ];
    for (method, params, data) in cases {
        assert_eq!(error(&node, method, params), invalid(data), "{method}");
    }
    assert_eq!(error(&node, "nosuch", Json::Null).0, -32601);
}

#[test]
fn cluster_commands_have_the_known_shapes_and_errors() {
    let site = Site::pair("mi-cluster");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let url = format!("bin:{}:5566", two.sip.ip());
    let peer = json!({
        "node_id": 2, "db_id": 2, "url": url, "link_state": "Up", "state": "enabled",
        "next_hop": "2", "description": "node 2"
    });
    let list = json!({"Clusters": [{"cluster_id": 1, "Nodes": [peer]}]});
    let mut found = one.mi("clusterer:list", Json::Null);
    // The number of the row is the database's own.
    found["Clusters"][0]["Nodes"][0]["db_id"] = 2.into();
    assert_eq!(found, list);
    assert_eq!(one.mi("clusterer_list", Json::Null)["Clusters"][0]["cluster_id"], 1);
    let caps = one.mi("clusterer:list_cap", Json::Null);
    let cap = |name| json!({"name": name, "state": "Ok", "enabled": "yes"});
    let known = [
        "usrloc-contact-repl",
        "drouting-status-repl",
        "pua",
        "dialog-dlg-repl",
        "dialog-prof-repl",
    ];
    let known = known.map(cap);
    assert_eq!(caps, json!({"Clusters": [{"cluster_id": 1, "Capabilities": known}]}));
    let topology = one.mi("clusterer:list_topology", Json::Null);
    assert_eq!(
        topology["Clusters"][0]["Nodes"],
        json!([
            {"node_id": 1, "Neighbours": [2]}, {"node_id": 2, "Neighbours": [1]}
        ])
    );
    let set = "clusterer:shtag_set_active";
    let bad = error(&one, set, json!(["bad"]));
    assert_eq!((bad.0, bad.1.as_str()), (400, "Bad tag format <name/cluster_id>"));
    let unknown = error(&one, set, json!(["servise/1"]));
    assert_eq!(unknown.0, 404);
    assert!(unknown.2.contains("service/1"), "{unknown:?}");
    assert_eq!(error(&one, set, json!(["service/9"])).0, 404);
    // What was refused is not there afterwards, on neither node.
    for node in [&one, &two] {
        let tags = node.mi("clusterer:list_shtags", Json::Null);
        assert_eq!(tags.as_array().map(Vec::len), Some(1), "{tags}");
        assert_eq!(tags[0]["Tag"], "service");
    }
    assert_eq!(two.mi(set, json!({"tag": "service/1"})), "OK");
    assert_eq!(one.mi("clusterer_shtag_set_active", json!(["service/1"])), "OK");
}

#[test]
fn connections_between_the_nodes_are_listed() {
    let site = Site::pair("mi-connections");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let peer = format!("{}:5566", two.sip.ip());
    let listed = one.mi("tcp:list", json!(["bin"]));
    let all = listed["Connections"].as_array().expect("a list");
    let dialled = all.iter().find(|c| c["Remote"] == *peer).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((&dialled["Type"], &dialled["State"]), (&json!("bin"), &json!(0)));
    assert_eq!(dialled["Alias port"], 5566);
    let ours = format!("{}:", one.sip.ip());
    assert!(all.iter().all(|c| c["Local"].as_str().is_some_and(|l| l.starts_with(&ours))));
    assert_eq!(one.mi("list_tcp_conns", Json::Null)["Connections"], listed["Connections"]);
    drop(two);
    wait_until("the connections are gone", PATIENCE, || {
        let listed = one.mi("tcp:list", json!(["bin"]));
        let open = |c: &Json| c["State"] == 0;
        listed["Connections"].as_array().is_some_and(|all| !all.iter().any(open))
    });
}

/// The last answer of a node, over every transport that a client waits at.
#[test]
fn the_command_that_ends_the_server_is_answered() {
    let site = Site::bare("mi-kill");
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let script = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"mi_datagram.so\"\n\
         modparam(\"mi_datagram\", \"socket_name\", \"udp:{ip}:8080\")\n\
         loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         loadmodule \"httpd.so\"\nmodparam(\"httpd\", \"ip\", \"{ip}\")\n\
         loadmodule \"mi_http.so\"\nroute {{ exit; }}\n"
    );
    let file = site.write("kill.cfg", &script);
    let ask = r#"{"jsonrpc":"2.0","method":"core:kill","id":1}"#;
    let wanted = r#"{"jsonrpc":"2.0","result":"OK","id":1}"#;
    for transport in ["http", "datagram", "fifo"] {
        let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
        let log = site.dir().join(format!("{transport}.log"));
        let mut node = Process::start("node", &program(), &args, site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        let answer = match transport {
            "http" => posted((ip, 8888).into(), ask),
            "datagram" => told((ip, 8080).into(), ask),
            _ => exchange(&site.dir().join("fifo"), ask, PATIENCE).unwrap_or_default(),
        };
        assert!(answer.ends_with(wanted), "{transport}: {answer}");
        assert!(node.wait(PATIENCE).success(), "{}", node.output());
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn posted(to: SocketAddr, body: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!("POST /mi HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).expect("written");
    let mut answer = String::new();
    // To its end: the server closes.
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn told(to: SocketAddr, ask: &str) -> String {
    let socket = UdpSocket::bind((to.ip(), 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(ask.as_bytes(), to).expect("sent");
    let mut buffer = [0; 1_000];
    let n = socket.recv(&mut buffer).expect("an answer");
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[test]
fn contacts_are_shown_added_and_removed() {
    let site = Site::pair("mi-contacts");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    let shown = one.mi("ul_show_contact", json!({"table_name": "location", "aor": "alice"}));
    assert_eq!(shown["AOR"], "alice");
    let contact = &shown["Contacts"][0];
    let names: Vec<&str> =
        contact.as_object().expect("a contact").keys().map(String::as_str).collect();
    let known = [
        "Contact",
        "ContactID",
        "Expires",
        "Q",
        "Callid",
        "Cseq",
        "User-agent",
        "Received",
        "State",
        "Flags",
        "Cflags",
        "Socket",
        "Methods",
    ];
    // Received and Attr are shown only when there is something to show.
    assert_eq!(names.iter().filter(|n| **n != "Attr").copied().collect::<Vec<_>>(), known);
    assert_eq!(contact["Contact"], format!("sip:alice@{}", alice.shown));
    assert_eq!(contact["Received"], format!("sip:{}", alice.at));
    assert_eq!(contact["User-agent"], "test phone");
    assert_eq!(contact["Cseq"], 1);
    assert_eq!(contact["Socket"], format!("udp:{}", one.sip));
    assert!(contact["ContactID"].is_string() && contact["Methods"].is_u64(), "{contact}");
    let brief = one.mi("usrloc:dump", json!({"brief": 1}));
    assert_eq!(brief["Domains"][0]["AORs"], json!([{"AOR": "alice"}]));
    assert_eq!(error(&one, "ul_show_contact", json!(["location", "nobody"])).0, 404);
    assert_eq!(error(&one, "ul_show_contact", json!(["nowhere", "alice"])).0, 404);
    assert_eq!(one.mi("usrloc:rm", json!(["location", "alice"])), "OK");
    for node in [&one, &two] {
        wait_until("alice is gone", PATIENCE, || {
            contacts(&node.mi("ul_dump", Json::Null)).is_empty()
        });
    }
}

#[test]
fn general_commands_and_statistics_answer() {
    let site = Site::pair("mi-general");
    let node = site.start(1);
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(node.sip);
    let uptime = node.mi("uptime", Json::Null);
    assert!(uptime["Up time"].as_str().is_some_and(|t| t.ends_with(" [sec]")), "{uptime}");
    let which = node.mi("which", Json::Null);
    let which: Vec<&str> =
        which.as_array().expect("names").iter().filter_map(Json::as_str).collect();
    for name in ["core:uptime", "statistics:get", "clusterer:shtag_set_active", "usrloc:dump"] {
        assert!(which.contains(&name), "{name} not in {which:?}");
    }
    assert!(!which.contains(&"ul_dump"), "aliases are not listed");
    let counted = node.mi("get_statistics", json!({"statistics": ["usrloc:"]}));
    assert_eq!(counted["usrloc:location-contacts"], 1, "{counted}");
    assert_eq!(counted["usrloc:registered_users"], 1, "{counted}");
    assert_eq!(node.mi("get_statistics", json!([["nosuch"]])), json!({}));
    let reset = error(&node, "statistics:reset", json!([["core:rcv_requests"]]));
    assert_eq!((reset.0, reset.1.as_str()), (404, "Statistics Not Found"));
    assert_eq!(node.mi("nathelper:enable_ping", Json::Null), json!({"Status": 1}));
}

#[test]
fn the_command_line_tells_refusals_from_failures_by_its_exit_status() {
    let site = Site::pair("ctl");
    let node = site.start(1);
    let ctl = node.ctl("tandemctl");
    let fine = ctl.run(&["version"]);
    assert_eq!(fine.status, 0);
    assert!(fine.stdout.contains("Tandem"), "{}", fine.stdout);
    let refused = ctl.run(&["fifo", "clusterer_shtag_set_active", "servise/1"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("service/1"), "{}", refused.stderr);
    assert_eq!(ctl.run(&["--fifo", "/nowhere/fifo", "version"]).status, 2);
    assert!(node.stop().success());
    let gone = ctl.run(&["version"]);
    assert_eq!(gone.status, 2, "{}", gone.stderr);
}
