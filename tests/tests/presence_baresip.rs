//! Phones of others that publish and watch: two of baresip see each other come and go.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]
#![allow(clippy::disallowed_methods, reason = "the tests own their sockets")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::{PATIENCE, Process, Site, mi, program, wait_until};

const BARESIP: &str = "/usr/bin/baresip";
const MODULES: &str = "/usr/lib/baresip/modules";

fn script(site: &Site) -> String {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let words = "proto_udp sl tm signaling mi_fifo db_sqlite presence xcap presence_xml";
    let modules: String =
        words.split(' ').map(|name| format!("loadmodule \"{name}.so\"\n")).collect();
    format!(
        "socket=udp:{ip}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"xcap\", \"db_url\", \"sqlite://{dir}/rules.sqlite\")\n\
         modparam(\"presence_xml\", \"force_active\", 1)\n\
         route {{\n\
         if (!t_newtran()) {{ sl_reply_error(); exit; }}\n\
         if ($rm == \"PUBLISH\") handle_publish();\n\
         else if ($rm == \"SUBSCRIBE\") handle_subscribe();\n\
         else t_reply(404, \"Not here\"); }}\n"
    )
}

/// A phone that publishes its own state and watches that of another.
struct Baresip {
    at: Ipv4Addr,
    _process: Process,
}

impl Baresip {
    fn start(site: &Site, user: &str, other: &str, host: u8) -> Self {
        let (node, at) = (site.net.ip(1), site.net.ip(host));
        let dir = site.dir().join(user);
        std::fs::create_dir(&dir).unwrap();
        let config = format!(
            "sip_listen {at}:5060\nmodule_path {MODULES}\nmodule g711.so\nmodule_tmp uuid.so\n\
             module_tmp account.so\nmodule_app contact.so\nmodule_app menu.so\n\
             module_app presence.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen {at}:4444\n"
        );
        let account = format!(
            "<sip:{user}@{node}>;regint=0;pubint=60;auth_pass=x;outbound=\"sip:{node}:5060\"\n"
        );
        let contact = format!("\"Other\" <sip:{other}@{node}>;presence=p2p\n");
        for (name, text) in [("config", config), ("accounts", account), ("contacts", contact)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let folder = dir.to_string_lossy().into_owned();
        let log = site.dir().join(format!("{user}.log"));
        let args = ["-4", "-f", &folder];
        let mut process = Process::start(user, Path::new(BARESIP), &args, &dir, &log);
        process.wait_for_output("baresip is ready", PATIENCE);
        Self { at, _process: process }
    }

    /// Gives it a command; what it says.
    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect((self.at, 4444)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let text = json!({"command": command, "token": "t"}).to_string();
        stream.write_all(format!("{}:{text},", text.len()).as_bytes()).unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b",") {
            match stream.read(&mut part) {
                Ok(n) if n > 0 => answer.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn wait_to_see(&self, state: &str) {
        wait_until(&format!("the other to be {state}"), PATIENCE, || {
            self.ask("contacts").contains(state)
        });
    }
}

#[test]
fn two_phones_of_baresip_see_each_other_come_and_go() {
    if !Path::new(BARESIP).is_file() {
        eprintln!("SKIPPED: there is no baresip here");
        return;
    }
    let site = Site::bare("presence-baresip");
    let url = format!("sqlite://{}/rules.sqlite", site.dir().display());
    let words = ["ctl", "--db", &url, "db", "create", "presence"];
    let made = Command::new(program()).args(words).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = site.write("node.cfg", &script(&site)).to_string_lossy().into_owned();
    let state = site.dir().join("state").to_string_lossy().into_owned();
    let args = ["-F", "-f", &file, "--state-dir", &state];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    let ann = Baresip::start(&site, "ann", "ben", 10);
    let ben = Baresip::start(&site, "ben", "ann", 11);
    let count = |command: &str| {
        let answer = mi(&site.dir().join("fifo"), command, Json::Null);
        answer["result"].as_array().map_or(0, Vec::len)
    };
    wait_until("both to publish and to watch", PATIENCE, || {
        count("presence:phtable_list") == 2 && count("presence:subs_phtable_list") == 2
    });
    for state in ["online", "offline", "online"] {
        ben.ask(&format!("presence_{state}"));
        ann.wait_to_see(if state == "online" { "Online" } else { "Offline" });
    }
    ann.ask("presence_online");
    ben.wait_to_see("Online");
}
