//! Dialogs as rows of the dialog table.

use std::borrow::Cow;

use tandem_bin::dialog::entries;
use tandem_db::{Cond, Op, Order, Query, Rows, Select, Value};
use tandem_engine::log::Level;
use tandem_engine::module::{Build, Cx};

use super::{Reading, Sql};
use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{Dialog, Leg, State, Text, Val};
use crate::replication::{empty, fields, stock};
use crate::state::Dialogs;

/// Rows that are read at a time.
const ROWS_A_PAGE: u32 = 2_000;
/// Among the values of a row, what the table has no column for. No script sees it.
const MORE: &[u8] = b"_tandem";

/// Names of the columns: parameter, and the name without it; in the order in which rows are read.
const NAMED: [(&str, &str); 20] = [
    ("dlg_id_column", "dlg_id"),
    ("call_id_column", "callid"),
    ("from_uri_column", "from_uri"),
    ("from_tag_column", "from_tag"),
    ("to_uri_column", "to_uri"),
    ("to_tag_column", "to_tag"),
    ("from_cseq_column", "caller_cseq"),
    ("to_cseq_column", "callee_cseq"),
    ("from_route_column", "caller_route_set"),
    ("to_route_column", "callee_route_set"),
    ("from_contact_column", "caller_contact"),
    ("to_contact_column", "callee_contact"),
    ("from_sock_column", "caller_sock"),
    ("to_sock_column", "callee_sock"),
    ("state_column", "state"),
    ("start_time_column", "start_time"),
    ("timeout_column", "timeout"),
    ("vars_column", "vars"),
    ("profiles_column", "profiles"),
    ("flags_column", "flags"),
];
/// Further columns with parameters, and those without, behind the others.
const MORE_NAMED: [(&str, &str); 2] =
    [("sflags_column", "script_flags"), ("mflags_column", "module_flags")];
const UNNAMED: [&str; 7] = [
    "mangled_from_uri",
    "mangled_to_uri",
    "caller_ping_cseq",
    "callee_ping_cseq",
    "rt_on_answer",
    "rt_on_timeout",
    "rt_on_hangup",
];

/// The names of all columns, in that order.
#[derive(Clone, Debug)]
pub(crate) struct Columns(Vec<String>);

impl Columns {
    pub(crate) fn read(build: &Build<'_>) -> Self {
        let of = |(param, default): &(&str, &str)| {
            build.text(param).filter(|name| !name.is_empty()).unwrap_or(default).to_owned()
        };
        let named = NAMED.iter().chain(&MORE_NAMED).map(of);
        Self(named.chain(UNNAMED.iter().map(|name| (*name).to_owned())).collect())
    }

    fn name(&self, at: usize) -> Cow<'static, str> {
        Cow::Owned(self.0.get(at).cloned().unwrap_or_default())
    }
}

