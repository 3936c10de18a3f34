//! What a destination bears: the dialogs in a profile of its own for each resource.

use tandem_dialog::{Change, Dialogs, KEPT_PREFIX, Marker, Membership};

use crate::choose::{Flags, free};
use crate::session::Session;
use crate::table::Destination;

/// The profile of a resource of a group; the values are URIs of destinations.
fn profile(group: i64, resource: &str) -> Vec<u8> {
    format!("{KEPT_PREFIX}lb_{group}_{resource}").into_bytes()
}

/// Calls that a destination bears with a resource.
pub(crate) fn load(dialogs: &Dialogs, of: &Destination, resource: &str) -> usize {
    dialogs.table.profiles.kept_size(&profile(of.group, resource), &of.uri)
}

/// What is free of the scarcest of some resources; `None`: it has not all of them.
pub(crate) fn room(
    dialogs: &Dialogs,
    of: &Destination,
    resources: &[String],
    flags: Flags,
) -> Option<i64> {
    let mut least = i64::MAX;
    for name in resources {
        let resource = of.resource(name)?;
        least = least.min(free(resource.max(), load(dialogs, of, name), flags));
    }
    Some(least)
}

/// Into the profiles of some resources.
pub(crate) fn join(group: i64, uri: &[u8], resources: &[String]) -> Vec<Change> {
    let one = |name: &String| {
        let (name, value) = (profile(group, name).into(), uri.into());
        let membership = Membership { name, value, marker: Marker::Local };
        Change::Join { membership, alone: false }
    };
    resources.iter().map(one).collect()
}

/// Out of the profiles of some resources.
pub(crate) fn leave(group: i64, uri: &[u8], resources: &[String]) -> Vec<Change> {
    let one = |name: &String| Change::Leave {
        name: profile(group, name).into(),
        marker: Marker::Local,
        value: Some(uri.into()),
    };
    resources.iter().map(one).collect()
}

/// Out of those of the destination in use.
pub(crate) fn leave_current(session: &Session) -> Vec<Change> {
    let current = session.current();
    current.map_or_else(Vec::new, |uri| leave(session.group, uri, &session.resources))
}
