//! What a transaction carries for the lamps of its call.

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_dialog::DialogId;

use crate::document::Phase;

/// The call of an INVITE, and what was told of it, so that nothing is told twice.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) id: DialogId,
    /// By side and branch of the callee.
    told: Mutex<Vec<(u8, u8, Phase)>>,
}

/// Sides and branches that are remembered.
const TOLD_MAX: usize = 64;

impl Watched {
    pub(crate) fn new(id: DialogId) -> Self {
        Self { id, told: Mutex::default() }
    }

    /// Whether a state is further than what was told of a side.
    pub(crate) fn is_news(&self, side: u8, branch: u8, phase: Phase) -> bool {
        let mut told = self.told.lock();
        match told.iter_mut().find(|(s, b, _)| (*s, *b) == (side, branch)) {
            Some((_, _, before)) if *before >= phase => false,
            Some((_, _, before)) => {
                *before = phase;
                true
            }
            None => {
                if told.len() < TOLD_MAX {
                    told.push((side, branch, phase));
                }
                true
            }
        }
    }

    /// The call, for another node; what was told may be told again there.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.number().to_le_bytes())
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(bytes.try_into().ok()?);
        Some(Self::new(DialogId::from_number(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_twice_and_nothing_goes_back() {
        let watched = Watched::new(DialogId::from_number(7));
        assert!(watched.is_news(1, 0, Phase::Early) && !watched.is_news(1, 0, Phase::Early));
        assert!(watched.is_news(2, 0, Phase::Early) && watched.is_news(1, 1, Phase::Early));
        assert!(watched.is_news(1, 0, Phase::Terminated) && !watched.is_news(1, 0, Phase::Trying));
        let copy = Watched::read(&watched.bytes()).unwrap();
        assert_eq!(copy.id, watched.id);
        assert!(Watched::read(b"short").is_none());
    }
}
