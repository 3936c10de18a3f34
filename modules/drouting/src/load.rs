//! From tables of a database into memory, while the node goes on with the tables it has.
//!
//! Gateways come first, then carriers, then the rules in pages, so that neither a query nor a
//! step grows with the table. The new tables take the place of the old ones at once; if they
//! cannot be used, the old ones stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use tandem_db::{Cond, DbError, Name, Op, Order, Query, Rows, Select, Value, check_name};
use tandem_engine::blacklist::{List, Net, Rule};
use tandem_engine::dns::Resolved;
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiOutcome, RpcError};
use tandem_engine::module::Cx;
use tandem_engine::transport::{Hop, HopError};

use crate::destinations::{
    CARRIER_COLUMNS, Destinations, GATEWAY_COLUMNS, Gateway, Reader, int, text,
};
use crate::params::Names;
use crate::rules::{self, RULE_COLUMNS};
use crate::state::Drouting;
use crate::table::{Partition, Table};

/// Tokens of queries from here on belong to tables; runs count from 1.
pub(crate) const FIRST: u64 = 1 << 47;
/// The list of partitions.
const PARTITIONS: u64 = FIRST;
/// Rules that one query asks for.
const PAGE: u32 = 10_000;
/// Faults of one loading that are told.
const FAULTS_MAX: usize = 100;
/// Partitions of a node.
const PARTITIONS_MAX: usize = 256;
/// Loadings at the same time.
const LOADS_MAX: usize = 1_000;
/// Tables of rules of one partition.
const TABLES_MAX: usize = 1_000;
/// Gateways whose names are looked up at the same time.
const SEARCHES_MAX: usize = 10_000;
const PARTITION_COLUMNS: [&str; 13] = [
    "partition_name",
    "db_url",
    "drd_table",
    "drr_table",
    "drg_table",
    "drc_table",
    "ruri_avp",
    "gw_id_avp",
    "gw_priprefix_avp",
    "gw_sock_avp",
    "rule_id_avp",
    "rule_prefix_avp",
    "carrier_id_avp",
];

/// What is on its way.
#[derive(Default)]
pub(crate) struct Loads {
    last: u64,
    loads: BTreeMap<u64, Load>,
    jobs: BTreeMap<u64, Job>,
}

impl Loads {
    pub(crate) fn is_busy(&self) -> bool {
        !self.loads.is_empty()
    }
}

/// One partition on its way.
struct Load {
    part: Arc<Partition>,
    job: u64,
    inherit: bool,
    stage: Stage,
    of: Destinations,
    rules: rules::Loading,
    /// Tables of rules that are left, the present one last.
    tables: Vec<String>,
    last_rule: i64,
    faults: Vec<String>,
    fault_count: usize,
    sum: Option<Md5>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Gateways,
    Carriers,
    Tables,
    Rules,
}

/// What waits for partitions: a command, or the start.
struct Job {
    request: Option<u64>,
    left: usize,
    failed: Option<(i64, &'static str)>,
}

/// How a loading goes on.
enum Next {
    Ask,
    Done,
    Failed(i64, &'static str, String),
}

impl Drouting {
    pub(crate) fn start_loading(&self, cx: &mut Cx<'_>) {
        for list in &self.params.blacklists {
            let _ = cx.node.blacklists.set(empty_list(&list.name));
        }
        cx.begin_startup();
        match &self.params.partitions {
            None => self.load(cx, self.parts(), None, false),
            Some((database, table)) => {
                let select = select(table, &PARTITION_COLUMNS);
                cx.query(*database, Query::Select(select), PARTITIONS);
            }
        }
    }

    /// Loads partitions again for a command.
    pub(crate) fn reload(
        &self,
        cx: &mut Cx<'_>,
        request: u64,
        parts: Vec<Arc<Partition>>,
        inherit: bool,
    ) -> MiOutcome {
        {
            let loads = self.loads.lock();
            if (self.params.one_reload && loads.is_busy()) || loads.loads.len() >= LOADS_MAX {
                return MiOutcome::failed(500, "Reload in progress");
            }
        }
        if parts.is_empty() {
            return MiOutcome::failed(500, "Failed to reload");
        }
        self.load(cx, parts, Some(request), inherit);
        MiOutcome::Later
    }

