//! Two nodes that share the pinging of contacts (`pinging_mode` cooperation): counted on the wire,
//! each phone is pinged by one of them, and by the other one when that is gone.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value as Json;
use tandem_tests::{PATIENCE, Process, Site, mi, now, program, wait_until};

const PHONES: u16 = 40;
const INTERVAL: Duration = Duration::from_secs(2);

fn start(site: &Site, id: u8) -> Process {
    let other = 3 - id;
    let (own, theirs) = (site.net.ip(id), site.net.ip(other));
    let (dir, seed) = (site.dir().display(), if id == 1 { ", flags=seed" } else { "" });
    let script = format!(
        "log_level=3\nsocket=udp:{own}:5060\nsocket=bin:{own}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"mi_fifo.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{own}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:{theirs}:5566\")\n\
         modparam(\"clusterer\", \"ping_interval\", 1)\n\
         modparam(\"clusterer\", \"ping_timeout\", 500)\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\n\
         modparam(\"usrloc\", \"use_domain\", 0)\n\
         modparam(\"usrloc\", \"pinging_mode\", \"cooperation\")\n\
         modparam(\"nathelper\", \"natping_interval\", {})\n\
         route {{ save(\"location\"); }}\n",
        INTERVAL.as_secs()
    );
    let file = site.write(&format!("pinging{id}.cfg"), &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", &format!("state{id}")];
    let log = (0..9).map(|n| site.dir().join(format!("node{id}-{n}.log")));
    let log = { log }.find(|log| !log.exists()).unwrap();
    let mut node = Process::start(&format!("node {id}"), &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

fn contacts(site: &Site, id: u8) -> usize {
    let dump = mi(&site.dir().join(format!("fifo{id}")), "ul_dump", Json::Null);
    tandem_tests::contacts(&dump["result"]).len()
}

fn is_in_step(site: &Site, id: u8) -> bool {
    let caps = mi(&site.dir().join(format!("fifo{id}")), "clusterer_list_cap", Json::Null);
    caps.to_string().contains("\"Ok\"") && contacts(site, id) == usize::from(PHONES)
}

/// Phones that say nothing after their REGISTER.
struct Phones(Vec<UdpSocket>);

impl Phones {
    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
    fn register(site: &Site) -> Self {
        let (ip, node) = (site.net.ip(20), SocketAddr::from((site.net.ip(1), 5060)));
        let phone = |n: u16| {
            let socket = UdpSocket::bind((ip, 6_000 + n)).unwrap();
            let at = socket.local_addr().unwrap();
            let request = format!(
                "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{n}\r\n\
                 From: <sip:u{n}@a>;tag=f\r\nTo: <sip:u{n}@a>\r\nCall-ID: r{n}\r\n\
                 CSeq: 1 REGISTER\r\nContact: <sip:u{n}@{at}>\r\nExpires: 600\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(request.as_bytes(), node).unwrap();
            let mut buffer = [0; 2_048];
            let n = socket.recv(&mut buffer).unwrap();
            assert!(buffer[..n].starts_with(b"SIP/2.0 200"), "registered");
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self((0..PHONES).map(phone).collect())
    }

    /// The pings that each phone has got since the last time, by their source.
    fn pings(&self) -> Vec<BTreeMap<IpAddr, usize>> {
        let of = |socket: &UdpSocket| {
            let (mut pings, mut buffer) = (BTreeMap::new(), [0; 64]);
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                assert_eq!(&buffer[..n], &[0; 4], "a ping");
                *pings.entry(from.ip()).or_default() += 1;
            }
            pings
        };
        self.0.iter().map(of).collect()
    }

    /// Waits for some intervals.
    fn pings_of(&self, intervals: u32) -> Vec<BTreeMap<IpAddr, usize>> {
        self.pings();
        let begun = now();
        let over = || begun.elapsed() >= INTERVAL * intervals;
        wait_until("intervals to pass", INTERVAL * intervals + PATIENCE, over);
        self.pings()
    }

    /// How many phones each node pings, once an interval and alone.
    fn shares(&self, site: &Site) -> [usize; 2] {
        let pings = self.pings_of(3);
        for (n, of) in pings.iter().enumerate() {
            let count: usize = of.values().sum();
            assert!(of.len() == 1 && (2..=4).contains(&count), "phone {n}: {of:?}");
        }
        [1, 2].map(|id| {
            let ip = IpAddr::from(site.net.ip(id));
            pings.iter().filter(|of| of.contains_key(&ip)).count()
        })
    }
}

#[test]
fn nodes_that_cooperate_ping_each_phone_once_and_all_of_a_dead_one() {
    let site = Site::bare("pinging");
    let mut one = start(&site, 1);
    let _two = start(&site, 2);
    let caps = |id: u8| mi(&site.dir().join(format!("fifo{id}")), "clusterer_list_cap", Json::Null);
    for id in [1, 2] {
        wait_until("the nodes are in step", PATIENCE, || caps(id).to_string().contains("\"Ok\""));
    }
    let phones = Phones::register(&site);
    wait_until("the other node knows them", PATIENCE, || is_in_step(&site, 2));
    let shares = phones.shares(&site);
    assert!(shares.iter().all(|n| *n >= 10), "both do their part: {shares:?}");

    one.kill();
    let two_ip = IpAddr::from(site.net.ip(2));
    let by_two = |of: &BTreeMap<IpAddr, usize>| of.get(&two_ip) > Some(&0);
    let mut heard = vec![false; phones.0.len()];
    wait_until("the other one to ping all", 4 * INTERVAL, || {
        heard.iter_mut().zip(phones.pings()).for_each(|(heard, of)| *heard |= by_two(&of));
        heard.iter().all(|heard| *heard)
    });
    assert_eq!(phones.shares(&site), [0, phones.0.len()]);

    let _one = start(&site, 1);
    wait_until("the node is in step again", PATIENCE, || is_in_step(&site, 1));
    assert_eq!(phones.shares(&site), shares, "as before");
}
