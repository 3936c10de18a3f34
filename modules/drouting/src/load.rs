//! From tables of a database into memory, while the node goes on with the tables it has.
//!
//! Gateways come first, then carriers, then the rules in pages, so that neither a query nor a
//! step grows with the table; while the database reads a page, the one before is taken. The new
//! tables take the place of the old ones at once; if they
//! cannot be used, the old ones stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use tandem_db::{Cond, DbError, Name, Op, Order, Query, Row, Rows, Select, check_name};
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiOutcome, RpcError};
use tandem_engine::module::{Cx, Timer};

use crate::destinations::{CARRIER_COLUMNS, Destinations, GATEWAY_COLUMNS, Reader, int, text};
use crate::kept::Keeping;
use crate::partitions::PARTITION_COLUMNS;
use crate::rules::{self, RULE_COLUMNS};
use crate::state::{Drouting, TAKE};
use crate::table::{Loaded, Partition, Table};
use tandem_targets::{Blacklist, Faults, NEVER};

/// Tokens of queries from here on belong to tables; runs count from 1.
pub(crate) const FIRST: u64 = 1 << 47;
/// The list of partitions.
const PARTITIONS: u64 = FIRST;
/// Rules that one query asks for.
const PAGE: u32 = 10_000;
/// Faults of one loading that are logged; more can be asked for.
const LOGGED_MAX: usize = 100;
/// Loadings at the same time.
const LOADS_MAX: usize = 1_000;
/// Tables of rules of one partition.
const TABLES_MAX: usize = 1_000;
/// What is on its way.
#[derive(Default)]
pub(crate) struct Loads {
    pub(crate) last: u64,
    loads: BTreeMap<u64, Load>,
    /// Partitions whose files are read.
    pub(crate) files: Vec<(u64, Arc<Partition>)>,
    /// States of before the restart.
    pub(crate) states: Vec<Row>,
    /// The file with them, as it was written last.
    pub(crate) states_written: Bytes,
    /// What [`tandem_targets::Register::changes`] was then.
    pub(crate) changes_written: Option<u64>,
    jobs: BTreeMap<u64, Job>,
}

impl Loads {
    pub(crate) fn is_busy(&self) -> bool {
        !self.loads.is_empty()
    }
}

/// One partition on its way.
pub(crate) struct Load {
    part: Arc<Partition>,
    job: u64,
    inherit: Inherit,
    stage: Stage,
    pub(crate) of: Destinations,
    rules: rules::Loading,
    /// Tables of rules that are left, the present one last.
    tables: Vec<String>,
    /// Number of the last rule that was read; `None`: none of this table.
    last_rule: Option<i64>,
    /// Rules that are there and not taken yet.
    waiting: Option<Rows>,
    faults: Faults,
    sum: Option<Md5>,
    /// Monotonic nanoseconds of the beginning.
    begun_ns: u64,
    /// The rows, for the file that a restart reads.
    keeping: Option<Keeping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Gateways,
    Carriers,
    Tables,
    Rules,
}

/// Which states of the present tables stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inherit {
    None,
    /// Those that have changed since they were read.
    Changed,
    All,
}

/// For whom tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// The node, which is not ready before.
    Start,
    /// A command.
    Command(u64),
    /// Nobody waits: the tables of before the restart serve meanwhile.
    Later,
}

/// What waits for partitions.
struct Job {
    of: For,
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
        for (_, list) in &self.params.blacklists {
            let _ = cx.node.blacklists.set(Blacklist::empty(&list.name, "drouting"));
        }
        cx.begin_startup();
        match &self.params.partitions {
            None => self.load_first(cx, self.parts()),
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
        let inherit = if inherit { Inherit::All } else { Inherit::None };
        self.load(cx, parts, For::Command(request), inherit);
        MiOutcome::Later
    }

    /// Loads partitions for the first time; what a file has of them serves at once.
    pub(crate) fn load_first(&self, cx: &mut Cx<'_>, parts: Vec<Arc<Partition>>) {
        match self.params.keeps_tables {
            true => self.read_kept(cx, parts),
            false => self.load(cx, parts, For::Start, Inherit::None),
        }
    }

