//! Key-value stores that scripts reach by name: `local`, `local:group`.

use bytes::Bytes;

use crate::module::Cx;
use crate::node::Node;

/// The most bytes of a key.
pub const KEY_BYTES_MAX: usize = 4_096;

/// A module that keeps values for scripts. `id` is the whole name that a script gives, group
/// included. Errors are for the log.
pub trait CacheStore {
    /// The part of the name before the first colon.
    fn scheme(&self) -> &'static str;

    /// # Errors
    /// When the store has no such name.
    fn fetch(&self, cx: &mut Cx<'_>, id: &str, key: &[u8]) -> Result<Option<Bytes>, String>;

    /// Keeps a value for so many seconds; 0: for ever.
    ///
    /// # Errors
    /// When the store has no such name, or no room.
    fn store(
        &self,
        cx: &mut Cx<'_>,
        id: &str,
        key: &[u8],
        value: Bytes,
        expire_s: u32,
    ) -> Result<(), String>;

    /// # Errors
    /// When the store has no such name.
    fn remove(&self, cx: &mut Cx<'_>, id: &str, key: &[u8]) -> Result<(), String>;

    /// Adds to a counter, which starts at 0; gives its new value. `expire_s` 0 leaves its end as
    /// it is.
    ///
    /// # Errors
    /// When the store has no such name, or the value is no number.
    fn add(
        &self,
        cx: &mut Cx<'_>,
        id: &str,
        key: &[u8],
        by: i32,
        expire_s: u32,
    ) -> Result<i32, String>;

    /// A query in the store's own language; each row is its columns.
    ///
    /// # Errors
    /// When the store has none.
    fn raw_query(
        &self,
        _cx: &mut Cx<'_>,
        id: &str,
        _query: &str,
    ) -> Result<Vec<Vec<Bytes>>, String> {
        Err(format!("`{id}` has no queries of its own"))
    }
}

impl Cx<'_> {
    /// Runs something with the store that a name means.
    ///
    /// # Errors
    /// When no loaded module has it, or what the store says.
    pub fn with_cache<R>(
        &mut self,
        id: &str,
        run: impl FnOnce(&dyn CacheStore, &mut Cx<'_>) -> Result<R, String>,
    ) -> Result<R, String> {
        let node: &Node = self.node;
        let scheme = id.split(':').next().unwrap_or_default();
        let found = node.loaded().find_map(|(slot, _, module)| {
            let has = module.cache().is_some_and(|cache| cache.scheme() == scheme);
            has.then(|| (slot, std::sync::Arc::clone(module)))
        });
        let Some((slot, module)) = found else {
            return Err(format!("no loaded module has the cache `{id}`"));
        };
        self.for_slot(slot, |cx| match module.cache() {
            Some(cache) => run(cache, cx),
            None => Err(format!("no loaded module has the cache `{id}`")),
        })
    }
}
