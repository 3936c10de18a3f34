//! What the modules of database servers share.

use tandem_db::DbUrl;

use crate::effect::DbNews;
use crate::log::Level;
use crate::module::{Build, BuildError, Cx};

/// A number that is at least this.
///
/// # Errors
/// What is no such number.
pub fn number(from: &Build<'_>, name: &'static str, least: u64) -> Result<u64, BuildError> {
    let given = from.int(name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n >= least);
    given.ok_or_else(|| BuildError::new(name, format!("{least} or more is wanted")))
}

/// Tells the operator what a server does beside answering.
pub fn log_news(cx: &mut Cx<'_>, url: &DbUrl, news: &DbNews) {
    match news {
        DbNews::Connected => cx.log(Level::Notice, format!("database {url} is connected")),
        DbNews::Lost { why } => cx.log(
            Level::Warning,
            format!("database {url} is lost ({why}); what is to be written waits"),
        ),
        DbNews::Slow { us, sql } => {
            cx.log(Level::Warning, format!("database {url} took {us} us: {sql}"));
        }
    }
}