    pub(crate) fn load(
        &self,
        cx: &mut Cx<'_>,
        parts: Vec<Arc<Partition>>,
        of: For,
        inherit: Inherit,
    ) {
        let mut asks = Vec::new();
        {
            let mut loads = self.loads.lock();
            loads.last += 1;
            let job = loads.last;
            loads.jobs.insert(job, Job { of, left: parts.len(), failed: None });
            for part in parts {
                loads.last += 1;
                let id = loads.last;
                let mut load = Load::new(part, job, inherit, cx.now.mono_ns);
                load.sum = self.params.sums.then(Md5::new);
                load.keeping = self.params.keeps_tables.then(Keeping::default);
                asks.push((id, Arc::clone(&load.part), load.ask()));
                loads.loads.insert(id, load);
            }
        }
        for (id, part, ask) in asks {
            let ready = part.table().loaded.unix_s != 0;
            let (status, text) = if ready { (2, "reloading") } else { (-1, "loading") };
            self.report_status(cx, &part.name, status, text);
            cx.query(part.database, ask, FIRST | id);
        }
    }

    /// Takes the answer to one query.
    pub(crate) fn loaded(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token == PARTITIONS {
            return match result {
                Ok(rows) => self.list_loaded(cx, &rows),
                Err(error) => self.list_failed(cx, &error),
            };
        }
        let id = token & !FIRST;
        let Some(mut load) = self.loads.lock().loads.remove(&id) else { return };
        let next = match result {
            Ok(rows) => load.take(self, cx, rows),
            Err(error) => {
                let why = format!("partition {}: {error}", load.part.name);
                Next::Failed(500, "Failed to reload", why)
            }
        };
        match next {
            Next::Ask => {
                let (database, ask) = (load.part.database, load.ask());
                if load.waiting.is_some() {
                    // In the next step, for this one ends before the question goes out.
                    cx.set_timer(cx.now.mono_ns, Timer { kind: TAKE, id });
                }
                self.loads.lock().loads.insert(id, load);
                cx.query(database, ask, token);
            }
            Next::Done => self.finish(cx, load),
            Next::Failed(code, message, why) => {
                let text = "the tables could not be loaded";
                let ready = load.part.table().loaded.unix_s != 0;
                let (status, text) = if ready { (1, "data available") } else { (-2, text) };
                self.report_status(cx, &load.part.name, status, text);
                self.end_part(cx, load.job, Some((code, message, why)));
            }
        }
    }

    /// Takes the rules of a loading that wait.
    pub(crate) fn take_waiting(&self, cx: &Cx<'_>, id: u64) {
        let Some(mut load) = self.loads.lock().loads.remove(&id) else { return };
        load.take_waiting(self, cx);
        self.loads.lock().loads.insert(id, load);
    }

    fn finish(&self, cx: &mut Cx<'_>, mut load: Load) {
        let (part, job) = (Arc::clone(&load.part), load.job);
        let keeping = load.keeping.take();
        match self.put_in_place(cx, load) {
            Ok(()) => {
                if let Some(keeping) = keeping {
                    self.write_kept(cx, &part.name, keeping);
                }
                self.end_part(cx, job, None);
            }
            Err(why) => {
                self.report_status(cx, &part.name, 1, "data available");
                self.end_part(cx, job, Some((500, "Failed to reload", why)));
            }
        }
    }

