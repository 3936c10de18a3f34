//! The world at its beginning.

use std::net::{Ipv4Addr, SocketAddr};

use tandem_clock::{Chance, SEC};
use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Value, schema};
use tandem_engine::catalogue::Modules;

use super::host::{Disk, Host, HostClock};
use super::network::Network;
use super::queue::{Event, Queue};
use super::streams::Streams;
use super::{LOOK_NS, World};
use crate::actors::gateway::Gateway;
use crate::actors::phone::Phone;
use crate::checkers::Violations;
use crate::checkers::answers::Answers;
use crate::checkers::cdr::Calls;
use crate::checkers::holder::Holder;
use crate::checkers::lost::Lost;
use crate::faults::Fault;
use crate::options::{Dice, Options};
use crate::plan::{Action, Plan};
use crate::scenario::Counts;
use crate::stock::Resident;
use crate::trace::Trace;

const NODE_1: &str = include_str!("../../../examples/hot-standby/node1.cfg");
const NODE_2: &str = include_str!("../../../examples/hot-standby/node2.cfg");

/// Phones that register with a stock node.
const RESIDENTS: u32 = 5;

/// What a world is made from.
pub(crate) struct Blueprint<'a> {
    pub(crate) seed: u64,
    pub(crate) options: &'a Options,
    pub(crate) plan: &'a Plan,
    /// Phones register and call at times of their own, not only when the plan says so.
    pub(crate) phones_live: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) keep_lines: bool,
}

impl World {
    pub(crate) fn new(blueprint: &Blueprint<'_>, modules: Modules) -> Self {
        let Blueprint { options, plan, .. } = blueprint;
        let mut root = Chance::from_number(blueprint.seed);
        let hosts: Vec<Host> =
            (1..=options.nodes).map(|id| host(id, options, root.fork())).collect();
        let tandem = hosts.iter().filter(|h| !h.is_stock);
        let nodes: Vec<SocketAddr> = tandem.map(|h| h.sip).collect();
        let phone = |id| Phone::new(id, nodes.clone(), options, root.fork());
        let phones = (1..=options.phones).map(phone).collect();
        let skews = || hosts.iter().map(|h| h.clock.skew_ms);
        let skew_ms = (skews().min().unwrap_or(0), skews().max().unwrap_or(0));
        let mut world = Self {
            options: (*options).clone(),
            fault: blueprint.fault,
            modules,
            now: 0,
            queue: Queue::default(),
            network: Network::default(),
            streams: Streams::default(),
            db: database(&hosts, options),
            db_is_away: false,
            phones,
            gateways: if options.routing { Gateway::all() } else { Vec::new() },
            asking: Default::default(),
            switching: Default::default(),
            switches: Default::default(),
            requests: 0,
            trace: Trace::new(blueprint.keep_lines),
            violations: Violations::default(),
            lost: Lost::default(),
            entitled: Default::default(),
            held_before: None,
            answers: Answers::default(),
            calls: Calls::default(),
            holder: Holder::default(),
            counts: Counts::default(),
            dice: root.fork(),
            skew_ms,
            half: options.seconds * SEC / 2,
            is_over: false,
            has_been_dark: false,
            hosts,
        };
        world.schedule(plan);
        for node in 1..=options.nodes {
            // Hosts come up at different times.
            let at = world.dice.between(0, 2 * SEC);
            world.queue.push(at, Event::Act(Action::Start(node)));
        }
        if blueprint.phones_live {
            for id in 1..=options.phones {
                world.phone(id, |phone, now| phone.switch_on(now + 3 * SEC));
            }
        }
        world.queue.push(LOOK_NS, Event::Look);
        world
    }
}

fn host(id: u32, options: &Options, mut chance: Chance) -> Host {
    let ip = Ipv4Addr::new(127, 0, 1, id as u8);
    let skew = u64::from(options.clock_skew_ms_max);
    let skew_ms = chance.between(0, 2 * skew) as i64 - skew as i64;
    let mono_offset = chance.between(1, 1_000_000 * SEC);
    let is_stock = options.is_stock(id);
    let residents = if is_stock { RESIDENTS } else { 0 };
    let residents = (1..=residents).map(|n| Resident::new(id, n, chance.fork())).collect();
    Host {
        id,
        sip: SocketAddr::from((ip, 5060)),
        bin: SocketAddr::from((ip, 5566)),
        script: script(id, options),
        clock: HostClock { mono_offset, skew_ms },
        disk: Disk::default(),
        lives: 0,
        chance,
        process: None,
        is_stock,
        stock: None,
        residents,
    }
}