    fn load(
        &self,
        cx: &mut Cx<'_>,
        parts: Vec<Arc<Partition>>,
        request: Option<u64>,
        inherit: bool,
    ) {
        let mut asks = Vec::new();
        {
            let mut loads = self.loads.lock();
            loads.last += 1;
            let job = loads.last;
            loads.jobs.insert(job, Job { request, left: parts.len(), failed: None });
            for part in parts {
                loads.last += 1;
                let id = loads.last;
                let load = Load {
                    job,
                    inherit,
                    stage: Stage::Gateways,
                    of: Destinations::default(),
                    rules: rules::Loading::default(),
                    tables: Vec::new(),
                    last_rule: i64::MIN,
                    faults: Vec::new(),
                    fault_count: 0,
                    sum: self.params.sums.then(Md5::new),
                    part,
                };
                asks.push((id, Arc::clone(&load.part), load.ask()));
                loads.loads.insert(id, load);
            }
        }
        for (id, part, ask) in asks {
            let (status, text) = if request.is_none() { (-1, "loading") } else { (2, "reloading") };
            self.report_status(cx, &part.name, status, text);
            cx.query(part.database, ask, FIRST | id);
        }
    }

    /// Takes the answer to one query.
    pub(crate) fn loaded(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token == PARTITIONS {
            return self.partitions_loaded(cx, result);
        }
        let id = token & !FIRST;
        let Some(mut load) = self.loads.lock().loads.remove(&id) else { return };
        let next = match result {
            Ok(rows) => load.take(self, cx, &rows),
            Err(error) => {
                let why = format!("partition {}: {error}", load.part.name);
                Next::Failed(500, "Failed to reload", why)
            }
        };
        match next {
            Next::Ask => {
                let (database, ask) = (load.part.database, load.ask());
                self.loads.lock().loads.insert(id, load);
                cx.query(database, ask, token);
            }
            Next::Done => self.finish(cx, load),
            Next::Failed(code, message, why) => {
                let text = "the tables could not be loaded";
                let ready = load.part.table().loaded_unix_s != 0;
                let (status, text) = if ready { (1, "data available") } else { (-2, text) };
                self.report_status(cx, &load.part.name, status, text);
                self.end_part(cx, load.job, Some((code, message, why)));
            }
        }
    }

    fn finish(&self, cx: &mut Cx<'_>, mut load: Load) {
        let part = Arc::clone(&load.part);
        for fault in &load.faults {
            cx.log(Level::Error, format!("drouting: partition {}: {fault}", part.name));
        }
        let (rules, refused) = (load.rules.len(), load.rules.refused);
        let old = part.table();
        if rules == 0 && refused > 0 && !old.rules.rules.is_empty() {
            let why = format!("none of the {refused} rules of {} can be used", part.name);
            self.report_status(cx, &part.name, 1, "data available");
            return self.end_part(cx, load.job, Some((500, "Failed to reload", why)));
        }
        if load.inherit {
            load.of.inherit(&old.of);
        }
        let sum = load
            .sum
            .take()
            .map(|sum| sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let (gateways, carriers) = (load.of.gateways.len(), load.of.carriers.len());
        let told = sum.as_ref().map(|sum| format!(", MD5 {sum}")).unwrap_or_default();
        let text = format!(
            "{gateways} gateways, {carriers} carriers and {rules} rules loaded, {} rows refused or \
             taken in part{told}",
            load.fault_count
        );
        let rules = load.rules.finish(self.params.alphabet.clone());
        let table = Arc::new(Table::new(load.of, rules, cx.now.unix_s(), sum));
        part.put(Arc::clone(&table));
        self.adopt(cx, &part);
        cx.log(Level::Notice, format!("drouting: partition {}: {text}", part.name));
        cx.report("drouting", &part.name, &text);
        self.report_status(cx, &part.name, 1, "data available");
        if self.params.resolves {
            self.resolve_gateways(cx, &part, &table);
        }
        self.refresh_blacklists(cx, &part, &table);
        self.end_part(cx, load.job, None);
    }

    /// One partition of a job is there, or not.
    fn end_part(&self, cx: &mut Cx<'_>, job: u64, fault: Option<(i64, &'static str, String)>) {
        let (request, done) = {
            let mut loads = self.loads.lock();
            let Some(waiting) = loads.jobs.get_mut(&job) else { return };
            waiting.left = waiting.left.saturating_sub(1);
            if let Some((code, message, _)) = fault {
                waiting.failed = Some((code, message));
            }
            let request = waiting.request;
            (request, if waiting.left == 0 { loads.jobs.remove(&job) } else { None })
        };
        if let Some((.., why)) = fault {
            if request.is_none() {
                return cx.out.push(Effect::Fatal { text: format!("drouting: {why}") });
            }
            cx.log(Level::Error, format!("drouting: {why}"));
        }
        let Some(done) = done else { return };
        let Some(request) = request else { return cx.end_startup() };
        let answer = match done.failed {
            None => Ok("OK".into()),
            Some((code, message)) => {
                Err(RpcError { code, message: message.to_owned(), data: None })
            }
        };
        cx.mi_reply(request, answer);
    }

