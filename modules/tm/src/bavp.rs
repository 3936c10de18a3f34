//! `$bavp(name)`: values that belong to one branch.

use tandem_engine::avp::Avps;

/// The AVPs of a branch. They are made when a script first writes one.
pub(crate) type Bavps = Option<Box<Avps>>;
