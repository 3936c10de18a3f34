//! What a dialog keeps for its lamps: plain data that goes with it to other nodes.
//!
//! The caller, the callee and the sides stand in values as nodes of the field write them
//! (`__blf_param_1` to `_5`); what branches add stands in the section of this module. Version 1
//! of it: version, 1 + the branch that answered (0: none), the number of branches; for each the
//! branch, the sides that are mute, callee and display name with their lengths (2 bytes, little
//! endian).

use bytes::Bytes;
use tandem_dialog::record::Val;
use tandem_dialog::{Change, Dialog};
use tandem_sip::NameAddr;

/// A text of a plan.
pub(crate) type Text = Box<[u8]>;

/// Name of the section.
pub(crate) const SECTION: &str = "pua_dialoginfo";
/// The values, in their order: caller, its name, callee, its name, sides.
const VALUES: [&[u8]; 5] =
    [b"__blf_param_1", b"__blf_param_2", b"__blf_param_3", b"__blf_param_4", b"__blf_param_5"];
/// The bit of the caller.
pub(crate) const CALLER: u8 = 1;
/// The bit of the callee.
pub(crate) const CALLEE: u8 = 2;
/// Branches that are kept.
const BRANCHES_MAX: usize = 16;
/// Bytes of a name, at most.
const TEXT_BYTES_MAX: usize = 1024;
const VERSION: u8 = 1;

/// Somebody who takes part in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Party {
    pub(crate) uri: Text,
    /// Without quotes; empty: none.
    pub(crate) display: Text,
}

impl Party {
    /// Reads `"Name" <uri>`, or a URI alone; parameters are left out. `None`: it is neither.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let addr = NameAddr::parse(text).ok()?;
        let display = addr.display_text();
        Self::new(addr.uri, &display)
    }

    pub(crate) fn new(uri: &[u8], display: &[u8]) -> Option<Self> {
        let parsed = tandem_sip::Uri::parse(uri).ok()?;
        if !parsed.is_sip() || uri.len() > TEXT_BYTES_MAX || display.len() > TEXT_BYTES_MAX {
            return None;
        }
        let end = uri.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(uri.len());
        let uri = uri.get(..end)?;
        Some(Self { uri: uri.into(), display: display.into() })
    }
}

/// What a branch adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) number: u8,
    /// Sides that are not told of it.
    pub(crate) mute: u8,
    /// Who is called on it, if it is somebody else.
    pub(crate) callee: Option<Party>,
}

/// The plan of a dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) caller: Party,
    pub(crate) callee: Party,
    /// [`CALLER`] and [`CALLEE`].
    pub(crate) sides: u8,
    pub(crate) answered: Option<u8>,
    pub(crate) branches: Vec<Branch>,
}

impl Plan {
    /// The plan of a dialog. `None`: it has none.
    pub(crate) fn of(dialog: &Dialog) -> Option<Self> {
        let value = |n: usize| match dialog.value(VALUES.get(n)?)? {
            Val::Str(text) => Some(text.clone()),
            Val::Int(_) => None,
        };
        let party =
            |n: usize| Some(Party { uri: value(n)?, display: value(n + 1).unwrap_or_default() });
        let sides = value(4).and_then(|sides| sides.first().copied())?;
        let mut plan = Self {
            caller: party(0)?,
            callee: party(2)?,
            sides: sides & (CALLER | CALLEE),
            ..Self::default()
        };
        if let Some(bytes) = dialog.section(SECTION) {
            (plan.answered, plan.branches) = decode(bytes)?;
        }
        Some(plan)
    }

    /// Whether a dialog has one.
    pub(crate) fn is_in(dialog: &Dialog) -> bool {
        dialog.value(VALUES[4]).is_some()
    }

