//! What happens to the machine that serves.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{PHONES, PRIORITIES, Standby};
use crate::{ELECTION, Machine, SERVICE, mi, now, wait_for, wait_until};

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
    /// The tag goes to the other node and back every second, the address stays.
    Flap,
    /// Both nodes are told to be active at once, again and again.
    Race,
    /// The address goes to the other machine and back every second, and the tag with it.
    Swing,
    /// The operator ends its keepalived: address and tag go to the other machine, both nodes live.
    Switch,
}

impl Blow {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Death,
        Self::Unplugged,
        Self::Restart,
        Self::Killed,
        Self::Split,
        Self::Flap,
        Self::Race,
        Self::Swing,
        Self::Switch,
    ];

    /// Whether the machine that is hit serves all by itself when it is over.
    fn is_passing(self) -> bool {
        matches!(self, Self::Restart | Self::Killed | Self::Flap | Self::Race)
    }
}

/// How often the tag moves in one blow.
const MOVES: usize = 11;
/// Between two of them.
const APART: Duration = Duration::from_secs(1);

impl Standby {
    /// Deals the blow to the machine that serves, and waits until somebody serves again.
    ///
    /// # Panics
    /// If nobody does.
    pub fn hit(&mut self, blow: Blow) {
        self.strike(blow);
        let (lan, hit) = (&self.lan, self.hit);
        let (same, other) = (&self.machines[hit], &self.machines[1 - hit]);
        if blow.is_passing() {
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
        // A keepalived that starts takes away an address which it finds, and gives it back.
        self.hit = wait_for("somebody serves", ELECTION, || self.serving());
        let (lan, site, machine) = (&self.lan, &self.site, &mut self.machines[self.hit]);
        match blow {
            Blow::Death => machine.die(lan),
            Blow::Unplugged => lan.unplug(machine.host),
            Blow::Restart => machine.restart(site, lan, Signal::TERM),
            Blow::Killed => machine.restart(site, lan, Signal::KILL),
            Blow::Split => lan.cut_between(&[1, 2], true),
            Blow::Flap | Blow::Race => self.move_tag(blow == Blow::Race),
            Blow::Swing => {
                self.machines.iter_mut().for_each(Machine::kill_keepalived);
                self.swing();
            }
            Blow::Switch => machine.end_keepalived(),
        }
    }

    /// Moves the tag to and fro, or to both at once; the machine that serves has it at the end.
    fn move_tag(&self, race: bool) {
        let places = [1 - self.hit, self.hit];
        for n in 0..MOVES {
            let begun = now();
            if race {
                std::thread::scope(|scope| {
                    let _ = places.map(|p| scope.spawn(move || activate(&self.machines[p])));
                });
            } else {
                activate(&self.machines[places[n % 2]]);
            }
            wait_until("a second is over", ELECTION, || now() - begun >= APART);
        }
        activate(&self.machines[self.hit]);
    }

    /// Moves the address to and fro, as two machines do whose network comes and goes.
    fn swing(&self) {
        let address = format!("{SERVICE}/24");
        let places = [1 - self.hit, self.hit];
        for n in 0..MOVES {
            let begun = now();
            let [to, from] = [n % 2, 1 - n % 2].map(|n| &self.machines[places[n]]);
            let change = |host: u8, word| {
                let _ = self.lan.run(host, &["ip", "addr", word, &address, "dev", "eth0"]);
            };
            change(from.host, "del");
            change(to.host, "add");
            let mac = self.lan.mac(to.host);
            PHONES.iter().for_each(|phones| self.lan.pin(*phones, SERVICE, Some(&mac)));
            activate(to);
            wait_until("a second is over", ELECTION, || now() - begun >= APART);
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
            Blow::Swing => {
                for (machine, priority) in self.machines.iter_mut().zip(PRIORITIES) {
                    machine.restart_keepalived(site, lan, priority);
                }
                PHONES.iter().for_each(|phones| lan.pin(*phones, SERVICE, None));
            }
            Blow::Switch => self.machines[hit].restart_keepalived(site, lan, PRIORITIES[hit]),
            Blow::Restart | Blow::Killed | Blow::Flap | Blow::Race => {}
        }
        wait_until("one serves and the other stands by", ELECTION, || self.is_whole());
    }
}

/// What the hook of keepalived does, whatever comes of it.
fn activate(machine: &Machine) {
    let _ = mi(&machine.fifo, "clusterer_shtag_set_active", json!(["service/1"]));
}