    /// Puts what was read in the place of the present tables, unless it is of no use.
    pub(crate) fn put_in_place(&self, cx: &mut Cx<'_>, mut load: Load) -> Result<(), String> {
        let part = Arc::clone(&load.part);
        for fault in load.faults.all.iter().take(LOGGED_MAX) {
            cx.log(Level::Error, format!("drouting: partition {}: {}", part.name, fault.why));
        }
        let (rules, refused) = (load.rules.len(), load.faults.refused);
        let old = part.table();
        // Those that block a prefix are of no use alone.
        if load.rules.leading() == 0 && refused > 0 && old.rules.leading() > 0 {
            return Err(format!(
                "partition {} keeps its tables: of the new ones no rule leads to a gateway, \
                 {refused} rows were refused",
                part.name
            ));
        }
        load.of.keep_addresses(&old.of);
        match load.inherit {
            Inherit::None => {}
            Inherit::Changed => load.of.inherit(&old.of, |status| status.stamp() != NEVER),
            Inherit::All => load.of.inherit(&old.of, |_| true),
        }
        let hex = |sum: Md5| sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let sum: Option<String> = load.sum.take().map(hex);
        let (gateways, carriers) = (load.of.gateways.len(), load.of.carriers.len());
        let told = sum.as_ref().map(|sum| format!(", MD5 {sum}")).unwrap_or_default();
        let text = format!(
            "{gateways} gateways, {carriers} carriers and {rules} rules loaded, {}{told}",
            load.faults.summary()
        );
        let rules = load.rules.finish(self.params.alphabet.clone());
        let loaded = Loaded {
            unix_s: cx.now.unix_s(),
            took_ms: cx.now.mono_ns.saturating_sub(load.begun_ns) / 1_000_000,
            sum,
            faults: load.faults,
        };
        let table = Arc::new(Table::new(load.of, rules, loaded));
        part.put(Arc::clone(&table));
        self.adopt(cx, &part);
        cx.log(Level::Notice, format!("drouting: partition {}: {text}", part.name));
        cx.report("drouting", &part.name, &text);
        self.report_status(cx, &part.name, 1, "data available");
        if self.params.resolves {
            self.resolve_gateways(cx, &table);
        }
        self.refresh_blacklists(cx, &part, &table);
        if let Some(quality) = self.quality() {
            quality.reloaded(&part.name);
        } else if table.wants_quality() {
            let text = "rules or carriers are to be sorted by quality (Q), which needs the module \
                        qrouting: their lists are taken as they are written";
            cx.log(Level::Warning, format!("drouting: partition {}: {text}", part.name));
        }
        Ok(())
    }

    /// One partition of a job is there, or not.
    fn end_part(&self, cx: &mut Cx<'_>, job: u64, fault: Option<(i64, &'static str, String)>) {
        let (of, done) = {
            let mut loads = self.loads.lock();
            let Some(waiting) = loads.jobs.get_mut(&job) else { return };
            waiting.left = waiting.left.saturating_sub(1);
            if let Some((code, message, _)) = fault {
                waiting.failed = Some((code, message));
            }
            let of = waiting.of;
            (of, if waiting.left == 0 { loads.jobs.remove(&job) } else { None })
        };
        if let Some((.., why)) = fault {
            if of == For::Start {
                return cx.out.push(Effect::Fatal { text: format!("drouting: {why}") });
            }
            cx.log(Level::Error, format!("drouting: {why}"));
        }
        let Some(done) = done else { return };
        let request = match of {
            For::Start => return cx.end_startup(),
            For::Later => return,
            For::Command(request) => request,
        };
        let answer = match done.failed {
            None => Ok("OK".into()),
            Some((code, message)) => {
                Err(RpcError { code, message: message.to_owned(), data: None })
            }
        };
        cx.mi_reply(request, answer);
    }

    fn list_loaded(&self, cx: &mut Cx<'_>, rows: &Rows) {
        if self.params.keeps_tables {
            self.write_list(cx, rows);
        }
        self.partitions_loaded(cx, rows);
    }

    /// The table of partitions cannot be read; a file may have it.
    fn list_failed(&self, cx: &mut Cx<'_>, error: &DbError) {
        let text = format!("drouting: the table of partitions: {error}");
        if self.params.keeps_tables {
            cx.log(Level::Error, text);
            return self.read_list(cx);
        }
        cx.out.push(Effect::Fatal { text });
    }
}

