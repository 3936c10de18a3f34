//! Whose turn it is to be pinged: a contact that wants pings has a slot of the round, the one
//! that was filled least when it came.

use parking_lot::Mutex;
use tandem_clock::Rota;
use tandem_sip::{Transport, Uri};

use super::contact::{Contact, Text};
use super::local::Local;

/// Which contacts are pinged, and in how many slots of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingPlan {
    pub slots: usize,
    /// Only those with this branch flag; `None`: all.
    pub only_flag: Option<String>,
    /// Those behind a connection as well.
    pub streams: bool,
}

impl PingPlan {
    fn wants(&self, contact: &Contact) -> bool {
        let is_flagged = |flag: &String| contact.has_branch_flag(flag);
        self.only_flag.as_ref().is_none_or(is_flagged) && (self.streams || is_over_udp(contact))
    }
}

fn is_over_udp(contact: &Contact) -> bool {
    // The first proxy on the way may be reached by anything.
    if !contact.text(Text::Path).is_empty() {
        return true;
    }
    let hop = if contact.received().is_empty() { contact.uri() } else { contact.received() };
    let uri = Uri::parse(hop).ok().filter(|uri| !uri.is_sips());
    uri.is_some_and(|uri| {
        uri.param(b"transport").is_none() || uri.transport() == Some(Transport::Udp)
    })
}

/// Where a contact is in its table: found there without a search as long as it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    pub(super) fn new(shard: usize, at: u32) -> Self {
        Self((shard as u64) << 32 | u64::from(at))
    }

    /// Of a number that [`Place::number`] has given, here or on another node: whether the contact
    /// is there, its id tells.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// At most 48 bits.
    pub fn number(self) -> u64 {
        self.0
    }

    pub(super) fn shard(self) -> usize {
        (self.0 >> 32) as usize
    }

    pub(super) fn at(self) -> u32 {
        self.0 as u32
    }
}

/// The slots of a table. Its lock is one of the innermost: it is taken while a shard is locked.
#[derive(Debug)]
pub(super) struct Turns {
    plan: PingPlan,
    rota: Mutex<Rota<Place>>,
}

impl Turns {
    pub(super) fn new(plan: PingPlan) -> Self {
        let rota = Mutex::new(Rota::new(plan.slots));
        Self { plan, rota }
    }

    /// A contact is new.
    pub(super) fn come(&self, place: Place, contact: &Contact, local: &mut Local) {
        if self.plan.wants(contact) {
            local.set_turn(Some(self.rota.lock().join(place)));
        }
    }

    /// A contact has taken the place of another state of itself.
    pub(super) fn changed(&self, place: Place, contact: &Contact, local: &mut Local) {
        match (local.turn().is_some(), self.plan.wants(contact)) {
            (true, false) => self.gone(place, local),
            (false, true) => self.come(place, contact, local),
            _ => {}
        }
    }

    /// A contact goes.
    pub(super) fn gone(&self, place: Place, local: &mut Local) {
        if let Some(slot) = local.turn() {
            self.rota.lock().leave(slot, &place);
            local.set_turn(None);
        }
    }

    /// Contacts in all slots.
    pub(super) fn len(&self) -> usize {
        self.rota.lock().len()
    }

    pub(super) fn is_empty(&self, slot: usize) -> bool {
        self.rota.lock().members(slot).is_empty()
    }

    /// Adds the places of the contacts of a slot.
    pub(super) fn members(&self, slot: usize, into: &mut Vec<Place>) {
        into.extend_from_slice(self.rota.lock().members(slot));
    }

    /// A place where no contact of this slot is.
    pub(super) fn forget(&self, slot: usize, place: Place) {
        self.rota.lock().leave(slot, &place);
    }

    /// How many of those who took their turn had better be elsewhere.
    pub(super) fn surplus(&self, slot: usize, served: usize) -> usize {
        self.rota.lock().took_turn(slot, u32::try_from(served).unwrap_or(u32::MAX)) as usize
    }

    /// Moves a contact that has had its turn to where there is more room.
    pub(super) fn shift(&self, slot: usize, place: Place, local: &mut Local) {
        if local.turn() == Some(slot)
            && let Some(to) = self.rota.lock().shift(slot, &place)
        {
            local.set_turn(Some(to));
        }
    }
}
