//! The flag lists of `save` and `lookup`.

use tandem_script::flags::FlagSet;
use tandem_script::sig::FlagSig;
use tandem_usrloc::store::Matching;

use crate::params::Params;

const fn flag(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old, help }
}

const fn valued(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: true, old, help }
}

/// Names that `save` takes; the places are those of [`save`].
pub(crate) const SAVE: &[FlagSig] = &[
    flag("memory-only", "m", "The contacts are not written to SQL."),
    flag("no-reply", "r", "The script sends the reply."),
    valued("max-contacts", "c", "Contacts of one AoR, instead of max_contacts."),
    flag("force-registration", "f", "The oldest contacts make room for new ones."),
    valued("matching-mode", "M", "0, 1 or <parameter>, instead of usrloc's matching_mode."),
    flag("path-off", "p0", "Path is not stored."),
    flag("path-lazy", "p1", "Path is stored."),
    flag("path-strict", "p2", "Path is stored if the client supports it, else refused."),
    flag("path-received", "v", "The first Path says where the contact came from."),
    flag("only-request-contacts", "o", "The reply lists the contacts of the request only."),
    flag("socket-header", "s", "The header sock_hdr_name names the socket."),
    valued("min-expires", "e", "Seconds, instead of min_expires."),
    valued("max-expires", "E", "Seconds, instead of max_expires."),
];

/// Places in [`SAVE`].
mod save {
    pub(super) const MEMORY_ONLY: usize = 0;
    pub(super) const NO_REPLY: usize = 1;
    pub(super) const MAX_CONTACTS: usize = 2;
    pub(super) const FORCE: usize = 3;
    pub(super) const MATCHING: usize = 4;
    pub(super) const PATH_LAZY: usize = 6;
    pub(super) const PATH_STRICT: usize = 7;
    pub(super) const PATH_RECEIVED: usize = 8;
    pub(super) const ONLY_REQUEST: usize = 9;
    pub(super) const SOCKET_HEADER: usize = 10;
    pub(super) const MIN_EXPIRES: usize = 11;
    pub(super) const MAX_EXPIRES: usize = 12;
}

/// What happens to a Path header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PathMode {
    #[default]
    Off,
    Lazy,
    Strict,
}

/// The flags of `save`, with the parameters they stand for.
#[derive(Clone, Debug)]
pub(crate) struct SaveFlags {
    pub(crate) memory_only: bool,
    pub(crate) no_reply: bool,
    pub(crate) force: bool,
    pub(crate) path: PathMode,
    pub(crate) path_received: bool,
    pub(crate) only_request: bool,
    pub(crate) socket_header: bool,
    pub(crate) max_contacts: usize,
    pub(crate) matching: Matching,
    pub(crate) min_expires_s: u32,
    pub(crate) max_expires_s: u32,
}

impl SaveFlags {
    /// Without any flag.
    pub(crate) fn of_params(params: &Params, matching: &Matching) -> Self {
        Self {
            memory_only: false,
            no_reply: false,
            force: false,
            path: PathMode::Off,
            path_received: false,
            only_request: false,
            socket_header: false,
            max_contacts: params.max_contacts,
            matching: matching.clone(),
            min_expires_s: params.min_expires_s,
            max_expires_s: params.max_expires_s,
        }
    }

    /// # Errors
    /// The flag whose value cannot be read.
    pub(crate) fn read(
        set: &FlagSet,
        params: &Params,
        matching: &Matching,
    ) -> Result<Self, &'static str> {
        let mut flags = Self::of_params(params, matching);
        flags.memory_only = set.has(save::MEMORY_ONLY);
        flags.no_reply = set.has(save::NO_REPLY);
        flags.force = set.has(save::FORCE);
        flags.path_received = set.has(save::PATH_RECEIVED);
        flags.only_request = set.has(save::ONLY_REQUEST);
        flags.socket_header = set.has(save::SOCKET_HEADER);
        if set.has(save::PATH_STRICT) {
            flags.path = PathMode::Strict;
        } else if set.has(save::PATH_LAZY) {
            flags.path = PathMode::Lazy;
        }
        if let Some(value) = set.value(save::MAX_CONTACTS) {
            flags.max_contacts = value.parse().map_err(|_| "max-contacts")?;
        }
        if let Some(value) = set.value(save::MATCHING) {
            flags.matching = Matching::parse(value).ok_or("matching-mode")?;
        }
        if let Some(value) = set.value(save::MIN_EXPIRES) {
            flags.min_expires_s = value.parse().map_err(|_| "min-expires")?;
        }
        if let Some(value) = set.value(save::MAX_EXPIRES) {
            flags.max_expires_s = value.parse().map_err(|_| "max-expires")?;
        }
        Ok(flags)
    }
}

