//! SQL text.

use tandem_db::Query;
use tandem_engine::module::Call;
use tandem_script::host::Called;

use crate::answer::{Target, Wait};
use crate::params::Sql;

/// Runs SQL for a script; also `avp_db_query`.
pub fn sql_query(call: &mut Call<'_, '_, '_>) -> Called {
    run(call, false)
}

pub(crate) fn sql_query_one(call: &mut Call<'_, '_, '_>) -> Called {
    run(call, true)
}

fn run(call: &mut Call<'_, '_, '_>, one: bool) -> Called {
    let Some(state) = call.state::<Sql>() else { return Called::Returned(-1) };
    let Some(database) = state.database(call, 2) else { return Called::Returned(-1) };
    let sql = String::from_utf8_lossy(&call.text(0)).into_owned();
    let ask = Query::Raw { sql };
    // What changes something may still answer with rows: a procedure, RETURNING.
    let may_be_none = !ask.is_read();
    let wait = Wait::Rows { to: Target::of(call, 1), one, may_be_none };
    call.ask(database, ask, wait)
}
