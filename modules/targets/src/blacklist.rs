//! Blacklists of groups of targets.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_engine::blacklist::{List, Net, Rule};
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::sockets::Proto;

/// How long addresses gather before the lists are filled again.
const GATHER_MS: u64 = 50;

/// Whether lists are to be filled again soon, because addresses have become known: once for many.
#[derive(Debug, Default)]
pub struct Refill(AtomicBool);

impl Refill {
    /// They are, when the timer `kind` fires.
    pub fn soon(&self, cx: &mut Cx<'_>, kind: u32) {
        if !self.0.swap(true, Ordering::Relaxed) {
            cx.set_timer(cx.now.after_ms(GATHER_MS), Timer { kind, id: 0 });
        }
    }

    /// It has fired: what becomes known from now on counts for the next time.
    pub fn begins(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A blacklist as a parameter defines it: `name= group,group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blacklist {
    pub name: String,
    pub groups: Vec<i64>,
}

/// Where a target is.
#[derive(Clone, Debug)]
pub struct Place {
    pub ips: Vec<IpAddr>,
    /// `None`: any.
    pub proto: Option<Proto>,
    /// 0: any.
    pub port: u16,
}

impl Blacklist {
    /// Reads the text of a parameter.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, groups) = text.split_once('=').ok_or("it is written \"name= group,group\"")?;
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err("the blacklist has no name".into());
        }
        let items = groups.split([',', ';']).map(str::trim).filter(|item| !item.is_empty());
        let group = |item: &str| item.parse().map_err(|_| format!("`{item}` is no group"));
        Ok(Self { name, groups: items.map(group).collect::<Result<_, _>>()? })
    }

    /// For the table of parameters.
    ///
    /// # Errors
    /// As [`Blacklist::parse`].
    pub fn check(text: &str) -> Result<(), String> {
        Self::parse(text).map(|_| ())
    }

    /// A list of a module without places.
    pub fn empty(name: &str, owner: &'static str) -> List {
        List { name: name.to_owned(), owner, read_only: true, ..List::default() }
    }

    /// Makes the list what these places are; `owner` is the module.
    pub fn fill(
        &self,
        cx: &mut Cx<'_>,
        owner: &'static str,
        places: impl IntoIterator<Item = Place>,
    ) {
        let mut list = Self::empty(&self.name, owner);
        for Place { ips, proto, port } in places {
            list.rules.extend(ips.into_iter().map(|ip| Rule {
                negated: false,
                proto,
                net: Net { ip, bits: if ip.is_ipv4() { 32 } else { 128 } },
                port,
                pattern: String::new(),
                until: None,
            }));
        }
        if let Err(why) = cx.node.blacklists.set(list) {
            cx.log(Level::Error, format!("{owner}: blacklist {}: {why}", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blacklist_has_a_name_and_groups() {
        let wanted = Blacklist { name: "bad".into(), groups: vec![1, 7] };
        assert_eq!(Blacklist::parse(" bad= 1, 7"), Ok(wanted));
        for wrong in ["bad", "= 1", "bad= x"] {
            assert!(Blacklist::check(wrong).is_err(), "{wrong}");
        }
    }
}
