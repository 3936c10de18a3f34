use super::*;
use crate::packet::{proved_reply, reply};
use tandem_clock::SEC;

const PATIENCE: Patience = Patience { timeout_s: 2, retries: 1, deadtime_s: 0 };
const SECRET: &[u8] = b"s3cret";

struct World {
    now: Now,
    client: Client,
    /// What was written last to each server.
    written: BTreeMap<usize, Bytes>,
    said: Vec<String>,
    asked: u64,
}

impl World {
    fn new(hosts: &[&str], patience: Patience) -> Self {
        let spec = |host: &&str| Spec {
            kind: Kind::Auth,
            host: (*host).to_owned(),
            port: 1812,
            secret: SECRET.to_vec(),
            needs_proof: false,
        };
        let client = Client::new(hosts.iter().map(spec).collect(), patience);
        let now = Now { mono_ns: 100 * SEC, unix_ms: 0 };
        Self { now, client, written: BTreeMap::new(), said: Vec::new(), asked: 0 }
    }

    fn happens(&mut self, event: Event) {
        let mut chance = || [7; 16];
        for want in self.client.handle(self.now, event, &mut chance) {
            self.said.push(match want {
                Want::Write(server, bytes) => {
                    self.written.insert(server, bytes);
                    format!("write {server}")
                }
                Want::Log(_, text) => text,
                Want::Done(number, Outcome::Accepted(_)) => format!("{number} accepted"),
                Want::Done(number, Outcome::Rejected(_)) => format!("{number} rejected"),
                Want::Done(number, Outcome::Failed(why)) => format!("{number} failed: {why}"),
                other => format!("{other:?}"),
            });
        }
    }

    fn ask(&mut self) -> String {
        self.asked += 1;
        self.happens(Event::Ask { number: self.asked, kind: Kind::Auth, avps: Vec::new() });
        self.take()
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.said).join("; ")
    }

    fn answers(&mut self, server: usize, code: Code, secret: &[u8]) -> String {
        let bytes = reply(code, &self.written[&server], secret, &[]).into();
        self.happens(Event::Bytes { server, bytes });
        self.take()
    }

    fn waits(&mut self) -> String {
        self.now = self.now.plus_ns(self.client.deadline() - self.now.mono_ns);
        self.happens(Event::Due);
        self.take()
    }
}

fn up(hosts: &[&str]) -> World {
    let mut world = World::new(hosts, PATIENCE);
    assert_eq!(world.ask(), "Open(0, 10.0.0.1:1812)");
    world.happens(Event::Opened { server: 0 });
    assert_eq!(world.take(), "write 0");
    world
}

#[test]
fn requests_are_answered() {
    let mut world = up(&["10.0.0.1"]);
    assert_eq!(world.answers(0, Code::AccessAccept, SECRET), "1 accepted");
    assert_eq!(world.ask(), "write 0");
    assert_eq!(world.answers(0, Code::AccessReject, SECRET), "2 rejected");
    assert_eq!(world.ask(), "write 0");
    assert_eq!(world.answers(0, Code::AccountingResponse, SECRET), "", "that is no answer");
    assert_eq!(world.answers(0, Code::AccessChallenge, SECRET), "3 rejected");
    assert_eq!(world.answers(0, Code::AccessAccept, SECRET), "", "nobody waits for it");
    assert_eq!(world.client.deadline(), Mono::MAX);
}

#[test]
fn whoever_does_not_know_the_secret_is_not_heard() {
    let mut world = up(&["10.0.0.1"]);
    assert!(world.answers(0, Code::AccessAccept, b"x").contains("another secret"));
    assert_eq!(world.answers(0, Code::AccessAccept, b"x"), "", "it is said once");
    assert_eq!(world.answers(0, Code::AccessAccept, SECRET), "1 accepted");
}

#[test]
fn where_a_proof_is_required_an_answer_without_one_is_not_heard() {
    let mut world = up(&["10.0.0.1"]);
    world.client.servers[0].spec.needs_proof = true;
    let said = world.answers(0, Code::AccessAccept, SECRET);
    assert!(said.contains("10.0.0.1:1812 answers without a Message-Authenticator"), "{said}");
    assert_eq!(world.answers(0, Code::AccessAccept, SECRET), "", "it is said once");
    let forged = proved_reply(Code::AccessAccept, &world.written[&0], b"x", &[]);
    let proved = proved_reply(Code::AccessAccept, &world.written[&0], SECRET, &[]);
    for (bytes, expected) in [(forged, ""), (proved, "1 accepted")] {
        world.happens(Event::Bytes { server: 0, bytes: bytes.into() });
        assert_eq!(world.take(), expected);
    }
}