impl Sql {
    fn table(&self) -> Cow<'static, str> {
        Cow::Owned(self.params.table.clone())
    }

    /// Asks for the rows behind an id, in order of ids.
    pub(super) fn page(&self, after: i64) -> Query {
        let columns = &self.params.columns;
        let id = columns.name(0);
        Query::Select(Select {
            table: self.table(),
            columns: (0..columns.0.len()).map(|at| columns.name(at)).collect(),
            conds: vec![Cond::new(id.clone(), Op::Gt, after)],
            order: vec![Order { column: id, descending: false }],
            limit: Some(ROWS_A_PAGE),
        })
    }

    pub(super) fn delete(&self, id: DialogId) -> Query {
        let conds = vec![Cond::eq(self.params.columns.name(0), id.number() as i64)];
        Query::Delete { table: self.table(), conds }
    }

    pub(super) fn delete_all(&self) -> Query {
        Query::Delete { table: self.table(), conds: Vec::new() }
    }

    /// Writes the row of a dialog.
    pub(super) fn write(&self, d: &Dialog, names: fields::FlagNames<'_>) -> Query {
        let none = Leg::default();
        let callee = d.callee().unwrap_or(&none);
        let int = |n: u32| Value::Int(n.into());
        let flags = d.flags.without(Flags::LOCAL).without(Flags::UNSTORED);
        let values = [
            text(&d.call_id),
            text(&d.from_uri),
            text(&d.caller.tag),
            text(&d.to_uri),
            text(&callee.tag),
            text(d.caller.cseq.to_string().as_bytes()),
            text(callee.cseq.to_string().as_bytes()),
            optional(&d.caller.route_set),
            optional(&callee.route_set),
            optional(&d.caller.contact),
            optional(&callee.contact),
            text(&d.caller.socket),
            text(&callee.socket),
            int(d.state.number().into()),
            int(stock::started(d)),
            int(d.expires_s),
            Value::Blob(variables(d, names).into()),
            optional(&stock::profiles(d)),
            int(flags.0),
            optional(&fields::flag_names(d.user_flags, names)),
            int(d.module_flags),
            optional(&d.mangled_from),
            optional(&d.mangled_to),
            int(d.caller.generated_cseq),
            int(callee.generated_cseq),
            optional(&d.routes.on_answer),
            optional(&d.routes.on_timeout),
            optional(&d.routes.on_hangup),
        ];
        let columns = &self.params.columns;
        let set = (1..).zip(values).map(|(at, value)| (columns.name(at), value)).collect();
        let keys = vec![(columns.name(0), Value::Int(d.id.number() as i64))];
        Query::InsertOrUpdate { table: self.table(), keys, set }
    }
}

/// The values, and behind them what has no column.
fn variables(d: &Dialog, names: fields::FlagNames<'_>) -> Vec<u8> {
    let mut all = stock::variables(d);
    let more = entries::Value::Text(fields::encode(&without_columns(d), names));
    all.extend(entries::encode([(MORE, &more)]));
    all
}

/// The dialog without what its row says already. Bodies are needed for nothing but re-INVITEs.
fn without_columns(d: &Dialog) -> Dialog {
    let reinvites = Flags::REINVITE_PING_CALLER.with(Flags::REINVITE_PING_CALLEE);
    let keeps_bodies = d.flags.has_any(reinvites);
    let bare = |leg: &Leg| Leg {
        tag: leg.tag.clone(),
        sdp_in: if keeps_bodies { leg.sdp_in.clone() } else { Text::default() },
        sdp_out: if keeps_bodies { leg.sdp_out.clone() } else { Text::default() },
        advertised: leg.advertised.clone(),
        ..Leg::default()
    };
    Dialog {
        caller: bare(&d.caller),
        callees: d.callee().map(bare).into_iter().collect(),
        answered: Some(0),
        sections: d.sections.clone(),
        debt: d.debt.clone(),
        start_s: d.start_s,
        answered_s: d.answered_s,
        ended_s: d.ended_s,
        end_reason: d.end_reason,
        state: d.state,
        invite_cseq: d.invite_cseq,
        lifetime_s: d.lifetime_s,
        delete_delay_s: d.delete_delay_s,
        creator: d.creator,
        stamp: d.stamp,
        terms: d.terms,
        ..empty(d.id, &d.call_id)
    }
}

