//! What this node knows of a contact and nobody else: never replicated, not in a digest.

/// The local state of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Kept apart, since most contacts are never pinged.
    ping: Option<Box<PingState>>,
    pub db: DbState,
    /// E_UL_CONTACT_REFRESH was raised for this lifetime.
    pub(super) is_woken: bool,
    /// Its row waits to be written.
    is_queued: bool,
    /// In the first contact of an AoR: the contact label given out next. It is here because
    /// there is room.
    pub(super) next_label: u16,
    /// Slot of the round of pings, from 1; 0: none.
    turn: u16,
}

impl Local {
    pub(crate) fn is_queued(&self) -> bool {
        self.is_queued
    }

    pub(crate) fn set_queued(&mut self, is_queued: bool) {
        self.is_queued = is_queued;
    }

    /// The state of its pings.
    pub fn ping(&self) -> PingState {
        self.ping.as_deref().copied().unwrap_or_default()
    }

    /// The slot of the round in which it is pinged.
    pub(super) fn turn(&self) -> Option<usize> {
        self.turn.checked_sub(1).map(usize::from)
    }

    pub(super) fn set_turn(&mut self, slot: Option<usize>) {
        // There are at most 2^15 slots.
        self.turn = slot.map_or(0, |slot| u16::try_from(slot + 1).unwrap_or(0));
    }

    /// The state of its pings, if there was one that matters.
    pub fn pinged_mut(&mut self) -> Option<&mut PingState> {
        self.ping.as_deref_mut()
    }

    /// The state of its pings, to be changed.
    pub fn ping_mut(&mut self) -> &mut PingState {
        self.ping.get_or_insert_default()
    }
}

/// How a contact stands to its row in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DbState {
    /// No row yet.
    #[default]
    New,
    /// The row is equal.
    Sync,
    /// The row is older.
    Dirty,
}

impl DbState {
    /// The name that management shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "CS_NEW",
            Self::Sync => "CS_SYNC",
            Self::Dirty => "CS_DIRTY",
        }
    }
}

/// The state of the pings of a contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingState {
    /// Monotonic nanoseconds of the last ping, as long as it is not answered; 0: none is out.
    pub sent_ns: u64,
    /// When the last answer came; 0: none has.
    pub answered_ns: u64,
    /// Latency of the last answer in microseconds; 0: none was measured.
    pub latency_us: u32,
    /// Pings lost in a row.
    pub lost: u16,
    /// In which time of this node's duty they were lost: those of an earlier one do not count.
    pub reign: u16,
}