    fn partitions_loaded(&self, cx: &mut Cx<'_>, result: Result<Rows, DbError>) {
        let rows = match result {
            Ok(rows) => rows,
            Err(error) => {
                let text = format!("drouting: the table of partitions: {error}");
                return cx.out.push(Effect::Fatal { text });
            }
        };
        let mut parts: Vec<Arc<Partition>> = Vec::new();
        for row in rows.rows.iter().take(PARTITIONS_MAX) {
            match self.partition(cx, row) {
                Ok(part) if parts.iter().any(|p| p.name == part.name) => {
                    let text = format!("drouting: partition `{}` is there twice", part.name);
                    cx.log(Level::Error, text);
                }
                Ok(part) => parts.push(Arc::new(part)),
                Err(why) => cx.log(Level::Error, format!("drouting: {why}")),
            }
        }
        self.partitions.write().clone_from(&parts);
        if parts.is_empty() {
            cx.log(Level::Warning, "drouting: the table has no partition that can be used");
            return cx.end_startup();
        }
        self.load(cx, parts, None, false);
    }

    fn partition(&self, cx: &Cx<'_>, row: &[Value]) -> Result<Partition, String> {
        let texts: Vec<String> = row.iter().map(text).collect();
        let [name, url, drd, drr, drg, drc, avps @ ..] = texts.as_slice() else {
            return Err("a row of partitions has too few columns".into());
        };
        if name.is_empty() {
            return Err("a partition has no name".into());
        }
        let at = cx
            .node
            .databases
            .iter()
            .position(|known| tandem_db::DbUrl::parse(url).is_ok_and(|url| *known == url));
        let at = at.and_then(|at| u16::try_from(at).ok()).ok_or_else(|| {
            format!(
                "partition `{name}`: its db_url is none that the script names: name it in a \
                 parameter, such as db_partitions_url or db_url of drouting"
            )
        })?;
        let or = |given: &String, default: &String| {
            let name = if given.is_empty() { default } else { given };
            check_name(name).map_err(|e| format!("partition `{name}`: {e}"))?;
            Ok::<String, String>(name.clone())
        };
        let own = &self.params.names;
        let names = Names {
            gateways: or(drd, &own.gateways)?,
            rules: or(drr, &own.rules)?,
            groups: or(drg, &own.groups)?,
            carriers: or(drc, &own.carriers)?,
        };
        let query = self.params.rule_queries.iter().find(|(part, _)| part == name);
        let query = query.map(|(_, sql)| sql.clone());
        let mut of = self.params.avps.of_partition(name);
        of.name(avps);
        let database = tandem_engine::effect::DatabaseId(at);
        Ok(Partition::new(name.clone(), database, names, query, of, self.params.alphabet.clone()))
    }

    /// Looks the names of gateways up.
    fn resolve_gateways(&self, cx: &mut Cx<'_>, part: &Arc<Partition>, table: &Arc<Table>) {
        for (at, gateway) in (0u32..).zip(&table.of.gateways) {
            if gateway.ips.read().is_empty() {
                self.resolve_gateway(cx, part, table, at);
            }
        }
    }

    /// Looks the name of one gateway up; what is known already is there at once.
    pub(crate) fn resolve_gateway(
        &self,
        cx: &mut Cx<'_>,
        part: &Arc<Partition>,
        table: &Arc<Table>,
        at: u32,
    ) {
        let Some(uri) = table.gateway(at).map(Gateway::uri) else { return };
        let token = {
            let mut loads = self.loads.lock();
            loads.last += 1;
            loads.last
        };
        let waits = {
            let mut searches = self.searches.lock();
            searches.insert(token, (Arc::clone(part), Arc::clone(table), at));
            searches.len()
        };
        let result = match waits {
            0..SEARCHES_MAX => cx.resolve(uri.as_bytes(), token),
            _ => Resolved::Now(Err(HopError::Unresolvable)),
        };
        if let Resolved::Now(result) = result {
            self.gateway_resolved(cx, token, result);
        }
    }

    pub(crate) fn gateway_resolved(
        &self,
        cx: &mut Cx<'_>,
        token: u64,
        result: Result<Vec<Hop>, HopError>,
    ) {
        let Some((part, table, at)) = self.searches.lock().remove(&token) else { return };
        match result {
            Ok(hops) => table.resolved(at, hops.iter().map(|hop| hop.addr.ip()).collect()),
            Err(why) => {
                let id = table.gateway(at).map(|g| g.id.to_string()).unwrap_or_default();
                cx.log(Level::Error, format!("drouting: gateway `{id}`: {why}"));
            }
        }
        self.refresh_blacklists(cx, &part, &table);
    }