impl Load {
    pub(crate) fn new(part: Arc<Partition>, job: u64, inherit: Inherit, begun_ns: u64) -> Self {
        let rules = rules::Loading::like(&part.table().rules);
        Self {
            part,
            job,
            inherit,
            stage: Stage::Gateways,
            of: Destinations::default(),
            rules,
            tables: Vec::new(),
            last_rule: None,
            waiting: None,
            faults: Faults::default(),
            sum: None,
            begun_ns,
            keeping: None,
        }
    }

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
                select.conds.extend(self.last_rule.map(|id| Cond::new("ruleid", Op::Gt, id)));
                select.order = vec![Order { column: "ruleid".into(), descending: false }];
                select.limit = Some(PAGE);
                select
            }
        };
        Query::Select(select)
    }

    /// Notes rows for the sum and for the file.
    fn note(&mut self, stage: Stage, rows: &Rows) {
        if let Some(sum) = &mut self.sum {
            rows.rows.iter().for_each(|row| sum.update(format!("{row:?}")));
        }
        if let Some(keeping) = &mut self.keeping
            && stage != Stage::Tables
        {
            keeping.add(stage, &rows.rows);
        }
    }

    fn take(&mut self, state: &Drouting, cx: &Cx<'_>, rows: Rows) -> Next {
        if self.stage != Stage::Rules {
            self.note(self.stage, &rows);
        }
        match self.stage {
            Stage::Gateways => {
                self.take_rows(state, cx, Stage::Gateways, &rows.rows);
                self.stage = Stage::Carriers;
                Next::Ask
            }
            Stage::Carriers => {
                self.take_rows(state, cx, Stage::Carriers, &rows.rows);
                self.tables = vec![self.part.names.rules.clone()];
                let asks = self.part.rule_query.is_some();
                self.stage = if asks { Stage::Tables } else { Stage::Rules };
                Next::Ask
            }
            Stage::Tables => self.take_tables(&rows),
            Stage::Rules => self.take_rules(state, cx, rows),
        }
    }

    /// Takes rows of one of the three kinds of tables.
    pub(crate) fn take_rows(&mut self, state: &Drouting, cx: &Cx<'_>, stage: Stage, rows: &[Row]) {
        let params = &state.params;
        let reader = Reader {
            sockets: &cx.node.sockets,
            filter: params.filter,
            id_chars: &params.id_chars,
            with_state: params.keeps_state,
        };
        let faults = &mut self.faults;
        let has_route = |name: &str| cx.named_route(name).is_some();
        for row in rows {
            match stage {
                Stage::Gateways => self.of.add_gateway(&reader, row, faults),
                Stage::Carriers => self.of.add_carrier(&reader, row, faults),
                Stage::Tables => {}
                Stage::Rules => {
                    let of = (&self.of, &has_route as &dyn Fn(&str) -> bool);
                    self.rules.add(row, &params.alphabet, of, faults);
                }
            }
        }
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

    fn take_waiting(&mut self, state: &Drouting, cx: &Cx<'_>) {
        if let Some(rows) = self.waiting.take() {
            self.note(Stage::Rules, &rows);
            self.take_rows(state, cx, Stage::Rules, &rows.rows);
        }
    }

    fn take_rules(&mut self, state: &Drouting, cx: &Cx<'_>, rows: Rows) -> Next {
        self.take_waiting(state, cx);
        let ids = rows.rows.iter().filter_map(|row| row.first().map(int));
        let last = ids.fold(self.last_rule, |last, id| last.max(Some(id)));
        let more = rows.rows.len() >= PAGE as usize && last > self.last_rule;
        self.last_rule = last;
        if !more {
            self.tables.pop();
            self.last_rule = None;
        }
        self.waiting = Some(rows);
        if !self.tables.is_empty() {
            return Next::Ask;
        }
        self.take_waiting(state, cx);
        Next::Done
    }
}

fn select(table: &str, columns: &[&'static str]) -> Select {
    Select {
        table: Name::from(table.to_owned()),
        columns: columns.iter().map(|column| Name::from(*column)).collect(),
        ..Select::default()
    }
}
