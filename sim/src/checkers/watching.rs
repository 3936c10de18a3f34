//! After quiet every watcher whose subscription lives has been told the state that was confirmed
//! last. A CSeq that goes back is found as well: phones do not believe it.

/// Name in findings.
pub const NAME: &str = "watching";

/// A phone: what it has published, and what it was told.
#[derive(Clone, Debug)]
pub struct Seen {
    pub user: String,
    /// `None`: nobody knows whether it was taken.
    pub published: Option<String>,
    /// Whom it watches, and the state that it was told.
    pub watches: Option<(String, String)>,
}

/// What is wrong; empty if nothing is.
pub fn findings(all: &[Seen]) -> Vec<String> {
    let mut found = Vec::new();
    for seen in all {
        let Some((of, told)) = &seen.watches else { continue };
        let published = all.iter().find(|s| s.user == *of).and_then(|s| s.published.as_ref());
        let Some(published) = published.filter(|published| *published != told) else { continue };
        let user = &seen.user;
        found.push(format!("{user} was told {told:?} of {of}, who has published {published:?}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_told_something_else_is_named() {
        let seen = |user: &str, published: Option<&str>, watches: Option<(&str, &str)>| Seen {
            user: user.into(),
            published: published.map(str::to_owned),
            watches: watches.map(|(of, told)| (of.to_owned(), told.to_owned())),
        };
        let good = [seen("a", Some("1"), Some(("b", "2"))), seen("b", Some("2"), None)];
        assert!(findings(&good).is_empty());
        let unsure = [seen("a", None, Some(("b", "1"))), seen("b", None, Some(("a", "x")))];
        assert!(findings(&unsure).is_empty());
        let bad = [seen("a", None, Some(("b", "1"))), seen("b", Some("2"), None)];
        assert_eq!(findings(&bad).len(), 1);
    }
}
