//! What a message costs the node alone: no sockets, no system calls, no other threads.
//!
//!     cargo run --release -p bench --bin steps -- \
//!         options|register|digest|call|cdr|ping|sipping|notify [ROUNDS]
//!
//! Prints nanoseconds a round: one request, the two of a refresh that is challenged, the six
//! messages that a call brings (`cdr`: with a dialog and a record of the call), one ping of
//! 20,000 contacts, or a NOTIFY with its answer, of a state that 1,000 watch.
//! Under `valgrind --tool=callgrind --toggle-collect='*serve*'` it counts instructions, which
//! other work on the machine does not change.

#[path = "../digest.rs"]
mod digest;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tandem_clock::{Chance, MS, Now};
use tandem_engine::build::NodeOptions;
use tandem_engine::catalogue::{Modules, Tables};
use tandem_engine::core::CORE;
use tandem_engine::effect::{Effect, Input, Out};
use tandem_engine::node::Node;
use tandem_engine::sockets::SocketId;
use tandem_engine::testing::Files;
use tandem_engine::worker::Worker;

const MODULES: Modules = &[
    &CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_maxfwd::MODULE,
    &tandem_signaling::MODULE,
    &tandem_sipmsgops::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_nathelper::MODULE,
    &tandem_auth::MODULE,
    &tandem_dialog::MODULE,
    &tandem_acc::MODULE,
    &tandem_presence::MODULE,
    &tandem_presence_mwi::MODULE,
];

