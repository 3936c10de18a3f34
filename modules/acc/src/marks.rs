//! What of a transaction is accounted, and where.

use tandem_script::nearest;

/// A place that records go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Log,
    Db,
    Evi,
    Aaa,
}

impl Backend {
    pub(crate) const ALL: [Self; 4] = [Self::Log, Self::Db, Self::Evi, Self::Aaa];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Db => "db",
            Self::Evi => "evi",
            Self::Aaa => "aaa",
        }
    }

    /// The backend with this name.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let name = name.trim();
        if let Some(found) = Self::ALL.into_iter().find(|b| b.name().eq_ignore_ascii_case(name)) {
            return Ok(found);
        }
        let name = name.to_ascii_lowercase();
        let near = nearest(&name, Self::ALL.into_iter().map(Self::name));
        let near = near.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
        Err(format!("`{name}` is none of log, db, evi and aaa{near}"))
    }
}

/// The transaction is accounted.
pub(crate) const ACC: u8 = 1;
/// One record for the whole call, at its end.
pub(crate) const CDR: u8 = 2;
/// Calls that nobody answered.
pub(crate) const MISSED: u8 = 4;
/// Transactions that ended with 300 or more.
pub(crate) const FAILED: u8 = 8;

const FLAGS: [(&str, u8); 3] = [("cdr", CDR), ("missed", MISSED), ("failed", FAILED)];

/// The flags of each backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks([u8; 4]);

impl Marks {
    pub(crate) fn of(self, backend: Backend) -> u8 {
        let [log, db, evi, aaa] = self.0;
        match backend {
            Backend::Log => log,
            Backend::Db => db,
            Backend::Evi => evi,
            Backend::Aaa => aaa,
        }
    }

    fn of_mut(&mut self, backend: Backend) -> &mut u8 {
        let [log, db, evi, aaa] = &mut self.0;
        match backend {
            Backend::Log => log,
            Backend::Db => db,
            Backend::Evi => evi,
            Backend::Aaa => aaa,
        }
    }

    pub(crate) fn add(&mut self, backend: Backend, flags: u8) {
        *self.of_mut(backend) |= flags;
    }

    pub(crate) fn remove(&mut self, backend: Backend, flags: u8) {
        *self.of_mut(backend) &= !flags;
    }

    /// The backends that have all of these flags.
    pub(crate) fn with(self, flags: u8) -> impl Iterator<Item = Backend> {
        Backend::ALL.into_iter().filter(move |b| self.of(*b) & flags == flags)
    }

    pub(crate) fn any(self, flags: u8) -> bool {
        self.with(flags).next().is_some()
    }
}

/// Backends in one text: `db|log`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn backends(text: &str) -> Result<Vec<Backend>, String> {
    let names = text.split('|').map(str::trim).filter(|n| !n.is_empty());
    let found = names.map(Backend::named).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err("name a type: log, db, evi or aaa".into());
    }
    Ok(found)
}

/// Flags in one text: `cdr|missed`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn flags(text: &str) -> Result<u8, String> {
    let mut found = 0;
    for name in text.split('|').map(str::trim).filter(|n| !n.is_empty()) {
        match FLAGS.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, flag)) => found |= flag,
            None => {
                let name = name.to_ascii_lowercase();
                let near = nearest(&name, FLAGS.into_iter().map(|(n, _)| n));
                let near = near.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
                return Err(format!("`{name}` is none of cdr, missed and failed{near}"));
            }
        }
    }
    Ok(found)
}

/// Judges a literal.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_backends(text: &str) -> Result<(), String> {
    backends(text).map(drop)
}

/// Judges a literal.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_flags(text: &str) -> Result<(), String> {
    flags(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_flags_are_read_and_mistakes_are_named() {
        assert_eq!(backends("db | LOG"), Ok(vec![Backend::Db, Backend::Log]));
        assert!(backends("").is_err());
        assert_eq!(backends("aaa"), Ok(vec![Backend::Aaa]));
        assert!(backends("bd").unwrap_err().contains("did you mean `db`"));
        assert_eq!(flags("cdr|missed|failed"), Ok(CDR | MISSED | FAILED));
        assert_eq!(flags(""), Ok(0));
        assert!(flags("mised").unwrap_err().contains("did you mean `missed`"));
    }

    #[test]
    fn marks_add_up() {
        let mut marks = Marks::default();
        marks.add(Backend::Db, ACC | CDR);
        marks.add(Backend::Db, MISSED);
        marks.add(Backend::Log, ACC);
        assert_eq!(marks.of(Backend::Db), ACC | CDR | MISSED);
        assert_eq!(marks.with(ACC).count(), 2);
        marks.remove(Backend::Db, MISSED | CDR);
        assert!(marks.any(ACC) && !marks.any(CDR));
    }
}