/// Names that `lookup` takes; the places are those of [`LookupFlags::read`].
pub(crate) const LOOKUP: &[FlagSig] = &[
    flag("no-branches", "b", "The best contact only."),
    flag("to-branches-only", "B", "The R-URI stays; all contacts become branches."),
    flag("branch", "r", "Branches that name an AoR are resolved too."),
    flag("method-filtering", "m", "Only contacts that allow the method."),
    valued("ua-filtering", "u", "Only contacts whose User-Agent matches the expression."),
    flag("case-insensitive", "i", "For ua-filtering."),
    flag("extended-regexp", "e", "For ua-filtering; expressions always are."),
    flag("global", "g", "Contacts of the other sites of a federation too; without one: nothing."),
    valued("max-ping-latency", "y", "Microseconds; slower contacts are left out."),
    flag("sort-by-latency", "Y", "Contacts in order of ping latency."),
];

/// The flags of `lookup`.
#[derive(Clone, Debug, Default)]
pub(crate) struct LookupFlags {
    pub(crate) no_branches: bool,
    pub(crate) to_branches_only: bool,
    pub(crate) resolves_branches: bool,
    pub(crate) filters_methods: bool,
    pub(crate) user_agent: Option<String>,
    pub(crate) latency_max_us: Option<u32>,
    pub(crate) sorts_by_latency: bool,
}

impl LookupFlags {
    /// # Errors
    /// The flag whose value cannot be read.
    pub(crate) fn read(set: &FlagSet) -> Result<Self, &'static str> {
        let latency_max_us = match set.value(8) {
            None => None,
            Some(value) => Some(value.parse().map_err(|_| "max-ping-latency")?),
        };
        let insensitive = set.has(5);
        let user_agent = set.value(4).map(|pattern| {
            // Up to 3.3 the expression stood between slashes.
            let bare = pattern.strip_prefix('/').and_then(|p| p.strip_suffix('/'));
            let bare = bare.unwrap_or(pattern);
            if insensitive { format!("(?i){bare}") } else { bare.to_owned() }
        });
        Ok(Self {
            no_branches: set.has(0),
            to_branches_only: set.has(1),
            resolves_branches: set.has(2),
            filters_methods: set.has(3),
            user_agent,
            latency_max_us,
            sorts_by_latency: set.has(9),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_script::flags::parse;

    fn saved(text: &str) -> Result<SaveFlags, &'static str> {
        let set = parse(SAVE, text).unwrap().flags;
        SaveFlags::read(&set, &Params::default(), &Matching::Uri)
    }

    #[test]
    fn every_flag_of_save_is_found_at_its_place() {
        let flags = saved(
            "memory-only, no-reply, force-registration, path-received, only-request-contacts, \
             socket-header, max-contacts=3, matching-mode=<x>, min-expires=5, max-expires=9, \
             path-strict",
        )
        .unwrap();
        assert!(flags.memory_only && flags.no_reply && flags.force && flags.path_received);
        assert!(flags.only_request && flags.socket_header);
        assert_eq!((flags.max_contacts, flags.path), (3, PathMode::Strict));
        assert_eq!((flags.min_expires_s, flags.max_expires_s), (5, 9));
        assert_eq!(flags.matching, Matching::parse("<x>").unwrap());
        assert_eq!(saved("path-lazy").unwrap().path, PathMode::Lazy);
        assert_eq!(saved("path-off").unwrap().path, PathMode::Off);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert_eq!(saved("max-contacts=x").unwrap_err(), "max-contacts");
        assert_eq!(saved("matching-mode=7").unwrap_err(), "matching-mode");
        assert_eq!(saved("min-expires=-1").unwrap_err(), "min-expires");
    }

    #[test]
    fn every_flag_of_lookup_is_found_at_its_place() {
        let read = |text: &str| LookupFlags::read(&parse(LOOKUP, text).unwrap().flags);
        let flags = read(
            "no-branches,to-branches-only,branch,method-filtering,ua-filtering=^A,\
             case-insensitive,max-ping-latency=7,sort-by-latency",
        )
        .unwrap();
        assert!(flags.no_branches && flags.to_branches_only && flags.resolves_branches);
        assert!(flags.filters_methods && flags.sorts_by_latency);
        assert_eq!(flags.user_agent.as_deref(), Some("(?i)^A"));
        assert_eq!(flags.latency_max_us, Some(7));
        assert_eq!(read("max-ping-latency=x").unwrap_err(), "max-ping-latency");
    }
}