/// Reads one row; `None`: it says nothing that can be used.
fn dialog_of(row: &[Value], entry_of: impl Fn(&[u8]) -> u32, names: &[String]) -> Option<Dialog> {
    let bytes = |at: usize| row.get(at).and_then(Value::as_bytes).unwrap_or_default();
    let text = |at: usize| -> Text { bytes(at).into() };
    let int = |at: usize| {
        row.get(at).and_then(Value::as_int).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    };
    let stored = DialogId::from_number(u64::try_from(row.first()?.as_int()?).ok()?);
    let call_id = bytes(1);
    let state = State::from_number(int(14)).filter(|state| *state >= State::Unacked)?;
    if call_id.is_empty() || stored.id == 0 {
        return None;
    }
    let id = DialogId { entry: entry_of(call_id), id: stored.id };
    let mut d = empty(id, call_id);
    let mut values = stock::read_variables(bytes(17))?;
    if let Some(at) = values.iter().position(|(name, _)| **name == *MORE)
        && let (_, Val::Str(more)) = values.remove(at)
    {
        fields::lay_over(&mut d, &more, names)?;
        (d.id, d.call_id) = (id, call_id.into());
    }
    if d.callees.is_empty() {
        d.callees.push(Leg::default());
    }
    d.answered = Some(0);
    d.values = values;
    d.state = state;
    (d.from_uri, d.to_uri) = (text(2), text(4));
    let caller = Leg { tag: text(3), ..std::mem::take(&mut d.caller) };
    d.caller = columns_of(caller, row, 0);
    if let Some(callee) = d.callees.first_mut() {
        let leg = Leg { tag: text(5), ..std::mem::take(callee) };
        *callee = columns_of(leg, row, 1);
    }
    d.expires_s = int(16);
    if d.answered_s == 0 {
        (d.start_s, d.answered_s) = (int(15), int(15));
        d.lifetime_s = int(16).saturating_sub(int(15));
    }
    if d.stamp.time_us == 0 {
        // A stock node wrote the row. Peers take a record with a stamp only, and every node that
        // reads the row has to have the same.
        d.stamp.time_us = u64::from(d.start_s.max(1)) * 1_000_000;
    }
    d.profiles = stock::read_profiles(bytes(18))?;
    let flags = Flags(int(19)).without(Flags::LOCAL).without(Flags::UNSTORED);
    d.flags = flags.with(Flags::LOADED);
    d.user_flags = fields::flag_bits(bytes(20), names);
    d.module_flags = int(21);
    (d.mangled_from, d.mangled_to) = (text(22), text(23));
    let routes = &mut d.routes;
    (routes.on_answer, routes.on_timeout, routes.on_hangup) = (text(26), text(27), text(28));
    Some(d)
}

/// What a row says of the caller (0) or the callee (1).
fn columns_of(leg: Leg, row: &[Value], side: usize) -> Leg {
    let bytes = |at: usize| row.get(at).and_then(Value::as_bytes).unwrap_or_default();
    let generated = row.get(24 + side).and_then(Value::as_int);
    Leg {
        cseq: stock::number(bytes(6 + side)),
        route_set: bytes(8 + side).into(),
        contact: bytes(10 + side).into(),
        socket: bytes(12 + side).into(),
        generated_cseq: generated.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        ..leg
    }
}

impl Dialogs {
    /// Takes a page of rows in. Gives the last id, if there may be more.
    pub(super) fn restore(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        reading: Reading,
        rows: &Rows,
    ) -> Option<i64> {
        let mut unreadable = 0;
        for row in &rows.rows {
            match dialog_of(row, |call_id| self.table.entry_of(call_id), &self.flag_names) {
                Some(d) => {
                    // The row of a table of another size has another name.
                    let stored = row.first().and_then(Value::as_int).unwrap_or(0);
                    if stored as u64 != d.id.number() {
                        let stored = DialogId::from_number(stored as u64);
                        let mut state = sql.state.lock();
                        state.deletes.insert(stored);
                        state.writes.insert(d.id);
                    }
                    match reading {
                        Reading::Sync { .. } => self.sync_row(cx, sql, d),
                        Reading::Start | Reading::Again => self.take_row(cx, d),
                    }
                }
                None => unreadable += 1,
            }
        }
        if unreadable > 0 {
            let text = format!("{unreadable} rows of {} cannot be read", sql.params.table);
            cx.log(Level::Warning, text);
        }
        let last = rows.rows.last()?.first()?.as_int()?;
        (rows.rows.len() == ROWS_A_PAGE as usize).then_some(last)
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::Str(String::from_utf8_lossy(bytes).into_owned())
}

fn optional(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { text(bytes) }
}
