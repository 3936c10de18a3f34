//! The flags of a dialog, with the bits that nodes write on the wire and into databases.

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

/// What `create_dialog` takes: the name, the letter up to 3.6, the flag.
pub(crate) const CREATE: &[(&str, &str, Flags)] = &[
    ("options-ping-caller", "P", Flags::OPTIONS_PING_CALLER),
    ("options-ping-callee", "p", Flags::OPTIONS_PING_CALLEE),
    ("reinvite-ping-caller", "R", Flags::REINVITE_PING_CALLER),
    ("reinvite-ping-callee", "r", Flags::REINVITE_PING_CALLEE),
    ("bye-on-timeout", "B", Flags::BYE_ON_TIMEOUT),
    ("end-on-race-condition", "E", Flags::END_ON_RACE),
    ("auto-prack", "", Flags::AUTO_PRACK),
];

/// Reads the flags of `create_dialog`.
///
/// # Errors
/// What is wrong; for the letters of older versions the names in their place.
pub(crate) fn parse(text: &str) -> Result<Flags, String> {
    let mut flags = Flags::NONE;
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match CREATE.iter().find(|(name, ..)| name.eq_ignore_ascii_case(item)) {
            Some((.., flag)) => flags = flags.with(*flag),
            None => return Err(wrong(item)),
        }
    }
    Ok(flags)
}

fn wrong(item: &str) -> String {
    let named = |letter: char| {
        let letter = letter.to_string();
        CREATE.iter().find(|(_, old, _)| **old == letter).map(|(name, ..)| *name)
    };
    let names: Option<Vec<&str>> = item.chars().map(named).collect();
    if let Some(names) = names {
        let names = names.join(",");
        return format!("`{item}` is the spelling up to 3.6: write \"{names}\"");
    }
    let known = CREATE.iter().map(|(name, ..)| *name);
    match tandem_script::nearest(item, known.clone()) {
        Some(near) => format!("unknown flag `{item}`, did you mean `{near}`?"),
        None => {
            format!("unknown flag `{item}`; there are {}", known.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Judges a literal.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_letters_are_told_their_names() {
        let both = parse("bye-on-timeout, options-ping-caller").unwrap();
        assert_eq!(both, Flags::BYE_ON_TIMEOUT.with(Flags::OPTIONS_PING_CALLER));
        let old = "`PpB` is the spelling up to 3.6: write \
                   \"options-ping-caller,options-ping-callee,bye-on-timeout\"";
        assert_eq!(parse("PpB").unwrap_err(), old);
        assert!(parse("bye-on-timout").unwrap_err().contains("did you mean `bye-on-timeout`?"));
        assert!(parse("xyz").unwrap_err().contains("auto-prack"));
        assert_eq!(parse(""), Ok(Flags::NONE));
    }
}
