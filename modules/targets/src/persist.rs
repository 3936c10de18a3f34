//! States in the database: written a while after they have changed, and when the node ends.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tandem_db::DbError;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::owner::{Key, Owner};

/// How often a module writes, in seconds.
pub const EVERY_S: u64 = 5;
/// States that one turn writes.
const WRITES_MAX: usize = 1_000;
/// Writes that are waited for.
const OPEN_MAX: usize = 10_000;

/// Writes on their way. Their tokens are numbers above `first`, of 32 bits.
pub struct Writer<K> {
    first: u64,
    inner: Mutex<Inner<K>>,
}

struct Inner<K> {
    last: u64,
    open: BTreeMap<u64, K>,
}

impl<K: Key> Writer<K> {
    pub fn new(first: u64) -> Self {
        Self { first, inner: Mutex::new(Inner { last: 0, open: BTreeMap::new() }) }
    }

    /// Writes the states that have changed; what is too much for one turn waits for the next.
    pub fn write<O: Owner<Key = K>>(&self, cx: &mut Cx<'_>, owner: &O) {
        let free = OPEN_MAX.saturating_sub(self.inner.lock().open.len()).min(WRITES_MAX);
        for (key, bits) in owner.states().take_dirty(free) {
            let Some((database, ask)) = owner.update(&key, bits) else { continue };
            let token = {
                let mut inner = self.inner.lock();
                inner.last += 1;
                let token = self.first | (inner.last & 0xffff_ffff);
                inner.open.insert(token, key);
                token
            };
            cx.query(database, ask, token);
        }
    }

    /// A state was written, or is to be written again.
    pub fn written<O: Owner<Key = K>>(
        &self,
        cx: &mut Cx<'_>,
        owner: &O,
        token: u64,
        error: Option<DbError>,
    ) {
        let key = self.inner.lock().open.remove(&token);
        if let (Some(key), Some(error)) = (key, error) {
            owner.states().set_dirty(key);
            cx.log(Level::Error, format!("{}: a state cannot be written: {error}", O::NAME));
        }
    }
}
