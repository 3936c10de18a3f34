//! The states of gateways and carriers: their bits, and what they belong to.

use std::sync::Arc;

use tandem_bin::drouting as wire;
use tandem_targets as targets;

/// Bits of a gateway's state.
pub(crate) const DISABLED: u32 = wire::GATEWAY_DISABLED as u32;
pub(crate) const HELD: u32 = wire::GATEWAY_HELD as u32;
/// Bit of a carrier's state.
pub(crate) const OFF: u32 = wire::CARRIER_OFF as u32;

/// What a state belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Gateway,
    Carrier,
}

impl Kind {
    /// The bits that mean something.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Gateway => DISABLED | HELD,
            Self::Carrier => OFF,
        }
    }

    /// What the column `state` says.
    pub(crate) fn of_column(self, state: i64) -> u32 {
        match (self, state) {
            (Self::Gateway, 1) => DISABLED | HELD,
            (Self::Gateway, 2) => DISABLED,
            (Self::Carrier, 1) => OFF,
            _ => 0,
        }
    }

    /// The same for the other direction.
    pub(crate) fn column(self, bits: u32) -> i64 {
        match self {
            Self::Gateway if bits & DISABLED == 0 => 0,
            Self::Gateway if bits & HELD != 0 => 1,
            Self::Gateway => 2,
            Self::Carrier => i64::from(bits & OFF != 0),
        }
    }
}

/// A gateway or carrier, as nodes name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub(crate) partition: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) id: Arc<str>,
}

impl targets::Key for Key {
    fn name(&self) -> Vec<u8> {
        let kind: &[u8] = if self.kind == Kind::Gateway { b" " } else { b" #" };
        [self.partition.as_bytes(), kind, self.id.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_say_what_bits_say() {
        for (kind, bits, column) in [
            (Kind::Gateway, 0, 0),
            (Kind::Gateway, DISABLED | HELD, 1),
            (Kind::Gateway, DISABLED, 2),
            (Kind::Carrier, OFF, 1),
            (Kind::Carrier, 0, 0),
        ] {
            assert_eq!((kind.column(bits), kind.of_column(column)), (column, bits));
        }
    }
}