/// What a node that pings has besides: 3,333 a second.
const PINGS: &str = r#"
loadmodule "nathelper.so"
modparam("nathelper", "natping_interval", 6)
modparam("nathelper", "sipping_bflag", "SIP_PING")
modparam("nathelper", "sipping_from", "sip:ping@127.0.0.1")
route {"#;
/// What a node that notifies has besides.
const PRESENCE: &str = r#"
loadmodule "presence.so"
loadmodule "presence_mwi.so"
route {
	if (is_method("PUBLISH|SUBSCRIBE")) {
		t_newtran();
		if (is_method("PUBLISH"))
			handle_publish();
		else
			handle_subscribe();
		exit;
	}"#;
/// Who watch one state.
const WATCHERS: usize = 1_000;
/// Contacts that are pinged.
const PINGED: usize = 20_000;

const SCRIPT: &str = r#"
log_level = 1
socket = udp:127.0.0.1:5060
loadmodule "proto_udp.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "sipmsgops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("auth", "username_spec", "$avp(user)")
modparam("auth", "password_spec", "$avp(password)")
modparam("auth", "calculate_ha1", 1)
modparam("usrloc", "working_mode_preset", "single-instance-no-db")
modparam("usrloc", "use_domain", 0)
modparam("registrar", "max_contacts", 5)
route {
	if (!mf_process_maxfwd_header(10)) {
		send_reply(483, "Too Many Hops");
		exit;
	}
	if (is_method("OPTIONS")) {
		send_reply(200, "OK");
		exit;
	}
	if (is_method("REGISTER")) {
		if (is_present_hf("X-Digest")) {
			$avp(user) = $fU;
			$avp(password) = "secret";
			if (!pv_www_authorize("bench")) {
				www_challenge("bench", "auth");
				exit;
			}
		}
		if (!save("location"))
			sl_reply_error();
		exit;
	}
	if (has_totag()) {
		if (loose_route()) {
			t_relay();
			exit;
		}
		if (!is_method("ACK"))
			send_reply(404, "Not Found");
		exit;
	}
	if (is_method("INVITE")) {
		record_route();
		if (!t_relay())
			send_reply(500, "Server Internal Error");
		exit;
	}
	send_reply(404, "Not Found");
}
"#;

/// What a call with a dialog and a record has beside.
const DIALOG_MODULES: &str = r#"
loadmodule "dialog.so"
loadmodule "acc.so"
modparam("acc", "log_level", -1)
route {
"#;
const DIALOG_CALLS: &str = r#"create_dialog(); do_accounting("log", "cdr"); record_route();"#;

/// The script for a kind of work.
fn script(work: &str) -> String {
    match work {
        "cdr" => {
            SCRIPT.replace("\nroute {\n", DIALOG_MODULES).replace("record_route();", DIALOG_CALLS)
        }
        "ping" => SCRIPT.replacen("\nroute {", PINGS, 1),
        "notify" => SCRIPT.replacen("\nroute {", PRESENCE, 1),
        "sipping" => {
            let script = SCRIPT.replacen("\nroute {", PINGS, 1);
            script.replace("if (!save", "setbflag(\"SIP_PING\");\n\t\tif (!save")
        }
        _ => SCRIPT.to_owned(),
    }
}

/// Messages that are taken together.
const BATCH: usize = 32;
/// So that calls come to the end of their transactions, as they do in life.
const CALL_PAUSE_NS: u64 = 16 * MS;
/// Phones that take turns.
const PHONES: usize = 1_000;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let work = words.first().map_or("options", String::as_str);
    let rounds = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let pause_ns = if matches!(work, "call" | "cdr") { CALL_PAUSE_NS } else { MS };
    let mut bench = match Bench::new(&script(work), pause_ns) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let play: fn(&mut Bench, usize) = match work {
        "options" => |bench, n| bench.request("OPTIONS", n),
        "register" => |bench, n| bench.request("REGISTER", n),
        "digest" => Bench::challenged,
        "call" | "cdr" => Bench::call,
        "ping" | "sipping" => {
            bench.phones = PINGED;
            (0..PINGED).for_each(|n| bench.request("REGISTER", n));
            bench.pings(2 * PINGED);
            bench.spent_ns = 0;
            let sent = bench.pings(rounds);
            println!("{work}: {:.0} ns", bench.spent_ns as f64 / sent as f64);
            return ExitCode::SUCCESS;
        }
        "notify" => {
            bench.watch();
            bench.publish(2 * WATCHERS);
            bench.spent_ns = 0;
            let answered = bench.publish(rounds);
            println!("{work}: {:.0} ns", bench.spent_ns as f64 / answered as f64);
            return ExitCode::SUCCESS;
        }
        _ => {
            let known = "options, register, digest, call, cdr, ping, sipping or notify";
            eprintln!("steps: {known}, not {work:?}");
            return ExitCode::from(2);
        }
    };
    // The first ones fill what is kept.
    let before = rounds.min(2 * PHONES);
    (0..before).for_each(|n| play(&mut bench, n));
    bench.spent_ns = 0;
    (before..before + rounds).for_each(|n| play(&mut bench, n));
    println!("{work}: {:.0} ns", bench.spent_ns as f64 / rounds as f64);
    ExitCode::SUCCESS
}

struct Bench {
    worker: Worker,
    now: Now,
    /// What passes from one batch to the next.
    pause_ns: u64,
    waiting: Vec<(SocketAddr, Bytes)>,
    sent: Vec<(SocketAddr, Bytes)>,
    spent_ns: u64,
    /// Phones that take turns.
    phones: usize,
}

impl Bench {
    fn new(script: &str, pause_ns: u64) -> Result<Self, String> {
        let now = Now { mono_ns: 1_000_000 * MS, unix_ms: 1_800_000_000_000 };
        let mut chance = Chance::from_number(1);
        let mut files = Files([("bench.cfg".to_owned(), script.to_owned())].into());
        let (program, diags, map) =
            Tables::new(MODULES).with(|c| tandem_script::compile(&mut files, "bench.cfg", c));
        let rendered = |diags: &_| tandem_script::diag::render_all(diags, &map);
        let program = program.ok_or_else(|| rendered(&diags))?;
        let options =
            NodeOptions { chance: chance.fork(), now, workers: 1, command_line: Vec::new() };
        let node: Arc<Node> =
            Node::build(program, MODULES, options).map_err(|diags| rendered(&diags))?;
        let mut worker = Worker::new(node, 1, chance, now);
        let mut out = Out::default();
        worker.start(now, &mut out);
        // Requests wait until the node has read its state; there is none here.
        for effect in out.effects {
            if let Effect::ReadFile { token, .. } = effect {
                let nothing = Input::FileRead { token, result: Ok(None) };
                worker.step(now, nothing, &mut Out::default());
            }
        }
        let (waiting, sent) = (Vec::new(), Vec::new());
        Ok(Self { worker, now, pause_ns, waiting, sent, spent_ns: 0, phones: PHONES })
    }

    /// A message that is taken with its batch.
    fn send(&mut self, from: SocketAddr, text: String) {
        self.waiting.push((from, Bytes::from(text)));
        if self.waiting.len() >= BATCH {
            self.flush();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the time")]
    fn flush(&mut self) {
        self.now = self.now.plus_ns(self.pause_ns);
        let batch = std::mem::take(&mut self.waiting);
        let mut out = Out::default();
        let begun = Instant::now();
        serve(&mut self.worker, self.now, batch, &mut out);
        self.spent_ns += begun.elapsed().as_nanos() as u64;
        self.sent.clear();
        for effect in out.effects.drain(..) {
            if let Effect::Send(send) = effect {
                self.sent.push((send.to, send.payload));
            }
        }
    }

    fn request(&mut self, method: &str, n: usize) {
        self.send(PHONE, request(method, (n, self.phones), ""));
    }

    /// A refresh that is challenged and comes again with an answer.
    fn challenged(&mut self, n: usize) {
        self.waiting
            .push((PHONE, Bytes::from(request("REGISTER", (n, PHONES), "X-Digest: yes\r\n"))));
        if self.waiting.len() < BATCH {
            return;
        }
        self.flush();
        let asked = self.sent.drain(..).filter_map(|(_, reply)| {
            let text = std::str::from_utf8(&reply).ok()?;
            let n = text.split_once("CSeq: ")?.1.split(' ').next()?.parse().ok()?;
            let user = format!("u{}", n % PHONES);
            let line = digest::credentials(&reply, &user, "sip:127.0.0.1")?;
            let lines = format!("X-Digest: yes\r\n{line}");
            Some((PHONE, Bytes::from(request("REGISTER", (n, PHONES), &lines))))
        });
        self.waiting = asked.collect();
        assert_eq!(self.waiting.len(), BATCH, "every request is challenged");
        self.flush();
        assert!(self.sent.iter().all(|(_, reply)| reply.starts_with(b"SIP/2.0 200")));
    }

    /// Lets time pass, slot by slot, until so many pings have left; how many that were.
    fn pings(&mut self, wanted: usize) -> usize {
        let mut sent = 0;
        while sent < wanted {
            self.now = self.now.plus_ns(36 * MS);
            self.flush();
            sent += self.sent.len();
        }
        sent
    }

    /// A batch of calls at once, each a step further with every batch.
    fn call(&mut self, n: usize) {
        let caller: SocketAddr = ([127, 0, 0, 9], 5062).into();
        let body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                    m=audio 40000 RTP/AVP 0 8\r\n";
        let text = format!(
            "INVITE sip:bob@127.0.0.2:5062 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.9:5062;rport;branch=z9hG4bKi{n:x}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@127.0.0.1>;tag=a{n:x}\r\nTo: <sip:bob@127.0.0.2>\r\n\
             Call-ID: call-{n}@127.0.0.9\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:a@127.0.0.9:5062>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.waiting.push((caller, Bytes::from(text)));
        if self.waiting.len() >= BATCH {
            self.play_calls();
        }
    }

    fn play_calls(&mut self) {
        let (caller, callee) = (([127, 0, 0, 9], 5062).into(), ([127, 0, 0, 2], 5062).into());
        self.flush();
        let invites = self.take("INVITE");
        for code in ["180 Ringing", "200 OK"] {
            self.waiting = invites.iter().map(|m| (callee, reply(m, code))).collect();
            self.flush();
        }
        let answers = self.take("SIP/2.0 200");
        for method in ["ACK", "BYE"] {
            self.waiting = answers.iter().map(|m| (caller, in_dialog(m, method))).collect();
            self.flush();
        }
        let byes = self.take("BYE");
        self.waiting = byes.iter().map(|m| (callee, reply(m, "200 OK"))).collect();
        self.flush();
        assert_eq!(self.take("SIP/2.0 200").len(), BATCH, "every call comes to its end");
    }

    /// Has all watchers subscribe.
    fn watch(&mut self) {
        for n in 0..WATCHERS {
            let text = format!(
                "SUBSCRIBE sip:box@127.0.0.1 SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 127.0.0.9:5062;branch=z9hG4bKs{n:x}\r\nMax-Forwards: 70\r\n\
                 From: <sip:w{n}@127.0.0.1>;tag=f{n:x}\r\nTo: <sip:box@127.0.0.1>\r\n\
                 Call-ID: watch-{n}@127.0.0.9\r\nCSeq: 1 SUBSCRIBE\r\n\
                 Contact: <sip:w{n}@127.0.0.9:5062>\r\nEvent: message-summary\r\n\
                 Expires: 3600\r\nContent-Length: 0\r\n\r\n"
            );
            self.waiting.push((PHONE, Bytes::from(text)));
            self.flush();
            self.answer_notifies();
        }
    }

    /// Publishes a state after the other, until so many NOTIFYs have been answered; how many.
    fn publish(&mut self, wanted: usize) -> usize {
        let mut answered = 0;
        for turn in (0usize..).take_while(|turn| turn * WATCHERS < wanted) {
            let body = format!("Messages-Waiting: yes\r\nVoice-Message: {turn}/8 (0/2)\r\n");
            let text = format!(
                "PUBLISH sip:box@127.0.0.1 SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 127.0.0.9:5062;branch=z9hG4bKp{wanted}-{turn}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:box@127.0.0.1>;tag=p\r\n\
                 To: <sip:box@127.0.0.1>\r\nCall-ID: state-{wanted}-{turn}@127.0.0.9\r\n\
                 CSeq: 1 PUBLISH\r\nEvent: message-summary\r\nExpires: 3600\r\n\
                 Content-Type: application/simple-message-summary\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            self.waiting.push((PHONE, Bytes::from(text)));
            self.flush();
            answered += self.answer_notifies();
        }
        answered
    }

    /// Answers NOTIFYs, batch by batch, until none is left; how many that were.
    fn answer_notifies(&mut self) -> usize {
        let mut open = self.take("NOTIFY");
        let (mut answered, mut idle) = (0, 0);
        while idle < 2 {
            let batch = open.split_off(open.len().saturating_sub(BATCH));
            answered += batch.len();
            self.waiting.extend(batch.iter().map(|notify| (PHONE, reply(notify, "200 OK"))));
            self.flush();
            open.extend(self.take("NOTIFY"));
            // Those that a step leaves over come a millisecond later.
            idle = if open.is_empty() { idle + 1 } else { 0 };
        }
        answered
    }

    fn take(&mut self, start: &str) -> Vec<String> {
        let all = self.sent.drain(..).map(|(_, m)| String::from_utf8_lossy(&m).into_owned());
        all.filter(|m| m.starts_with(start)).collect()
    }
}

/// Every phone is there.
const PHONE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9)), 5062);

/// The request of one of the phones; `lines` are further headers.
fn request(method: &str, (n, phones): (usize, usize), lines: &str) -> String {
    let phone = n % phones;
    let user = if method == "OPTIONS" { String::new() } else { format!("u{phone}@") };
    let contact = format!(
        "Contact: <sip:u{phone}@127.0.0.9:5062;transport=udp>\r\nExpires: 3600\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY\r\n"
    );
    let contact = if method == "REGISTER" { &contact } else { "" };
    format!(
        "{method} sip:127.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.9:5062;rport;branch=z9hG4bK-{n:x}-1\r\n\
         Max-Forwards: 70\r\nFrom: <sip:u{phone}@127.0.0.1>;tag=t{n:x}\r\n\
         To: <sip:{user}127.0.0.1>\r\nCall-ID: {method}-{phone}@127.0.0.9\r\n\
         CSeq: {n} {method}\r\n{contact}{lines}User-Agent: bench\r\nContent-Length: 0\r\n\r\n"
    )
}

/// All that is measured.
#[inline(never)]
fn serve(worker: &mut Worker, now: Now, batch: Vec<(SocketAddr, Bytes)>, out: &mut Out) {
    for (source, payload) in batch {
        let local_ip = [127, 0, 0, 1].into();
        let input = Input::Datagram { socket: SocketId(0), source, local_ip, payload };
        worker.step(now, input, out);
    }
    worker.finish(now, out);
}

fn lines<'a>(message: &'a str, names: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name));
    message.lines().filter(wanted).map(|line| format!("{line}\r\n"))
}

fn reply(request: &str, status: &str) -> Bytes {
    let names = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
    let head: String = lines(request, &names).collect();
    let to = lines(request, &["To:"]).next().unwrap_or_default();
    let tag = if to.contains("tag=") { "" } else { ";tag=b" };
    Bytes::from(format!(
        "SIP/2.0 {status}\r\n{head}{}{tag}\r\nContact: <sip:bob@127.0.0.2:5062>\r\n\
         Content-Length: 0\r\n\r\n",
        to.trim_end()
    ))
}

fn in_dialog(answer: &str, method: &str) -> Bytes {
    let head: String = lines(answer, &["From:", "To:", "Call-ID:"]).collect();
    let route: String = lines(answer, &["Record-Route:"]).collect();
    let route = route.replace("Record-Route:", "Route:");
    let id = lines(answer, &["Call-ID:"]).next().unwrap_or_default();
    let n: String = id.chars().filter(char::is_ascii_digit).collect();
    let cseq = if method == "ACK" { 1 } else { 2 };
    Bytes::from(format!(
        "{method} sip:bob@127.0.0.2:5062 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.9:5062;rport;branch=z9hG4bK{method}{n}\r\n{route}\
         Max-Forwards: 70\r\n{head}CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
    ))
}
