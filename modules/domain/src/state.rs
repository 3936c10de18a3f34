//! The running module.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tandem_db::{Cond, DbError, Query, Rows, Select};
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiOutcome, RpcError};
use tandem_engine::module::{Build, BuildError, Call, Cx, Module};
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_script::sig::Routes;
use tandem_script::value::Value;

use crate::params::Params;
use crate::table::{Entry, Table, parents, read};

/// The query of the whole table at start.
const START: u64 = 1 << 47;
/// Queries of the whole table for a command count up from here; runs count from 1.
const RELOAD: u64 = START + 1;
/// Commands that wait for the table, at most.
const RELOADS_MAX: usize = 100;

/// The state of the module.
pub(crate) struct Domain {
    pub(crate) params: Params,
    slot: u16,
    table: RwLock<Arc<Table>>,
    next_reload: AtomicU64,
    /// Query and command.
    reloads: Mutex<Vec<(u64, u64)>>,
}

/// What a run waits for: the row of `asked`, or of a domain above it.
#[derive(Default)]
struct Waiting {
    host: Vec<u8>,
    /// Where in `host` the domain that was asked for starts.
    from: usize,
    attrs: Option<VarId>,
}

impl Domain {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        Ok(Arc::new(Self {
            params,
            slot: build.slot,
            table: RwLock::default(),
            next_reload: AtomicU64::new(RELOAD),
            reloads: Mutex::default(),
        }))
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// Loads the table for a command, which is answered when it is there.
    pub(crate) fn reload(&self, cx: &mut Cx<'_>, request: u64) -> MiOutcome {
        let token = self.next_reload.fetch_add(1, Ordering::Relaxed);
        {
            let mut reloads = self.reloads.lock();
            if reloads.len() >= RELOADS_MAX {
                return MiOutcome::failed(500, "Domain table reload failed");
            }
            reloads.push((token, request));
        }
        cx.query(self.params.database, self.select(None), token);
        MiOutcome::Later
    }

    fn select(&self, domain: Option<&[u8]>) -> Query {
        let p = &self.params;
        let columns = vec![p.domain.clone(), p.attrs.clone(), p.accept_subdomain.clone()];
        let conds = domain.map(|d| Cond::eq(p.domain.clone(), &*String::from_utf8_lossy(d)));
        Query::Select(Select {
            table: p.table.clone(),
            columns,
            conds: conds.into_iter().collect(),
            ..Select::default()
        })
    }

    fn loaded(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        let result = match result {
            Ok(rows) => {
                *self.table.write() = Arc::new(Table::of(&rows));
                Ok(())
            }
            Err(error) => Err(format!("domain: table `{}`: {error}", self.params.table)),
        };
        if token == START {
            match result {
                Ok(()) => cx.end_startup(),
                Err(text) => cx.out.push(Effect::Fatal { text }),
            }
            return;
        }
        let mut reloads = self.reloads.lock();
        let at = reloads.iter().position(|(asked, _)| *asked == token);
        let Some((_, request)) = at.map(|at| reloads.swap_remove(at)) else { return };
        drop(reloads);
        let answer = result.map(|()| "OK".into()).map_err(|text| {
            cx.log(Level::Error, text);
            RpcError { code: 500, message: "Domain table reload failed".into(), data: None }
        });
        cx.mi_reply(request, answer);
    }

    /// A row, or none, for a run that asked about one domain.
    fn answered(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        let mut waiting = Waiting::default();
        cx.with_suspended(run, |ctx| {
            waiting = std::mem::take(ctx.section_mut::<Waiting>(self.slot));
        });
        let rows = match result {
            Ok(rows) => rows,
            Err(error) => {
                cx.log(Level::Error, format!("domain: the database does not answer: {error}"));
                return cx.resume(run, -1);
            }
        };
        let is_own = waiting.from == 0;
        let entry = rows.rows.first().and_then(|row| read(row)).map(|(_, entry)| entry);
        if let Some(entry) = entry {
            let ours = is_own || entry.with_subdomains;
            let told = ours && tell_later(cx, run, waiting.attrs, &entry);
            return cx.resume(run, if told { 1 } else { -1 });
        }
        let rest = waiting.host.get(waiting.from..).unwrap_or_default();
        let Some(parent) = parents(rest).next() else { return cx.resume(run, -1) };
        let parent = parent.to_vec();
        waiting.from = waiting.host.len() - parent.len();
        cx.with_suspended(run, |ctx| *ctx.section_mut::<Waiting>(self.slot) = waiting);
        cx.query(self.params.database, self.select(Some(&parent)), run);
    }
}

impl Module for Domain {
    fn start(&self, cx: &mut Cx<'_>) {
        if self.params.is_cached {
            cx.begin_startup();
            cx.query(self.params.database, self.select(None), START);
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if token >= START {
            self.loaded(cx, token, result);
        } else {
            self.answered(cx, token, result);
        }
    }
}

/// Whether a host is ours; `attrs` is the place of the argument for its attributes.
pub(crate) fn ask(call: &mut Call<'_, '_, '_>, host: Vec<u8>, attrs: usize) -> Called {
    let Some(state) = call.state::<Domain>() else { return Called::Returned(-1) };
    if host.is_empty() {
        return Called::Returned(-1);
    }
    if state.params.is_cached {
        let table = state.table();
        let Some(entry) = table.find(&host) else { return Called::Returned(-1) };
        return match call.set_var(attrs, attrs_value(entry)) {
            Ok(()) => Called::Returned(1),
            Err(why) => call.complain(Level::Error, why),
        };
    }
    if call.ctx.block == Routes::BRANCH {
        return call.complain(
            Level::Error,
            "a branch route cannot wait for a database: set \
            db_mode of domain to 1",
        );
    }
    let run = call.suspend();
    let host = host.to_ascii_lowercase();
    let question = state.select(Some(&host));
    let attrs = call.var(attrs);
    *call.ctx.section_mut::<Waiting>(state.slot) = Waiting { host, from: 0, attrs };
    call.cx.query(state.params.database, question, run);
    Called::Suspended
}

fn attrs_value(entry: &Entry) -> Value {
    entry.attrs.clone().map_or(Value::Null, Value::str)
}

fn tell_later(cx: &mut Cx<'_>, run: u64, attrs: Option<VarId>, entry: &Entry) -> bool {
    let Some(attrs) = attrs else { return true };
    match cx.assign_suspended(run, attrs, attrs_value(entry)) {
        Ok(()) => true,
        Err(why) => {
            cx.log(Level::Error, format!("domain: {why}"));
            false
        }
    }
}
