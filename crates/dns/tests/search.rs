//! RFC 3263, with a DNS that the test plays.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use tandem_dns::{
    Answer, Found, HOPS_MAX, Name, Protocol, QUESTIONS_MAX, Question, Record, RecordKind, Search,
    Settings, Target,
};

/// The zone `name kind -> records`, as text.
#[derive(Default)]
struct Zone(BTreeMap<Question, Vec<Record>>);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

impl Zone {
    fn a(mut self, host: &str, ip: &str) -> Self {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        let kind = if ip.is_ipv4() { RecordKind::A } else { RecordKind::Aaaa };
        self.0.entry(Question::new(&name(host), kind)).or_default().push(Record::Ip(ip));
        self
    }

    fn srv(mut self, service: &str, (priority, weight, port): (u16, u16, u16), to: &str) -> Self {
        let question = Question::new(&name(service), RecordKind::Srv);
        let record = Record::Srv { priority, weight, port, target: name(to) };
        self.0.entry(question).or_default().push(record);
        self
    }

    fn naptr(mut self, domain: &str, order: u16, service: &str, to: &str) -> Self {
        let record = Record::Naptr {
            order,
            preference: 10,
            flags: "s".into(),
            service: service.into(),
            replacement: name(to),
        };
        let question = Question::new(&name(domain), RecordKind::Naptr);
        self.0.entry(question).or_default().push(record);
        self
    }

    fn answer(&self, question: &Question) -> Answer {
        match self.0.get(question) {
            Some(records) => Answer::of(records.clone(), 60),
            None => Answer::none(60),
        }
    }
}

fn settings() -> Settings {
    let protocols = vec![Protocol::Udp, Protocol::Tcp];
    Settings { protocols, naptr: true, ipv4: true, ipv6: false }
}

fn target(host: &str) -> Target {
    Target { name: name(host), port: None, protocol: None }
}

/// Runs a search to its end; the destinations as text, and the questions.
fn run(zone: &Zone, mut search: Search) -> (Vec<String>, usize) {
    let mut asked = 0;
    loop {
        match search.go_on() {
            Found::Ask(questions) => {
                assert!(!questions.is_empty(), "it waits for nothing");
                asked += questions.len();
                for question in questions {
                    let answer = zone.answer(&question);
                    search.answered(&question, answer);
                }
            }
            Found::Hops(hops) => {
                let text = |(p, a): &(Protocol, SocketAddr)| format!("{p:?} {a}");
                return (hops.iter().map(text).collect(), asked);
            }
            Found::Failed => return (vec!["failed".into()], asked),
        }
    }
}

fn hops(zone: &Zone, target: Target) -> Vec<String> {
    run(zone, Search::new(target, settings(), 1)).0
}

#[test]
fn a_port_means_this_host_and_asks_for_nothing_but_addresses() {
    let zone = Zone::default().a("h", "10.0.0.1").a("h", "10.0.0.2").srv(
        "_sip._udp.h",
        (0, 0, 7000),
        "other",
    );
    let to = Target { port: Some(5070), ..target("h") };
    let (hops, asked) = run(&zone, Search::new(to, settings(), 1));
    assert_eq!((hops, asked), (vec!["Udp 10.0.0.1:5070".into(), "Udp 10.0.0.2:5070".into()], 1));
    let tcp = Target { port: Some(5070), protocol: Some(Protocol::Tcp), ..target("h") };
    assert_eq!(self::hops(&zone, tcp), ["Tcp 10.0.0.1:5070", "Tcp 10.0.0.2:5070"]);
}

#[test]
fn servers_come_by_priority_and_a_host_without_any_is_its_own() {
    let zone = Zone::default()
        .srv("_sip._udp.d", (20, 0, 5062), "b")
        .srv("_sip._udp.d", (10, 0, 5061), "a")
        .a("a", "10.0.0.1")
        .a("b", "10.0.0.2")
        .a("d", "10.0.0.9");
    assert_eq!(hops(&zone, target("d")), ["Udp 10.0.0.1:5061", "Udp 10.0.0.2:5062"]);
    let tcp = Target { protocol: Some(Protocol::Tcp), ..target("d") };
    assert_eq!(hops(&zone, tcp), ["Tcp 10.0.0.9:5060"], "no server for TCP: the host");
    assert_eq!(hops(&zone, target("nowhere")), [] as [&str; 0]);
}

