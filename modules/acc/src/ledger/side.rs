//! The table of identities, beside the tables of records in the same database.
//!
//! One of its rows names the database itself, so that nodes know whether they share it, however
//! each of them reaches it.

use tandem_db::schema::{self, create_query};
use tandem_db::{Backend, Cond, DbError, DbErrorKind, Dialect, Op, Query, Rows, Select, Value};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use super::batches::is_away;
use super::entry::{Entry, SIDE_TABLE};
use super::{Asked, Ledger, Sink, TO_DATABASE, retry_later, timer};

/// What is known of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    /// It was not found out yet: records wait.
    #[default]
    Unknown,
    /// With the number that names the database.
    There(u64),
    /// Records are written without identities.
    Missing,
}

/// The steps of finding out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Look { tries: u8 },
    Create,
    Name,
    Prune,
}

/// The row that names the database.
const NAME: &str = "database";
/// Above every time, so that the row is never too old.
const NAME_MIN: u64 = 1 << 40;
/// How long identities are kept.
const KEPT_S: u64 = 7 * 86_400;
const PRUNE_EVERY_S: u64 = 3_600;
/// The table is looked for so often after it was made or named.
const TRIES_MAX: u8 = 2;

/// Asks whether a record is there.
pub(super) fn is_known(entry: &Entry) -> Query {
    look_up(entry.id.text(), "cdr_id")
}

fn look_up(id: impl Into<Value>, column: &'static str) -> Query {
    Query::Select(Select {
        table: SIDE_TABLE.into(),
        columns: vec![column.into()],
        conds: vec![Cond::eq("cdr_id", id)],
        limit: Some(1),
        ..Select::default()
    })
}

impl Ledger {
    pub(super) fn look_for_side(&self, cx: &mut Cx<'_>) {
        self.ask_side(cx, Ask::Look { tries: 0 }, look_up(NAME, "written_at"));
    }

    fn ask_side(&self, cx: &mut Cx<'_>, ask: Ask, query: Query) {
        let token = {
            let mut state = self.state.lock();
            let token = state.token();
            state.asked.insert(token, Asked::Side(ask));
            token
        };
        if let Sink::Database(database) = self.sink {
            cx.query(database, query, token);
        }
    }

    pub(super) fn side_answered(&self, cx: &mut Cx<'_>, ask: Ask, result: Result<Rows, DbError>) {
        match (ask, result) {
            (Ask::Prune, _) => {}
            (Ask::Look { tries }, Ok(rows)) => {
                let name = rows.get(0, "written_at").and_then(Value::as_int);
                match name.and_then(|n| u64::try_from(n).ok()) {
                    Some(name) => self.found(cx, Side::There(name)),
                    None if tries >= TRIES_MAX => self.without(cx, "it keeps no rows"),
                    None => self.name_database(cx),
                }
            }
            (Ask::Look { tries: 0 }, Err(error)) if error.kind == DbErrorKind::Missing => {
                self.create(cx);
            }
            (Ask::Create, Ok(_)) => self.look_again(cx, 1),
            (Ask::Name, _) => self.look_again(cx, TRIES_MAX),
            (_, Err(error)) if is_away(&error) => {
                let mut state = self.state.lock();
                if !std::mem::replace(&mut state.told.down, true) {
                    let text = format!("records wait for the database: {error}");
                    cx.log(Level::Warning, text);
                }
                retry_later(cx, &mut state);
            }
            (_, Err(error)) => self.without(cx, &error.to_string()),
        }
    }

    fn look_again(&self, cx: &mut Cx<'_>, tries: u8) {
        self.ask_side(cx, Ask::Look { tries }, look_up(NAME, "written_at"));
    }

    /// Of several nodes that do it at once, the first one succeeds.
    fn name_database(&self, cx: &mut Cx<'_>) {
        let number = NAME_MIN + cx.worker.chance.u64() % (1 << 50);
        let row =
            vec![("cdr_id".into(), NAME.into()), ("written_at".into(), Value::Int(number as i64))];
        self.ask_side(cx, Ask::Name, Query::Insert { table: SIDE_TABLE.into(), row });
    }

    fn create(&self, cx: &mut Cx<'_>) {
        let Sink::Database(database) = self.sink else { return };
        let backend = cx.node.databases.get(usize::from(database.0)).map(|url| url.backend);
        let dialect = match backend {
            Some(Backend::MySql) => Dialect::MYSQL,
            Some(Backend::Postgres) => Dialect::POSTGRES,
            Some(Backend::Sqlite) | None => Dialect::SQLITE,
        };
        let tables: Vec<_> = schema::table(SIDE_TABLE).into_iter().collect();
        match create_query(dialect, &tables) {
            Ok(query) => self.ask_side(cx, Ask::Create, query),
            Err(error) => self.without(cx, &error.to_string()),
        }
    }

    fn without(&self, cx: &mut Cx<'_>, why: &str) {
        let text = format!(
            "the table {SIDE_TABLE} cannot be used: {why}; a record may be written twice after a \
             failure. Make it with `tandemctl db create {SIDE_TABLE}`"
        );
        cx.log(Level::Warning, text);
        self.found(cx, Side::Missing);
    }

    fn found(&self, cx: &mut Cx<'_>, side: Side) {
        let mut state = self.state.lock();
        state.side = side;
        state.segments.forgets_at_once = side == Side::Missing;
        super::disk::note(cx, &mut state);
        if std::mem::take(&mut state.told.down) {
            cx.log(Level::Notice, "the database takes records again");
        }
        drop(state);
        let at = cx.now.after_s(PRUNE_EVERY_S);
        cx.set_timer(at, Timer { kind: timer::PRUNE, id: TO_DATABASE });
    }

    /// Forgets identities that nobody will ask for any more.
    pub(super) fn prune(&self, cx: &mut Cx<'_>) {
        if !matches!(self.state.lock().side, Side::There(_)) {
            return;
        }
        let before = cx.now.unix_s().saturating_sub(KEPT_S) as i64;
        let conds = vec![Cond::new("written_at", Op::Lt, before)];
        self.ask_side(cx, Ask::Prune, Query::Delete { table: SIDE_TABLE.into(), conds });
        cx.set_timer(cx.now.after_s(PRUNE_EVERY_S), Timer { kind: timer::PRUNE, id: TO_DATABASE });
    }
}