#[test]
fn a_silent_server_is_asked_again_and_then_the_next_one() {
    let mut world = up(&["10.0.0.1", "10.0.0.2"]);
    let first = world.written[&0].clone();
    assert_eq!(world.waits(), "write 0");
    assert_eq!(world.written[&0], first, "the same packet");
    let said = world.waits();
    assert_eq!(
        said,
        "the server 10.0.0.1:1812: it does not answer; Close(0); Open(1, 10.0.0.2:1812)"
    );
    world.happens(Event::Opened { server: 1 });
    assert_eq!(world.take(), "write 1");
    assert_eq!(world.answers(1, Code::AccessAccept, SECRET), "1 accepted");
    assert_eq!(world.ask(), "Open(0, 10.0.0.1:1812)", "the first one is first again");
    world.happens(Event::Opened { server: 0 });
    world.take();
    assert!(
        world
            .answers(0, Code::AccessAccept, SECRET)
            .starts_with("the server 10.0.0.1:1812 answers again")
    );
}

#[test]
fn a_request_that_nobody_answers_fails_and_is_said_once() {
    let mut world = up(&["10.0.0.1"]);
    let begun = world.now.mono_ns;
    assert_eq!(world.waits(), "write 0");
    let said = world.waits();
    assert_eq!(
        said,
        "the server 10.0.0.1:1812: it does not answer; Close(0); 1 failed: no server answers"
    );
    assert_eq!(world.now.mono_ns - begun, 4 * SEC);
    world.ask();
    assert_eq!(world.waits(), "Close(0); 2 failed: no server answers", "no socket within the time");
}

#[test]
fn a_server_that_was_silent_is_left_alone_for_its_dead_time() {
    let patience = Patience { deadtime_s: 60, retries: 0, ..PATIENCE };
    let mut world = World::new(&["10.0.0.1", "10.0.0.2"], patience);
    world.ask();
    world.happens(Event::Closed { server: 0, why: "nobody listens there".into() });
    let said = world.take();
    assert_eq!(
        said,
        "Open(0, 10.0.0.1:1812); the server 10.0.0.1:1812: nobody listens there; \
                      Open(1, 10.0.0.2:1812)"
            .split_once("; ")
            .unwrap()
            .1
    );
    world.happens(Event::Opened { server: 1 });
    world.answers(1, Code::AccessAccept, SECRET);
    assert_eq!(world.ask(), "write 1", "the first one is dead");
    world.now = world.now.plus_ns(61 * SEC);
    assert_eq!(world.ask(), "Open(0, 10.0.0.1:1812)");
}

#[test]
fn names_are_looked_up() {
    let mut world = World::new(&["radius.test"], PATIENCE);
    assert_eq!(world.ask(), "Resolve(0)");
    let found = Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
    world.happens(Event::Resolved { server: 0, found });
    assert_eq!(world.take(), "Open(0, 10.0.0.2:1812)");
    world.happens(Event::Closed { server: 0, why: "gone".into() });
    assert_eq!(world.take(), "the server radius.test:1812: gone; 1 failed: no server answers");
    world.ask();
    world.happens(Event::Resolved { server: 0, found: Err("no such name".into()) });
    assert_eq!(world.take(), "2 failed: no server answers");
}

#[test]
fn no_two_requests_have_the_same_name_and_the_rest_waits() {
    let mut world = up(&["10.0.0.1"]);
    let mut names = BTreeSet::from([world.written[&0][1]]);
    for _ in 1..256 {
        assert_eq!(world.ask(), "write 0");
        assert!(names.insert(world.written[&0][1]));
    }
    assert_eq!(world.ask(), "", "all 256 names are taken");
    assert_eq!(world.answers(0, Code::AccessAccept, SECRET), "256 accepted; write 0");
    while world.asked < REQUESTS_MAX as u64 + 1 {
        world.ask();
    }
    let said = world.ask();
    assert!(said.starts_with("4096 requests wait") && said.contains("failed: 4096"), "{said}");
    assert!(world.ask().ends_with("failed: 4096 requests wait for servers already"));
    assert!(!world.ask().contains("fails at once"), "it is said once");
}

#[test]
fn what_waits_too_long_for_a_name_goes_on_to_the_next_server() {
    let mut world = up(&["10.0.0.1", "10.0.0.2"]);
    (1..300).for_each(|_| drop(world.ask()));
    let mut said = String::new();
    for _ in 0..2 {
        said += &world.waits();
    }
    assert_eq!(said.matches("does not answer").count(), 1);
    assert!(said.contains("Open(1, 10.0.0.2:1812)"));
    let (.., first) = world.client.state().next().unwrap();
    let (.., second) = world.client.state().nth(1).unwrap();
    assert_eq!(first + second, 300);
}