    fn refresh_blacklists(&self, cx: &mut Cx<'_>, part: &Partition, table: &Table) {
        for wanted in self.params.blacklists.iter().filter(|list| list.partition == part.name) {
            let mut list = empty_list(&wanted.name);
            for gateway in table.of.gateways.iter().filter(|g| wanted.kinds.contains(&g.kind)) {
                list.rules.extend(gateway.ips.read().iter().map(|ip| Rule {
                    negated: false,
                    proto: gateway.proto,
                    net: Net { ip: *ip, bits: if ip.is_ipv4() { 32 } else { 128 } },
                    port: gateway.port,
                    pattern: String::new(),
                    until: None,
                }));
            }
            if let Err(why) = cx.node.blacklists.set(list) {
                cx.log(Level::Error, format!("drouting: blacklist {}: {why}", wanted.name));
            }
        }
    }
}

impl Load {
    /// The next question.
    fn ask(&self) -> Query {
        let names = &self.part.names;
        let select = match self.stage {
            Stage::Gateways => select(&names.gateways, &GATEWAY_COLUMNS),
            Stage::Carriers => select(&names.carriers, &CARRIER_COLUMNS),
            Stage::Tables => {
                return Query::Raw { sql: self.part.rule_query.clone().unwrap_or_default() };
            }
            Stage::Rules => {
                let table = self.tables.last().unwrap_or(&names.rules);
                let mut select = select(table, &RULE_COLUMNS);
                select.conds = vec![Cond::new("ruleid", Op::Gt, self.last_rule)];
                select.order = vec![Order { column: "ruleid".into(), descending: false }];
                select.limit = Some(PAGE);
                select
            }
        };
        Query::Select(select)
    }

    fn take(&mut self, state: &Drouting, cx: &Cx<'_>, rows: &Rows) -> Next {
        if let Some(sum) = &mut self.sum {
            rows.rows.iter().for_each(|row| sum.update(format!("{row:?}")));
        }
        let node = Arc::clone(cx.node);
        let reader = Reader {
            sockets: &node.sockets,
            filter: state.params.filter,
            id_chars: &state.params.id_chars,
            with_state: state.params.keeps_state,
        };
        let mut faults = Vec::new();
        let next = match self.stage {
            Stage::Gateways => {
                for row in &rows.rows {
                    faults.extend(self.of.add_gateway(&reader, row).err());
                }
                self.stage = Stage::Carriers;
                Next::Ask
            }
            Stage::Carriers => {
                for row in &rows.rows {
                    let added = self.of.add_carrier(&reader, row, &mut faults);
                    faults.extend(added.err());
                }
                self.tables = vec![self.part.names.rules.clone()];
                let asks = self.part.rule_query.is_some();
                self.stage = if asks { Stage::Tables } else { Stage::Rules };
                Next::Ask
            }
            Stage::Tables => self.take_tables(rows),
            Stage::Rules => self.take_rules(state, rows, &mut faults),
        };
        self.fault_count += faults.len();
        let room = FAULTS_MAX.saturating_sub(self.faults.len());
        self.faults.extend(faults.into_iter().take(room));
        next
    }

    fn take_tables(&mut self, rows: &Rows) -> Next {
        let names = rows.rows.iter().filter_map(|row| row.first().map(text));
        self.tables = names.filter(|name| check_name(name).is_ok()).take(TABLES_MAX).collect();
        self.tables.reverse();
        self.stage = Stage::Rules;
        if self.tables.is_empty() {
            let why = format!("partition {}: rule_tables_query names no table", self.part.name);
            return Next::Failed(404, "No rules tables", why);
        }
        Next::Ask
    }

    fn take_rules(&mut self, state: &Drouting, rows: &Rows, faults: &mut Vec<String>) -> Next {
        let mut last = self.last_rule;
        for row in &rows.rows {
            last = last.max(row.first().map_or(last, int));
            self.rules.add(row, &state.params.alphabet, &self.of, faults);
        }
        let more = rows.rows.len() >= PAGE as usize && last > self.last_rule;
        self.last_rule = last;
        if !more {
            self.tables.pop();
            self.last_rule = i64::MIN;
        }
        if self.tables.is_empty() { Next::Done } else { Next::Ask }
    }
}

fn select(table: &str, columns: &[&'static str]) -> Select {
    Select {
        table: Name::from(table.to_owned()),
        columns: columns.iter().map(|column| Name::from(*column)).collect(),
        ..Select::default()
    }
}

fn empty_list(name: &str) -> List {
    List { name: name.to_owned(), owner: "drouting", read_only: true, ..List::default() }
}