/// What every call goes through: some end by themselves after a while.
const CALLS: &str = "\tif (is_method(\"INVITE\")) {
		if ($rU =~ \"[13579]$\") $DLG_timeout = 20;
		create_dialog(\"bye-on-timeout\");
		set_dlg_sharing_tag(\"service\");
		set_dlg_profile(\"calls/b\");
		$dlg_val(caller) = $fU;
		do_accounting(\"db\", \"cdr\");
	}
";
const CALLS_SETUP: &str = "loadmodule \"dialog.so\"
modparam(\"dialog\", \"dialog_replication_cluster\", 1)
modparam(\"dialog\", \"profile_replication_cluster\", 1)
modparam(\"dialog\", \"profiles_no_value\", \"calls/b\")
loadmodule \"acc.so\"
modparam(\"acc\", \"db_url\", \"sqlite://tandem.sqlite\")
";

/// States of phones; what a phone watches is the matter of the holder of the tag.
const STATES: &str = "route {
	if ($rm == \"PUBLISH\") {
		handle_publish();
		exit;
	}
	if ($rm == \"SUBSCRIBE\") {
		handle_subscribe( , \"service\");
		exit;
	}
";
const STATES_SETUP: &str = "loadmodule \"presence.so\"
loadmodule \"presence_mwi.so\"
modparam(\"presence\", \"cluster_id\", 1)
";

/// The script of a node, as far as the run needs it.
fn script(id: u32, options: &Options) -> String {
    let script = calls_script(id, options.lamps);
    match options.routing {
        true => {
            let (often, record) = ("\"probing_interval\", 30", "####### requests\n");
            assert!(script.contains(often), "the example has changed");
            script
                .replace(often, "\"probing_interval\", 3")
                .replace(record, &format!("{DESTINATIONS_SETUP}{record}"))
        }
        false => script,
    }
}

/// Destinations beside the gateways.
const DESTINATIONS_SETUP: &str = "loadmodule \"dispatcher.so\"
modparam(\"dispatcher\", \"db_url\", \"sqlite://tandem.sqlite\")
modparam(\"dispatcher\", \"cluster_id\", 1)
modparam(\"dispatcher\", \"cluster_sharing_tag\", \"service\")
modparam(\"dispatcher\", \"cluster_probing_mode\", \"by-shtag\")
modparam(\"dispatcher\", \"ds_ping_interval\", 3)
modparam(\"dispatcher\", \"ds_probing_mode\", 1)
modparam(\"dispatcher\", \"ds_probing_threshold\", 2)
modparam(\"dispatcher\", \"ds_probing_list\", \"1\")
";

/// The script of an example with calls as records.
fn calls_script(id: u32, lamps: bool) -> String {
    let text = match lamps {
        true => example(id),
        false => example(id).replace("\t\t\tdialoginfo_set();\n", "\t\t\t$var(lamp) = 0;\n"),
    };
    let (requests, record) = ("####### requests\n", "\tif (is_method(\"INVITE|SUBSCRIBE\"))");
    assert!(text.contains(requests) && text.contains(record), "the example has changed");
    text.replace(requests, &format!("{CALLS_SETUP}{STATES_SETUP}{requests}"))
        .replacen("route {\n", STATES, 1)
        .replace(record, &format!("{CALLS}{record}"))
}

/// The scripts of the example; a third node is a second backup.
fn example(id: u32) -> String {
    match id {
        1 => NODE_1.to_owned(),
        2 => NODE_2.to_owned(),
        _ => NODE_2
            .replace("127.0.1.2", &format!("127.0.1.{id}"))
            .replace("\"my_node_id\", 2", &format!("\"my_node_id\", {id}"))
            .replace("tandem_fifo_2", &format!("tandem_fifo_{id}")),
    }
}

/// The database that all nodes share, with a row for each.
fn database(hosts: &[Host], options: &Options) -> MemoryDb {
    let mut db = MemoryDb::with_tables(schema::tables());
    for host in hosts {
        let text = |s: &str| Value::Str(s.to_owned());
        let int = |n: u32| Value::Int(i64::from(n));
        let row = [
            ("cluster_id", int(1)),
            ("node_id", int(host.id)),
            ("url", text(&format!("bin:{}", host.bin))),
            ("state", int(1)),
            ("no_ping_retries", int(3)),
            ("priority", int(50)),
            ("flags", if host.id == 1 { text("seed") } else { Value::Null }),
            ("description", text(&format!("node {}", host.id))),
        ];
        let row = row.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let query = Query::Insert { table: "clusterer".into(), row };
        // The table is part of the standard schema; without its rows no node would start.
        let _ = db.execute(&query);
    }
    if options.routing {
        targets(&mut db);
    }
    db
}

/// Gateways, of which the first two are always probed, the third while it is disabled and the
/// fourth never; a carrier; and the same as destinations.
fn targets(db: &mut MemoryDb) {
    let text = |s: &str| Value::Str(s.to_owned());
    let mut add = |table: &'static str, row: Vec<(&'static str, Value)>| {
        let row = row.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let _ = db.execute(&Query::Insert { table: table.into(), row });
    };
    for (gateway, probe_mode) in [(1, 2), (2, 2), (3, 1), (4, 0)] {
        let address = format!("{}", Gateway::address(gateway));
        let row = vec![
            ("gwid", text(&format!("gw{gateway}"))),
            ("type", Value::Int(1)),
            ("address", text(&address)),
            ("probe_mode", Value::Int(probe_mode)),
        ];
        add("dr_gateways", row);
        let set = if gateway == 4 { 2 } else { 1 };
        let uri = text(&format!("sip:{address}"));
        add("dispatcher", vec![("setid", Value::Int(set)), ("destination", uri)]);
    }
    add("dr_carriers", vec![("carrierid", text("car1")), ("gwlist", text("gw1,gw2"))]);
}
