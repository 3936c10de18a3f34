//! What somebody does: the manners of phones, good and bad.

/// One deed of a phone, with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call to somebody whose name says how he behaves.
    Call {
        callee: &'static str,
        /// The caller gives up when it rings.
        cancels: bool,
        /// The caller acknowledges the final answer.
        acks: bool,
        then: Then,
    },
    /// A call to somebody who may be registered.
    Registered,
    /// A contact that nobody refreshes, or that is taken back.
    Register {
        back: bool,
    },
    /// A subscription that nobody refreshes, or that is refreshed once.
    Subscribe {
        again: bool,
    },
    Publish,
    /// A message to somebody.
    Message(&'static str),
}

/// What the caller does when the call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: the callee hangs up, or the lifetime of the dialog is over.
    Wait,
    HangUp,
    /// Another INVITE, then BYE.
    Change,
}

const fn call(callee: &'static str, then: Then) -> Kind {
    Kind::Call { callee, cancels: false, acks: true, then }
}

const fn cancelled(callee: &'static str) -> Kind {
    Kind::Call { callee, cancels: true, acks: true, then: Then::HangUp }
}

const fn deaf(callee: &'static str) -> Kind {
    Kind::Call { callee, cancels: false, acks: false, then: Then::Wait }
}

/// In turn, again and again.
const KINDS: [Kind; 40] = [
    call("answer", Then::HangUp),
    Kind::Register { back: false },
    call("answer", Then::HangUp),
    call("hangup", Then::Wait),
    Kind::Register { back: false },
    call("answer", Then::Change),
    call("busy", Then::HangUp),
    Kind::Subscribe { again: false },
    call("answer", Then::HangUp),
    call("again", Then::HangUp),
    call("silent", Then::HangUp),
    Kind::Register { back: true },
    cancelled("ring"),
    call("answer", Then::HangUp),
    call("hangup", Then::Wait),
    call("ring", Then::HangUp),
    Kind::Publish,
    cancelled("deaf"),
    call("answer", Then::HangUp),
    cancelled("late"),
    Kind::Register { back: false },
    call("fork", Then::HangUp),
    call("answer", Then::HangUp),
    deaf("answer"),
    Kind::Message("later"),
    call("answer", Then::Wait),
    call("answer", Then::HangUp),
    call("gone", Then::HangUp),
    Kind::Subscribe { again: true },
    deaf("busy"),
    call("answer", Then::HangUp),
    Kind::Registered,
    Kind::Register { back: false },
    call("hangup", Then::Wait),
    Kind::Message("silent"),
    call("answer", Then::Change),
    call("answer", Then::HangUp),
    Kind::Message("answer"),
    call("fork", Then::HangUp),
    call("answer", Then::HangUp),
];

impl Kind {
    pub(super) fn of(n: u32) -> Self {
        KINDS[n as usize % KINDS.len()]
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Call { .. } | Self::Registered => "INVITE",
            Self::Register { .. } => "REGISTER",
            Self::Subscribe { .. } => "SUBSCRIBE",
            Self::Publish => "PUBLISH",
            Self::Message(_) => "MESSAGE",
        }
    }

    /// Whom it is about.
    pub(super) fn user(self, n: u32) -> String {
        match self {
            Self::Call { callee, .. } | Self::Message(callee) => callee.to_owned(),
            // Those who register are among the last thousands.
            Self::Registered => format!("u{}", n.wrapping_sub(27)),
            Self::Register { .. } => format!("u{n}"),
            Self::Subscribe { .. } | Self::Publish => format!("w{}", n / 40 % 5_000),
        }
    }

    pub(super) fn then(self) -> Then {
        match self {
            Self::Call { then, .. } => then,
            _ => Then::HangUp,
        }
    }

    pub(super) fn cancels(self) -> bool {
        matches!(self, Self::Call { cancels: true, .. })
    }

    pub(super) fn acks(self) -> bool {
        !matches!(self, Self::Call { acks: false, .. })
    }
}
