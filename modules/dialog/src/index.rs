//! What is found by other things than the name of a dialog: the sizes of these indexes are the
//! counts that scripts, statistics and operators see.

use std::collections::{BTreeSet, HashMap};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::record::{Dialog, Marker, Membership, State, Text};
use crate::replication::takeover::owner_key;

/// A profile that the configuration defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Without the marker.
    pub name: String,
    pub has_value: bool,
    pub marker: Marker,
}

impl Profile {
    /// As scripts and commands name it: the marker is a part of the name.
    pub fn full_name(&self) -> String {
        format!("{}{}", self.name, self.marker.suffix())
    }
}

/// How the names of profiles begin that modules keep for themselves. Nobody has to define them.
pub const KEPT_PREFIX: &str = "dlgX_";

/// Members of one value, by their sharing tag (empty: none).
type Members = HashMap<Text, BTreeSet<u64>, RandomState>;

/// Members of a profile that a module keeps, by value.
type Values = HashMap<Text, BTreeSet<u64>, RandomState>;

/// Who is in which profile.
#[derive(Debug)]
pub struct Profiles {
    defs: Vec<Profile>,
    /// In the order of `defs`: members by value.
    members: Vec<Mutex<HashMap<Text, Members, RandomState>>>,
    /// Members of the profiles of modules by name and value.
    kept: Mutex<HashMap<Text, Values, RandomState>>,
    hash: RandomState,
}

impl Profiles {
    pub(crate) fn new(defs: Vec<Profile>, hash: RandomState) -> Self {
        let one = |_: &Profile| Mutex::new(HashMap::with_hasher(hash.clone()));
        let members = defs.iter().map(one).collect();
        let kept = Mutex::new(HashMap::with_hasher(hash.clone()));
        Self { defs, members, kept, hash }
    }

    pub fn defs(&self) -> &[Profile] {
        &self.defs
    }

    /// The profile with a full name.
    pub fn named(&self, full: &[u8]) -> Option<usize> {
        let (name, marker) = match full {
            [name @ .., b'/', b'b'] => (name, Marker::Bin),
            [name @ .., b'/', b's'] => (name, Marker::Cache),
            name => (name, Marker::Local),
        };
        self.defs.iter().position(|p| p.name.as_bytes() == name && p.marker == marker)
    }

    /// Members with a value (`None`: with any) whose tag `counts`. A dialog that is there with
    /// several values counts for each.
    pub fn size(&self, at: usize, value: Option<&[u8]>, counts: &dyn Fn(&[u8]) -> bool) -> usize {
        let Some(members) = self.members.get(at) else { return 0 };
        let members = members.lock();
        let of = |by_tag: &Members| -> usize {
            by_tag.iter().filter(|(tag, _)| counts(tag)).map(|(_, set)| set.len()).sum()
        };
        match value {
            Some(value) => members.get(value).map_or(0, of),
            None => members.values().map(of).sum(),
        }
    }

    /// Every value with its count, in order.
    pub fn values(&self, at: usize, counts: &dyn Fn(&[u8]) -> bool) -> Vec<(Text, usize)> {
        let Some(members) = self.members.get(at) else { return Vec::new() };
        let members = members.lock();
        let of = |(value, by_tag): (&Text, &Members)| {
            let sizes = by_tag.iter().filter(|(tag, _)| counts(tag)).map(|(_, set)| set.len());
            (value.clone(), sizes.sum())
        };
        let mut all: Vec<(Text, usize)> = members.iter().map(of).collect();
        drop(members);
        all.sort_unstable();
        all
    }

    /// The numbers of the dialogs with a value (`None`: with any), in order.
    pub fn members(&self, at: usize, value: Option<&[u8]>) -> Vec<u64> {
        let Some(members) = self.members.get(at) else { return Vec::new() };
        let members = members.lock();
        let wanted = members.iter().filter(|(v, _)| value.is_none_or(|value| ***v == *value));
        let sets = wanted.flat_map(|(_, by_tag)| by_tag.values());
        let all: BTreeSet<u64> = sets.flatten().copied().collect();
        all.into_iter().collect()
    }

    /// Members with a value of a profile that a module keeps; its name begins with
    /// [`KEPT_PREFIX`].
    pub fn kept_size(&self, name: &[u8], value: &[u8]) -> usize {
        let kept = self.kept.lock();
        kept.get(name).and_then(|values| values.get(value)).map_or(0, BTreeSet::len)
    }

    fn file_kept(&self, number: u64, membership: &Membership, is_in: bool) {
        let mut kept = self.kept.lock();
        let new = || HashMap::with_hasher(self.hash.clone());
        let values = kept.entry(membership.name.clone()).or_insert_with(new);
        let members = values.entry(membership.value.clone()).or_default();
        if is_in {
            members.insert(number);
            return;
        }
        members.remove(&number);
        if members.is_empty() {
            values.remove(&membership.value);
        }
        if values.is_empty() {
            kept.remove(&membership.name);
        }
    }

    /// Takes what a dialog is in into the index, or out of it.
    fn file(&self, number: u64, facts: &Facts, is_in: bool) {
        for membership in &facts.profiles {
            if membership.name.starts_with(KEPT_PREFIX.as_bytes()) {
                self.file_kept(number, membership, is_in);
                continue;
            }
            let at = self.defs.iter().position(|p| {
                p.name.as_bytes() == &*membership.name && p.marker == membership.marker
            });
            let Some(members) = at.and_then(|at| self.members.get(at)) else { continue };
            let mut members = members.lock();
            let new = || HashMap::with_hasher(self.hash.clone());
            let by_tag = members.entry(membership.value.clone()).or_insert_with(new);
            let set = by_tag.entry(facts.tag.clone()).or_default();
            if is_in {
                set.insert(number);
                continue;
            }
            set.remove(&number);
            if set.is_empty() {
                by_tag.remove(&facts.tag);
            }
            if by_tag.is_empty() {
                members.remove(&membership.value);
            }
        }
    }
}

/// What a dialog is indexed by. It is a function of the record, so an index cannot drift.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) state: State,
    profiles: Vec<Membership>,
    tag: Text,
}

impl Facts {
    pub(crate) fn of(d: &Dialog) -> Self {
        let profiles = if d.state.is_alive() { d.profiles.clone() } else { Vec::new() };
        let tag = if profiles.is_empty() { Text::default() } else { owner_key(d) };
        Self { state: d.state, profiles, tag }
    }

    /// Moves a dialog from what it was indexed by to what it is indexed by now.
    pub(crate) fn refile(before: &Self, after: &Self, number: u64, profiles: &Profiles) {
        if before.profiles != after.profiles || before.tag != after.tag {
            profiles.file(number, before, false);
            profiles.file(number, after, true);
        }
    }

    /// What a change means to profiles that are counted in a key-value store.
    pub(crate) fn shared_moves(before: &Self, after: &Self) -> Vec<(Membership, i32)> {
        if before.profiles == after.profiles {
            return Vec::new();
        }
        let of = |from: &Self, without: &Self, by: i32| -> Vec<(Membership, i32)> {
            let shared = from.profiles.iter().filter(|p| p.marker == Marker::Cache);
            let moved = shared.filter(|p| !without.profiles.contains(p));
            moved.map(|p| (p.clone(), by)).collect()
        };
        [of(before, after, -1), of(after, before, 1)].concat()
    }

    pub(crate) fn enter(&self, number: u64, profiles: &Profiles) {
        profiles.file(number, self, true);
    }

    pub(crate) fn leave(&self, number: u64, profiles: &Profiles) {
        profiles.file(number, self, false);
    }
}
