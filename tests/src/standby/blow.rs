//! What happens to the machine that serves.

use rustix::process::Signal;

use super::{PHONES, PRIORITIES, Standby};
use crate::{ELECTION, SERVICE, wait_until};

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// It dies, and comes back with its disk.
    Death,
    /// It is off the network while it lives on, and comes back with what it believed.
    Unplugged,
    /// Its node is restarted by its operator.
    Restart,
    /// Its node is killed and started again at once, as systemd does.
    Killed,
    /// The two machines do not see each other, and both serve.
    Split,
}

impl Standby {
    /// Deals the blow to the machine that serves, and waits until somebody serves again.
    ///
    /// # Panics
    /// If nobody does.
    pub fn hit(&mut self, blow: Blow) {
        self.strike(blow);
        let (lan, hit) = (&self.lan, self.hit);
        let (same, other) = (&self.machines[hit], &self.machines[1 - hit]);
        if matches!(blow, Blow::Restart | Blow::Killed) {
            wait_until("the machine serves again", ELECTION, || same.serves(lan));
        } else {
            wait_until("the other machine serves", ELECTION, || other.serves(lan));
        }
    }

    /// Whether the machine that was not hit serves.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        self.machines[1 - self.hit].serves(&self.lan)
    }

    /// Deals the blow, and waits for nothing.
    ///
    /// # Panics
    /// If nobody serves.
    pub fn strike(&mut self, blow: Blow) {
        let serving = self.serving();
        self.hit = serving.unwrap_or_else(|| panic!("nobody serves"));
        let (lan, site, machine) = (&self.lan, &self.site, &mut self.machines[self.hit]);
        match blow {
            Blow::Death => machine.die(lan),
            Blow::Unplugged => lan.unplug(machine.host),
            Blow::Restart => machine.restart(site, lan, Signal::TERM),
            Blow::Killed => machine.restart(site, lan, Signal::KILL),
            Blow::Split => lan.cut_between(&[1, 2], true),
        }
    }

    /// In a split: each host of phones talks to a machine of its own.
    pub fn divide_phones(&self) {
        let mac = |place: usize| self.lan.mac(self.machines[place].host);
        for (phones, place) in PHONES.into_iter().zip([self.hit, 1 - self.hit]) {
            self.lan.pin(phones, SERVICE, Some(&mac(place)));
        }
    }

    /// Brings back what is away, and waits until one serves and the other stands by.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn mend(&mut self, blow: Blow) {
        let (lan, site, hit) = (&self.lan, &self.site, self.hit);
        match blow {
            Blow::Death => self.machines[hit].boot(site, lan, PRIORITIES[hit]),
            Blow::Unplugged => lan.plug(self.machines[hit].host),
            Blow::Split => {
                lan.cut_between(&[1, 2], false);
                PHONES.iter().for_each(|phones| lan.pin(*phones, SERVICE, None));
            }
            Blow::Restart | Blow::Killed => {}
        }
        wait_until("one serves and the other stands by", ELECTION, || self.is_whole());
    }
}
