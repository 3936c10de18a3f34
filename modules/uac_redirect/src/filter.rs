//! Which Contacts are followed.

use std::sync::Arc;

use regex::bytes::Regex;

/// Filters that one call adds.
const OWN_MAX: usize = 32;

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Accept,
    Deny,
}

/// The filters of the configuration.
#[derive(Debug)]
pub(crate) struct Filters {
    pub(crate) deny: Option<Arc<Regex>>,
    pub(crate) accept: Option<Arc<Regex>>,
    pub(crate) default_accepts: bool,
}

/// The filters of one call.
#[derive(Debug, Default)]
pub(crate) struct Own {
    added: Vec<(Kind, Arc<Regex>)>,
    /// Those of the configuration that do not count.
    off: Vec<Kind>,
}

impl Own {
    pub(crate) fn add(&mut self, kind: Kind, regex: Arc<Regex>, flags: &str) -> Result<(), String> {
        check_flags(flags)?;
        for flag in flags.split(',').map(str::trim) {
            if matches!(flag, "reset_added" | "reset_all") {
                self.added.retain(|(k, _)| *k != kind);
            }
            if matches!(flag, "reset_default" | "reset_all") {
                self.off.push(kind);
            }
        }
        if self.added.len() >= OWN_MAX {
            return Err(format!("more than {OWN_MAX} filters for one call"));
        }
        self.added.push((kind, regex));
        Ok(())
    }
}

impl Filters {
    /// Whether a Contact is followed: what a filter accepts, then what none denies.
    pub(crate) fn takes(&self, own: &Own, uri: &[u8]) -> bool {
        let matches = |kind: Kind| {
            let configured = match kind {
                Kind::Accept => &self.accept,
                Kind::Deny => &self.deny,
            };
            let configured = configured.as_ref().filter(|_| !own.off.contains(&kind));
            let added = own.added.iter().filter(|(k, _)| *k == kind).map(|(_, regex)| regex);
            configured.into_iter().chain(added).any(|regex| regex.is_match(uri))
        };
        matches(Kind::Accept) || (!matches(Kind::Deny) && self.default_accepts)
    }
}

/// Judges a literal.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    let known = ["", "reset_added", "reset_default", "reset_all"];
    match text.split(',').map(str::trim).find(|flag| !known.contains(flag)) {
        None => Ok(()),
        Some(flag) => Err(format!("`{flag}` is none of reset_added, reset_default, reset_all")),
    }
}
