//! Profiles with `/s`: their counts are kept in a key-value store, so that every node with that
//! store counts together.
//!
//! A node counts its own dialogs in and out. The keys end by themselves after `profile_timeout`,
//! so that what a node which died has left behind does not count for ever.

use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::index::Profile;
use crate::record::Membership;
use crate::state::Dialogs;

/// Where the counts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCounts {
    /// Name of the store, with its group: `local`, `local:calls`.
    pub store: String,
    pub value_prefix: String,
    pub plain_prefix: String,
    pub size_prefix: String,
    pub expire_s: u32,
}

impl SharedCounts {
    /// The store that a url means: `local:group://`.
    pub(crate) fn store_of(url: &str) -> Result<String, String> {
        let (store, _) = url.split_once("://").unwrap_or((url, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
        match !store.is_empty() && store.bytes().all(plain) {
            true => Ok(store.to_owned()),
            false => Err(format!("`{url}` names no store: it is written local://")),
        }
    }

    /// The key that counts a value of a profile, or a profile without values.
    fn key(&self, name: &[u8], value: Option<&[u8]>) -> Vec<u8> {
        match value {
            Some(value) => [self.value_prefix.as_bytes(), name, b"_", value].concat(),
            None => [self.plain_prefix.as_bytes(), name].concat(),
        }
    }

    /// The key that counts all values of a profile together.
    fn size_key(&self, name: &[u8]) -> Vec<u8> {
        [self.size_prefix.as_bytes(), name].concat()
    }
}

impl Dialogs {
    /// Counts a dialog into a shared profile, or out of it.
    pub(crate) fn count_shared(&self, cx: &mut Cx<'_>, membership: &Membership, by: i32) {
        let Some(counts) = &self.params.shared else { return };
        let defs = self.table.profiles.defs();
        let is_it =
            |p: &&Profile| p.name.as_bytes() == &*membership.name && p.marker == membership.marker;
        let Some(profile) = defs.iter().find(is_it) else { return };
        let mut keys = Vec::with_capacity(2);
        if profile.has_value {
            keys.push(counts.key(&membership.name, Some(&membership.value)));
            keys.push(counts.size_key(&membership.name));
        } else {
            keys.push(counts.key(&membership.name, None));
        }
        for key in keys {
            let added = cx.with_cache(&counts.store, |store, cx| {
                store.add(cx, &counts.store, &key, by, counts.expire_s)
            });
            if let Err(why) = added {
                cx.log(Level::Error, format!("dialog: a shared profile is not counted: {why}"));
            }
        }
    }

    /// How many are in a shared profile, on all nodes; `None`: the store cannot say.
    pub(crate) fn shared_size(
        &self,
        cx: &mut Cx<'_>,
        profile: &Profile,
        value: Option<&[u8]>,
    ) -> Option<usize> {
        let counts = self.params.shared.as_ref()?;
        let name = profile.name.as_bytes();
        let key = match (profile.has_value, value) {
            (true, None) => counts.size_key(name),
            (true, value) => counts.key(name, value),
            (false, _) => counts.key(name, None),
        };
        let found = cx.with_cache(&counts.store, |store, cx| store.fetch(cx, &counts.store, &key));
        match found {
            Ok(found) => {
                let text = found.unwrap_or_default();
                let number = std::str::from_utf8(&text).ok().and_then(|t| t.parse::<i64>().ok());
                Some(usize::try_from(number.unwrap_or(0)).unwrap_or(0))
            }
            Err(why) => {
                cx.log(Level::Error, format!("dialog: a shared profile cannot be read: {why}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_store() {
        for (url, store) in [("local://", "local"), ("local:calls://h/", "local:calls"), ("x", "x")]
        {
            assert_eq!(SharedCounts::store_of(url).as_deref(), Ok(store));
        }
        assert!(SharedCounts::store_of("").is_err() && SharedCounts::store_of("a b://").is_err());
    }
}
