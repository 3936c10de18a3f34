//! What two nodes have to do with the states of any such module; for the tests of the modules.

use std::collections::BTreeSet;

use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::Nodes;

/// A module under test.
#[derive(Clone, Copy)]
pub struct Case {
    pub module: &'static str,
    pub modules: Modules,
    /// What is loaded beside it, tm and the clusterer.
    pub loads: &'static [&'static str],
    /// Fills the database of both nodes.
    pub fill: fn(&mut MemoryDb),
    /// Lines of the script with parameters.
    pub params: &'static str,
    /// The parameter for seconds between probes.
    pub interval: &'static str,
    /// A route for the event, which logs lines that begin with `#`.
    pub event_route: &'static str,
    /// Three targets that can be used.
    pub targets: [&'static str; 3],
    /// What an operator does to take one out of service, or in.
    pub put: fn(&mut Nodes, usize, &str, bool),
    /// A state in the words of the management interface.
    pub state: fn(&mut Nodes, usize, &str) -> String,
    /// Those of a target that is up, and of one that was taken out.
    pub words: [&'static str; 2],
}

impl Case {
    /// A line of the script that sets a parameter of the module.
    pub fn set(&self, name: &str, value: &str) -> String {
        let value = match value.parse::<i64>() {
            Ok(_) => value.to_owned(),
            Err(_) => format!("\"{value}\""),
        };
        format!("modparam(\"{}\", \"{name}\", {value})\n", self.module)
    }

    /// Node `id` of a cluster of two; the first begins as holder of the tag `vip`.
    pub fn script(&self, id: usize, params: &str) -> String {
        let (other, seed) = (3 - id, if id == 1 { ", flags=seed" } else { "" });
        let state = if id == 1 { "active" } else { "backup" };
        let basic = ["proto_udp", "proto_bin", "db_sqlite", "clusterer", "tm"];
        let loads = basic.iter().chain(self.loads).chain([&self.module]);
        let loads: String = loads.map(|name| format!("loadmodule \"{name}.so\"\n")).collect();
        format!(
            "socket=udp:127.0.0.{id}:5060\nsocket=bin:127.0.1.{id}:5566\n{loads}\
             modparam(\"clusterer\", \"my_node_id\", {id})\n\
             modparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \
             \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
             modparam(\"clusterer\", \"neighbor_node_info\", \
             \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
             {}{}{params}route {{ exit; }}\n{}",
            self.set("db_url", "sqlite:///tmp/x.db"),
            self.params,
            self.event_route
        )
    }

    /// The two nodes, when all is quiet.
    pub fn start(&self, params: &str) -> Nodes {
        let scripts = [1, 2].map(|id| self.script(id, params)).to_vec();
        let mut nodes = Nodes::asleep(self.modules, scripts);
        (self.fill)(&mut nodes.db);
        nodes.boot_all();
        nodes.advance_ms(10_000);
        nodes
    }

    fn put(&self, nodes: &mut Nodes, at: usize, target: usize, up: bool) {
        (self.put)(nodes, at, self.targets[target], up);
        nodes.advance_ms(100);
    }

    fn is_up(&self, nodes: &mut Nodes, at: usize, target: usize) -> bool {
        let state = (self.state)(nodes, at, self.targets[target]);
        assert!(self.words.contains(&state.as_str()), "{} is {state}", self.targets[target]);
        state == self.words[0]
    }

    /// A change at one node is a change at the other, also at one that comes back.
    ///
    /// # Panics
    /// If it is not.
    pub fn replicated(&self) {
        let mut nodes = self.start(&self.set("cluster_id", "1"));
        nodes.said(1);
        self.put(&mut nodes, 0, 1, false);
        assert!(!self.is_up(&mut nodes, 1, 1));
        let said = nodes.said(1);
        assert!(said.iter().any(|text| text.contains(self.targets[1])), "{said:?}");
        self.put(&mut nodes, 1, 1, true);
        assert!(self.is_up(&mut nodes, 0, 1));
        nodes.kill(1);
        self.put(&mut nodes, 0, 0, false);
        nodes.boot(1);
        nodes.advance_ms(10_000);
        assert!(!self.is_up(&mut nodes, 1, 0), "a node that comes back is told");
        let mut alone = self.start("");
        self.put(&mut alone, 0, 1, false);
        assert!(self.is_up(&mut alone, 1, 1), "nobody is told without cluster_id");
    }

    /// With a tag its holder tells, and what is wanted at another node is told as well; it counts
    /// from then on, also where it changes nothing.
    ///
    /// # Panics
    /// If that is not so.
    pub fn holder_tells(&self) {
        let shared = [self.set("cluster_id", "1"), self.set("cluster_sharing_tag", "vip")];
        let mut nodes = self.start(&shared.concat());
        self.put(&mut nodes, 0, 1, false);
        assert!(!self.is_up(&mut nodes, 1, 1));
        self.put(&mut nodes, 1, 2, false);
        assert!(!self.is_up(&mut nodes, 0, 2));
        nodes.cut();
        nodes.advance_ms(1_000);
        self.put(&mut nodes, 1, 0, false);
        self.put(&mut nodes, 0, 0, true);
        nodes.heal();
        nodes.advance_ms(60_000);
        for at in [0, 1] {
            assert!(self.is_up(&mut nodes, at, 0), "it was wanted up at last");
        }
    }

    /// After a split every state is that of the later change, on both nodes.
    ///
    /// # Panics
    /// If it is not.
    pub fn split(&self) {
        for tag in ["", &self.set("cluster_sharing_tag", "vip")] {
            let mut nodes = self.start(&[&self.set("cluster_id", "1"), tag].concat());
            nodes.cut();
            nodes.advance_ms(1_000);
            self.put(&mut nodes, 0, 0, false);
            self.put(&mut nodes, 1, 1, false);
            self.put(&mut nodes, 1, 0, false);
            self.put(&mut nodes, 1, 0, true);
            assert_ne!(self.is_up(&mut nodes, 0, 0), self.is_up(&mut nodes, 1, 0));
            nodes.heal();
            nodes.advance_ms(60_000);
            for at in [0, 1] {
                assert!(self.is_up(&mut nodes, at, 0), "the later change wins");
                assert!(!self.is_up(&mut nodes, at, 1));
            }
        }
    }

    /// What an operator takes out of service stays so, although a node that did not know of it
    /// finds something later; `target` is the place of one that is probed.
    ///
    /// # Panics
    /// If it does not.
    pub fn operator_wins(&self, target: usize) {
        let shared = [self.set("cluster_id", "1"), self.set("cluster_sharing_tag", "vip")];
        let mut nodes = self.start(&[self.set(self.interval, "5"), shared.concat()].concat());
        self.put(&mut nodes, 0, target, true);
        nodes.cut();
        nodes.advance_ms(1_000);
        self.put(&mut nodes, 1, target, false);
        // The holder of the tag asks meanwhile, and nobody answers.
        nodes.advance_ms(60_000);
        let found = (self.state)(&mut nodes, 0, self.targets[target]);
        assert_ne!(found, self.words[0], "it was asked");
        nodes.heal();
        nodes.advance_ms(60_000);
        for at in [0, 1] {
            let state = (self.state)(&mut nodes, at, self.targets[target]);
            assert_eq!(state, self.words[1], "node {at}");
        }
        self.put(&mut nodes, 1, target, true);
        assert!(self.is_up(&mut nodes, 0, target), "until the operator wants it back");
    }

    /// Whom each node has begun to probe within an interval.
    fn probed(nodes: &mut Nodes) -> [BTreeSet<String>; 2] {
        let call_id =
            |text: &str| text.lines().find(|line| line.starts_with("Call-ID:")).map(str::to_owned);
        // What is sent again for want of an answer does not count.
        let earlier: BTreeSet<_> =
            nodes.datagrams.iter().filter_map(|(.., text)| call_id(text)).collect();
        nodes.datagrams.clear();
        nodes.advance_ms(6_000);
        let mut who = [BTreeSet::new(), BTreeSet::new()];
        for (at, to, text) in &nodes.datagrams {
            if text.starts_with("OPTIONS") && call_id(text).is_some_and(|id| !earlier.contains(&id))
            {
                who[*at].insert(to.to_string());
            }
        }
        who
    }

    /// Who probes, by `cluster_probing_mode` and without it.
    ///
    /// # Panics
    /// If somebody else does.
    pub fn who_probes(&self, has_mode: bool) {
        let interval = self.set(self.interval, "5");
        let alone = Self::probed(&mut self.start(&interval));
        assert!(!alone[0].is_empty() && alone[0] == alone[1], "{alone:?}");
        let shared =
            [interval, self.set("cluster_id", "1"), self.set("cluster_sharing_tag", "vip")];
        let shared = shared.concat();
        let mut nodes = self.start(&shared);
        let holder = Self::probed(&mut nodes);
        assert!(holder[0] == alone[0] && holder[1].is_empty(), "{holder:?}");
        nodes.mi(1, "clusterer:shtag_set_active", serde_json::json!(["vip/1"]));
        nodes.advance_ms(1_000);
        let other = Self::probed(&mut nodes);
        assert!(other[0].is_empty() && other[1] == alone[0], "{other:?}");
        if !has_mode {
            return;
        }
        let mode = |name: &str| format!("{shared}{}", self.set("cluster_probing_mode", name));
        let all = Self::probed(&mut self.start(&mode("all")));
        assert_eq!(all, alone);
        let holder = Self::probed(&mut self.start(&mode("by-shtag")));
        assert!(holder[0] == alone[0] && holder[1].is_empty(), "{holder:?}");
        let [one, two] = Self::probed(&mut self.start(&mode("distributed")));
        assert!(one.is_disjoint(&two) && one.union(&two).cloned().eq(alone[0].clone()));
        assert!(std::panic::catch_unwind(|| self.start(&mode("x"))).is_err());
    }
}
