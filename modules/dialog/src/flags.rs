//! The flags of a dialog, with the bits that nodes write on the wire and into databases.

use tandem_script::flags::FlagSet;
use tandem_script::sig::FlagSig;

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Self = Self(0);
    /// Not yet in the database; local.
    pub const NEW: Self = Self(1);
    /// Changed since it was written; local.
    pub const CHANGED: Self = Self(1 << 1);
    pub const BYE_SEEN: Self = Self(1 << 2);
    pub const BYE_ON_TIMEOUT: Self = Self(1 << 3);
    /// The initial request was processed.
    pub const INITIAL: Self = Self(1 << 4);
    pub const OPTIONS_PING_CALLER: Self = Self(1 << 5);
    pub const OPTIONS_PING_CALLEE: Self = Self(1 << 6);
    /// Read from the database; local.
    pub const LOADED: Self = Self(1 << 7);
    /// Values or profiles changed since it was written; local.
    pub const DATA_CHANGED: Self = Self(1 << 8);
    /// Removed from the database; local.
    pub const UNSTORED: Self = Self(1 << 9);
    /// Numbers of requests are checked and rewritten.
    pub const CSEQ_ENFORCED: Self = Self(1 << 10);
    pub const REINVITE_PING_CALLER: Self = Self(1 << 11);
    pub const REINVITE_PING_CALLEE: Self = Self(1 << 12);
    pub const REINVITE_ENGAGED_REQUEST: Self = Self(1 << 13);
    pub const REINVITE_ENGAGED_REPLY: Self = Self(1 << 14);
    pub const END_ON_RACE: Self = Self(1 << 15);
    pub const CANCELLED: Self = Self(1 << 16);
    pub const RACE: Self = Self(1 << 17);
    /// `dlg_on_timeout` has prolonged it.
    pub const SELF_EXTENDED: Self = Self(1 << 18);
    /// Confirmed by the cluster; local.
    pub const SYNCED: Self = Self(1 << 19);
    pub const AUTO_PRACK: Self = Self(1 << 20);

    /// Bits that mean something on one node only.
    pub const LOCAL: Self = Self(
        Self::NEW.0 | Self::CHANGED.0 | Self::LOADED.0 | Self::DATA_CHANGED.0 | Self::SYNCED.0,
    );

    /// How it is treated, as its script or an operator has chosen.
    pub const CHOSEN: Self = Self::BYE_ON_TIMEOUT
        .with(Self::OPTIONS_PING_CALLER)
        .with(Self::OPTIONS_PING_CALLEE)
        .with(Self::REINVITE_PING_CALLER)
        .with(Self::REINVITE_PING_CALLEE)
        .with(Self::END_ON_RACE);

    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub fn has_any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

const fn flag(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old, help }
}

/// What `create_dialog` takes; the letters are those up to 3.6.
pub(crate) const CREATE: &[FlagSig] = &[
    flag("options-ping-caller", "P", "The caller gets an OPTIONS now and then."),
    flag("options-ping-callee", "p", "The callee gets an OPTIONS now and then."),
    flag("reinvite-ping-caller", "R", "The caller gets a re-INVITE now and then."),
    flag("reinvite-ping-callee", "r", "The callee gets a re-INVITE now and then."),
    flag("bye-on-timeout", "B", "Both sides get a BYE when the lifetime is over."),
    flag("end-on-race-condition", "E", "A call that was cancelled and answered at once ends."),
    flag("auto-prack", "", "Provisional replies are acknowledged for the caller."),
];

/// The flags of the entries of [`CREATE`].
const BITS: [Flags; 7] = [
    Flags::OPTIONS_PING_CALLER,
    Flags::OPTIONS_PING_CALLEE,
    Flags::REINVITE_PING_CALLER,
    Flags::REINVITE_PING_CALLEE,
    Flags::BYE_ON_TIMEOUT,
    Flags::END_ON_RACE,
    Flags::AUTO_PRACK,
];

/// The flags that a script gives to `create_dialog`.
pub(crate) fn of(set: &FlagSet) -> Flags {
    let given = BITS.into_iter().enumerate().filter(|(at, _)| set.has(*at));
    given.fold(Flags::NONE, |all, (_, flag)| all.with(flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_script::flags::parse;

    #[test]
    fn names_are_taken_and_so_are_letters() {
        let of_text = |text: &str| parse(CREATE, text).map(|parsed| of(&parsed.flags));
        let both = Flags::BYE_ON_TIMEOUT.with(Flags::OPTIONS_PING_CALLER);
        assert_eq!(of_text("bye-on-timeout, options-ping-caller"), Ok(both));
        assert_eq!(of_text("PB"), Ok(both));
        let modern = parse(CREATE, "PB").unwrap().modern.unwrap();
        assert_eq!(modern, "options-ping-caller,bye-on-timeout");
        assert!(of_text("bye-on-timout").unwrap_err().contains("did you mean `bye-on-timeout`?"));
        assert_eq!(of_text(""), Ok(Flags::NONE));
        assert_eq!(CREATE.len(), BITS.len());
    }
}
