//! Queries, values and the standard schema, as data. Nothing here does I/O: a module asks for a
//! [`Query`] as an effect, a driver turns it into SQL with a [`Dialect`] and answers with [`Rows`]
//! or a [`DbError`]. [`memory::MemoryDb`] answers the same queries without a disk, with the same
//! results as SQLite, for the simulator and for tests.

mod affinity;
mod dialect;
mod error;
mod literal;
pub mod memory;
mod query;
pub mod schema;
mod sql_text;
mod url;
mod value;

pub use affinity::Affinity;
pub use dialect::{Dialect, Statement, check_name};
pub use error::{DbError, DbErrorKind};
pub use query::{Cond, Name, Op, Order, Query, Row, Rows, Select};
pub use url::{Backend, DbUrl, TlsVerify, UrlError, UrlTls};
pub use value::Value;

/// What a reader gets for a value stored in a column of this declared type: the text of a
/// `DATETIME` column comes back as [`Value::Time`] when it is one.
pub fn read_back(declared_type: &str, stored: Value) -> Value {
    affinity::from_storage(declared_type, stored)
}
