//! A spool in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::effect::{SpoolAnswer, SpoolAsk};

/// The files of a spool, which outlive the node that asks.
#[derive(Clone, Debug, Default)]
pub struct Spool {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The disk is full: nothing can be added.
    pub is_full: bool,
}

impl Spool {
    /// Does what is asked.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn ask(&mut self, ask: SpoolAsk) -> Result<SpoolAnswer, String> {
        match ask {
            SpoolAsk::Append { .. } if self.is_full => {
                return Err("no space left on device".to_owned());
            }
            SpoolAsk::Append { name, bytes, .. } => {
                self.files.entry(name).or_default().extend_from_slice(&bytes);
            }
            SpoolAsk::Read { name } => {
                return Ok(SpoolAnswer::Bytes(self.files.get(&name).cloned().map(Bytes::from)));
            }
            SpoolAsk::Remove { name } => drop(self.files.remove(&name)),
            SpoolAsk::List => return Ok(SpoolAnswer::Names(self.files.keys().cloned().collect())),
        }
        Ok(SpoolAnswer::Done)
    }
}
