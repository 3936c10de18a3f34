//! Whether this node may act on a record of itself.

use tandem_cluster::{Duty, TagTable};

use crate::record::Record;
use crate::state::Pua;

/// Leave to send on one's own initiative.
#[derive(Debug)]
pub(crate) enum Leave<'t> {
    /// The node is in no cluster, or does not share its records.
    Alone,
    Duty(#[expect(dead_code, reason = "having it is the proof")] Duty<'t>),
    /// A client's request is what it is sent for.
    Asked,
}

impl Pua {
    /// Leave to refresh or end a record: by its tag, or else by the node that made it.
    pub(crate) fn leave<'t>(
        &self,
        tags: Option<&'t TagTable>,
        record: &Record,
    ) -> Option<Leave<'t>> {
        let cluster = self.params.cluster;
        let Some(tags) = tags.filter(|_| cluster != 0) else { return Some(Leave::Alone) };
        if record.tag.is_empty() {
            return match record.creator {
                0 => Some(Leave::Alone),
                creator => tags.duty_of_creator(cluster, creator).map(Leave::Duty),
            };
        }
        let tag = std::str::from_utf8(&record.tag).ok()?;
        let (name, cluster) = match tag.rsplit_once('/') {
            Some((name, number)) => (name, number.parse().unwrap_or(cluster)),
            None => (tag, cluster),
        };
        tags.duty(name, cluster).map(Leave::Duty)
    }
}