    /// What makes it the plan of a dialog.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let text = |text: &[u8]| (!text.is_empty()).then(|| Val::Str(text.into()));
        let values = [
            text(&self.caller.uri),
            text(&self.caller.display),
            text(&self.callee.uri),
            text(&self.callee.display),
            text(&[self.sides]),
        ];
        let named = VALUES.iter().zip(values);
        let given = named.filter_map(|(name, value)| Some((*name, Some(value?))));
        let change = |(name, value): (&[u8], _)| Change::Value { name: name.into(), value };
        given.map(change).chain([self.section()]).collect()
    }

    /// What branches have added.
    pub(crate) fn section(&self) -> Change {
        let module = SECTION.as_bytes().into();
        Change::Section { module, bytes: encode(self.answered, &self.branches) }
    }

    pub(crate) fn branch(&self, number: u8) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.number == number)
    }

    /// `None`: there are too many branches.
    pub(crate) fn branch_mut(&mut self, number: u8) -> Option<&mut Branch> {
        let at = self.branches.iter().position(|branch| branch.number == number);
        let at = match at {
            Some(at) => at,
            None if self.branches.len() < BRANCHES_MAX => {
                self.branches.push(Branch { number, ..Branch::default() });
                self.branches.len() - 1
            }
            None => return None,
        };
        self.branches.get_mut(at)
    }

    /// Who is called on a branch, and the number in the name of the publication.
    pub(crate) fn called_on(&self, branch: Option<u8>) -> (&Party, u8) {
        let own = branch.and_then(|n| self.branch(n));
        match own.and_then(|b| Some((b.callee.as_ref()?, b.number))) {
            Some(own) => own,
            None => (&self.callee, 0),
        }
    }

    /// The sides that are told of a branch.
    pub(crate) fn told_of(&self, branch: Option<u8>) -> u8 {
        let mute = branch.and_then(|n| self.branch(n)).map_or(0, |b| b.mute);
        self.sides & !mute
    }
}

fn encode(answered: Option<u8>, branches: &[Branch]) -> Bytes {
    let mut out = vec![VERSION, answered.map_or(0, |n| n.saturating_add(1))];
    out.push(branches.len().min(BRANCHES_MAX) as u8);
    for branch in branches.iter().take(BRANCHES_MAX) {
        let none = Party::default();
        let callee = branch.callee.as_ref().unwrap_or(&none);
        out.extend_from_slice(&[branch.number, branch.mute]);
        for text in [&callee.uri, &callee.display] {
            let len = u16::try_from(text.len()).unwrap_or(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(text.get(..usize::from(len)).unwrap_or_default());
        }
    }
    out.into()
}

fn decode(bytes: &[u8]) -> Option<(Option<u8>, Vec<Branch>)> {
    let (head, mut rest) = bytes.split_first_chunk::<3>()?;
    let [version, answered, count] = *head;
    if version != VERSION || usize::from(count) > BRANCHES_MAX {
        return None;
    }
    let mut branches = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (head, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        let mut text = || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            rest = after;
            Some(Text::from(text))
        };
        let callee = Party { uri: text()?, display: text()? };
        let callee = (!callee.uri.is_empty()).then_some(callee);
        branches.push(Branch { number: head[0], mute: head[1], callee });
    }
    rest.is_empty().then_some((answered.checked_sub(1), branches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parties_are_read_without_parameters() {
        let party = Party::parse(b"\"Al \\\"B\\\"\" <sip:al@x;transport=tcp>;tag=1").unwrap();
        assert_eq!(&*party.uri, b"sip:al@x");
        assert_eq!(&*Party::parse(b"sip:al@x").unwrap().uri, b"sip:al@x");
        assert!(Party::parse(b"nobody").is_none() && Party::parse(b"<tel:1>").is_none());
    }

    proptest! {
        #[test]
        fn what_branches_add_is_read_back(
            answered in prop::option::of(0u8..16),
            branches in proptest::collection::vec(
                (any::<u8>(), 0u8..4, prop::option::of("[a-z:@]{1,9}"), "[a-z]{0,9}"), 0..5)
        ) {
            let branches: Vec<Branch> = branches.into_iter().map(|(number, mute, uri, display)| {
                let callee = uri.map(|uri| Party {
                    uri: uri.into_bytes().into(), display: display.into_bytes().into(),
                });
                Branch { number, mute, callee }
            }).collect();
            let bytes = encode(answered, &branches);
            prop_assert_eq!(decode(&bytes).unwrap(), (answered, branches));
            prop_assert!(decode(&bytes[..bytes.len() - 1]).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (decode(&bytes), Party::parse(&bytes));
        }
    }
}
