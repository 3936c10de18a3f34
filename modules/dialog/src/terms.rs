//! What a dialog lives by: how long, and which of its behaviours are switched on. Nodes that wrote
//! it apart agree on that of the higher claim to its tag, and of one claim on the later write
//! (decisions: "Dialogs that conflict").

use crate::flags::Flags;
use crate::record::{Dialog, Stamp};

/// Under which claim the terms of a dialog were last written, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// Epoch of the tag as the writer knew it; 0: without a tag.
    pub epoch: u64,
    pub stamp: Stamp,
}

/// Flags that are terms; the others tell what has happened.
const FLAGS: Flags = Flags::CHOSEN.with(Flags::SELF_EXTENDED).with(Flags::AUTO_PRACK);

impl Terms {
    /// Never written since the dialog was made.
    pub const NONE: Self = Self { epoch: 0, stamp: Stamp { time_us: 0, node: 0 } };
    /// The change at hand has no stamp yet.
    const PENDING: Self = Self { epoch: 0, stamp: Stamp { time_us: u64::MAX, node: 0 } };

    /// Whether the change at hand has written them.
    pub(crate) fn is_pending(self) -> bool {
        self == Self::PENDING
    }
}

/// The terms themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    lifetime_s: u32,
    expires_s: u32,
    delete_delay_s: Option<u32>,
    user_flags: u32,
    flags: Flags,
}

impl Dialog {
    /// The change at hand writes the terms, if it changes anything; gives that back.
    pub(crate) fn write_terms(&mut self, changed: bool) -> bool {
        if changed {
            self.terms = Terms::PENDING;
        }
        changed
    }

    pub(crate) fn written_terms(&self) -> Written {
        let Self { lifetime_s, expires_s, delete_delay_s, user_flags, flags, .. } = *self;
        let flags = Flags(flags.0 & FLAGS.0);
        Written { lifetime_s, expires_s, delete_delay_s, user_flags, flags }
    }

    /// The terms are these, written so.
    pub(crate) fn take_terms(&mut self, terms: Terms, written: Written) {
        let Written { lifetime_s, expires_s, delete_delay_s, user_flags, flags } = written;
        self.terms = terms;
        (self.lifetime_s, self.expires_s) = (lifetime_s, expires_s);
        (self.delete_delay_s, self.user_flags) = (delete_delay_s, user_flags);
        self.flags = self.flags.without(FLAGS).with(flags);
    }
}

/// Whether one of these flags is one of the terms.
pub(crate) fn is_among(flags: Flags) -> bool {
    flags.has_any(FLAGS)
}