#[test]
fn naptr_chooses_the_transport_and_what_we_do_not_speak_is_passed_over() {
    let zone = Zone::default()
        .naptr("d", 10, "SIPS+D2T", "_sips._tcp.d")
        .naptr("d", 30, "SIP+D2U", "_sip._udp.d")
        .naptr("d", 20, "sip+d2t", "_sip._tcp.d")
        .naptr("d", 5, "E2U+sip", "x")
        .srv("_sip._udp.d", (0, 0, 5060), "u")
        .srv("_sip._tcp.d", (0, 0, 5070), "t")
        .a("u", "10.0.0.1")
        .a("t", "10.0.0.2");
    assert_eq!(hops(&zone, target("d")), ["Tcp 10.0.0.2:5070", "Udp 10.0.0.1:5060"]);
    let without = Settings { naptr: false, ..settings() };
    let (found, _) = run(&zone, Search::new(target("d"), without, 1));
    assert_eq!(found, ["Udp 10.0.0.1:5060", "Tcp 10.0.0.2:5070"]);
}

#[test]
fn ipv6_is_asked_for_when_there_is_no_ipv4() {
    let zone = Zone::default().a("six", "2001:db8::1").a("both", "::1").a("both", "10.0.0.1");
    assert_eq!(hops(&zone, target("six")), [] as [&str; 0]);
    let six = Settings { ipv6: true, ..settings() };
    let found = |host| run(&zone, Search::new(target(host), six.clone(), 1)).0;
    assert_eq!(found("six"), ["Udp [2001:db8::1]:5060"]);
    assert_eq!(found("both"), ["Udp 10.0.0.1:5060"]);
}

#[test]
fn weights_are_kept_in_proportion() {
    let zone = Zone::default()
        .srv("_sip._udp.d", (0, 90, 1), "a")
        .srv("_sip._udp.d", (0, 10, 2), "b")
        .srv("_sip._udp.d", (0, 0, 3), "c")
        .a("a", "10.0.0.1")
        .a("b", "10.0.0.2")
        .a("c", "10.0.0.3");
    let mut first = BTreeMap::new();
    for seed in 0..2_000 {
        let (found, _) = run(&zone, Search::new(target("d"), settings(), seed));
        assert_eq!(found.len(), 3);
        *first.entry(found[0].clone()).or_insert(0) += 1;
    }
    let a = first["Udp 10.0.0.1:1"];
    let b = first["Udp 10.0.0.2:2"];
    assert!((1_650..=1_900).contains(&a) && (100..=320).contains(&b), "{first:?}");
}

#[test]
fn a_failure_is_told_from_absence() {
    let mut search = Search::new(Target { port: Some(1), ..target("h") }, settings(), 1);
    let Found::Ask(open) = search.go_on() else { panic!("nothing asked") };
    assert_eq!(search.go_on(), Found::Ask(vec![]), "each question is asked once");
    search.answered(&open[0], Answer::failure());
    assert_eq!(search.go_on(), Found::Failed);
}

#[test]
fn answers_to_other_questions_are_not_believed() {
    let mut search = Search::new(Target { port: Some(1), ..target("h") }, settings(), 1);
    let evil = Question::new(&name("evil"), RecordKind::A);
    search.answered(&evil, Answer::of(vec![Record::Ip([6, 6, 6, 6].into())], 1));
    assert!(matches!(search.go_on(), Found::Ask(open) if open.len() == 1));
}

fn any_record() -> impl Strategy<Value = Record> {
    let host = prop::sample::select(vec!["a", "b", "c", "d", "_sip._udp.a", "_sip._udp.d"]);
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Record::Ip(ip.into())),
        (any::<(u16, u16, u16)>(), host.clone()).prop_map(|((priority, weight, port), to)| {
            Record::Srv { priority, weight, port, target: name(to) }
        }),
        (any::<(u16, u16)>(), host, prop::sample::select(vec!["SIP+D2U", "SIP+D2T", "x"]))
            .prop_map(|((order, preference), to, service)| Record::Naptr {
                order,
                preference,
                flags: "s".into(),
                service: service.into(),
                replacement: name(to),
            }),
    ]
}

proptest! {
    /// Whatever a DNS says, a search ends within its bounds.
    #[test]
    fn every_search_ends(
        answers in prop::collection::vec(
            (prop::collection::vec(any_record(), 0..60), any::<bool>()),
            0..60,
        ),
        seed: u64,
    ) {
        let mut search = Search::new(target("d"), settings(), seed);
        let mut answers = answers.into_iter();
        let mut asked = 0;
        for _ in 0..=QUESTIONS_MAX {
            match search.go_on() {
                Found::Ask(open) => {
                    asked += open.len();
                    prop_assert!(!open.is_empty() && asked <= QUESTIONS_MAX);
                    for question in open {
                        let (records, failed) = answers.next().unwrap_or_default();
                        let answer = Answer { records, ttl_s: 1, failed };
                        search.answered(&question, answer);
                    }
                }
                Found::Hops(hops) => {
                    prop_assert!(hops.len() <= HOPS_MAX);
                    return Ok(());
                }
                Found::Failed => return Ok(()),
            }
        }
        prop_assert!(false, "no end");
    }
}
