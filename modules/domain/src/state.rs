//! The running module.

use std::sync::Arc;

use tandem_db::{Cond, DbError, Query, Rows, Select};
use tandem_engine::cached::{Cached, Part};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module};
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_script::value::Value;

use crate::params::Params;
use crate::table::{Entry, Table, parents, read};

/// The state of the module.
pub(crate) struct Domain {
    pub(crate) params: Params,
    /// One table, or none with `db_mode` 0.
    pub(crate) cached: Cached<Table>,
}

/// What a run waits for: the row of `asked`, or of a domain above it.
struct Waiting {
    host: Vec<u8>,
    /// Where in `host` the domain that was asked for starts.
    from: usize,
    attrs: Option<VarId>,
}

impl Domain {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let part = || Part::new("default", params.database, select(&params, None));
        let parts = if params.is_cached { vec![part()] } else { Vec::new() };
        let cached = Cached::new(parts, (500, "Domain table reload failed"));
        let cached = cached.map_err(|why| BuildError::new("db_mode", why))?;
        Ok(Arc::new(Self { params, cached }))
    }

    /// The copy; `None`: the database is asked each time.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        self.cached.parts().first().map(Part::table)
    }

    /// A row, or none, for a run that asked about one domain.
    fn answered(&self, cx: &mut Cx<'_>, run: u64, result: Result<Rows, DbError>) {
        let Some(mut waiting) = cx.asked::<Waiting>(run) else { return };
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
        let question = Query::Select(select(&self.params, Some(&parent)));
        cx.ask_again(run, self.params.database, question, waiting);
    }
}

impl Module for Domain {
    fn start(&self, cx: &mut Cx<'_>) {
        self.cached.start(cx);
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        if Cached::<Table>::owns(token) {
            self.cached.answered(cx, token, result, |_, rows| Table::of(rows));
        } else {
            self.answered(cx, token, result);
        }
    }
}

fn select(p: &Params, domain: Option<&[u8]>) -> Select {
    let columns = vec![p.domain.clone(), p.attrs.clone(), p.accept_subdomain.clone()];
    let conds = domain.map(|d| Cond::eq(p.domain.clone(), &*String::from_utf8_lossy(d)));
    Select {
        table: p.table.clone(),
        columns,
        conds: conds.into_iter().collect(),
        ..Select::default()
    }
}

/// Whether a host is ours; `attrs` is the place of the argument for its attributes.
pub(crate) fn ask(call: &mut Call<'_, '_, '_>, host: Vec<u8>, attrs: usize) -> Called {
    let Some(state) = call.state::<Domain>() else { return Called::Returned(-1) };
    if host.is_empty() {
        return Called::Returned(-1);
    }
    if let Some(table) = state.table() {
        let Some(entry) = table.find(&host) else { return Called::Returned(-1) };
        return match call.set_var(attrs, attrs_value(entry)) {
            Ok(()) => Called::Returned(1),
            Err(why) => call.complain(Level::Error, why),
        };
    }
    let host = host.to_ascii_lowercase();
    let question = Query::Select(select(&state.params, Some(&host)));
    let attrs = call.var(attrs);
    call.ask(state.params.database, question, Waiting { host, from: 0, attrs })
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
