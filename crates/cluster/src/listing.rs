//! What differs, by name: for the operator who wants to see it before it is repaired.

use crate::cluster::{Cluster, Ctx};
use crate::effects::{BUCKETS, CapId, Effect, RequestId};
use crate::peer::Kind;
use crate::questions::Question;
use crate::wire::{Fields, Tandem, field, number, to_u64};
use bytes::{Buf, Bytes};
use std::collections::BTreeMap;
use tandem_bin::{Malformed, NodeId, Writer};

/// A record by its name, with the digest of what it says.
pub type Entry = (Bytes, u64);

/// How the records of a peer differ from ours, in the buckets that differed when they were
/// compared last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing_here: Vec<Bytes>,
    pub missing_there: Vec<Bytes>,
    /// On both nodes, with another content.
    pub unequal: Vec<Bytes>,
    /// There are more records than are listed.
    pub cut_short: bool,
}

/// Which records a node has in some buckets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    pub(crate) capability: Bytes,
    pub(crate) buckets: Vec<u8>,
    pub(crate) entries: Vec<(Bytes, u64)>,
    pub(crate) cut_short: bool,
}

impl Listing {
    pub(crate) fn write(&self, w: &mut Writer) {
        field(w, 1, &self.capability);
        field(w, 2, &self.buckets);
        for (name, digest) in &self.entries {
            let mut value = digest.to_le_bytes().to_vec();
            value.extend_from_slice(name);
            field(w, 3, &value);
        }
        number(w, 4, self.cut_short.into());
    }

    pub(crate) fn read(fields: Fields) -> Result<Self, Malformed> {
        let mut listing = Self::default();
        for item in fields {
            match item? {
                (1, v) => listing.capability = v,
                (2, v) => listing.buckets = v.iter().copied().take(BUCKETS).collect(),
                (3, mut v) => {
                    let digest = v.try_get_u64_le().map_err(|_| Malformed::Short("entry"))?;
                    listing.entries.push((v, digest));
                }
                (4, v) => listing.cut_short = to_u64(v)? != 0,
                _ => {}
            }
        }
        Ok(listing)
    }
}

impl Cluster {
    /// Asks a Tandem peer what it has in the buckets that differ. False: none does, or the peer
    /// cannot be asked.
    pub(crate) fn ask_listing(&mut self, ctx: &mut Ctx<'_>, peer: NodeId, cap: CapId) -> bool {
        let Some(name) = self.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone()) else {
            return false;
        };
        let Some(p) = self.peers.get(&peer).filter(|p| p.kind == Kind::Tandem && p.reachable)
        else {
            return false;
        };
        let buckets = p.compared.get(&cap).map(|c| c.differing.clone()).unwrap_or_default();
        if buckets.is_empty() {
            return false;
        }
        self.send_tandem(
            ctx,
            peer,
            &Tandem::ListingWanted(Listing { capability: name, buckets, ..Listing::default() }),
        )
    }

    /// A peer asks what we have.
    pub(crate) fn on_listing_wanted(&mut self, ctx: &mut Ctx<'_>, from: NodeId, wanted: Listing) {
        let Some(cap) = self.cap_index(&wanted.capability).and_then(|i| self.caps.get(i)) else {
            return;
        };
        let (cluster, cap, buckets) = (self.id, cap.id, wanted.buckets.clone());
        let question = Question::SendListing { to: from, buckets: wanted.buckets };
        let request = ctx.node.questions.ask(cluster, cap, question);
        ctx.out.push(Effect::ListingWanted { request, cluster, cap, buckets });
    }

    /// A peer says what it has: compare it with ours.
    pub(crate) fn on_listing(&mut self, ctx: &mut Ctx<'_>, from: NodeId, theirs: Listing) {
        let Some(cap) = self.cap_index(&theirs.capability).and_then(|i| self.caps.get(i)) else {
            return;
        };
        let (cluster, cap, buckets) = (self.id, cap.id, theirs.buckets.clone());
        let question = Question::CompareListing { from, theirs: Box::new(theirs) };
        let request = ctx.node.questions.ask(cluster, cap, question);
        ctx.out.push(Effect::ListingWanted { request, cluster, cap, buckets });
    }

    pub(crate) fn listing_ready(
        &mut self,
        ctx: &mut Ctx<'_>,
        cap: CapId,
        question: Question,
        entries: Vec<Entry>,
    ) {
        match question {
            Question::SendListing { to, buckets } => {
                let Some(name) = self.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone())
                else {
                    return;
                };
                let listing = fitting(name, buckets, entries);
                self.send_tandem(ctx, to, &Tandem::Listing(listing));
            }
            Question::CompareListing { from, theirs } => {
                let difference = compare(entries, &theirs);
                let cluster = self.id;
                ctx.out.push(Effect::Differs { cluster, peer: from, cap, difference });
            }
            _ => {}
        }
    }
}

/// As much as one packet takes: a person reads it.
fn fitting(capability: Bytes, buckets: Vec<u8>, entries: Vec<Entry>) -> Listing {
    let mut listing = Listing { capability, buckets, ..Listing::default() };
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.0.len() + ENTRY_OVERHEAD_BYTES;
        if bytes > LISTING_BYTES_MAX {
            listing.cut_short = true;
            break;
        }
        listing.entries.push(entry);
    }
    listing
}

fn compare(ours: Vec<Entry>, theirs: &Listing) -> Difference {
    let mut left: BTreeMap<&Bytes, u64> = theirs.entries.iter().map(|(n, d)| (n, *d)).collect();
    let mut found = Difference { cut_short: theirs.cut_short, ..Difference::default() };
    for (name, digest) in ours {
        match left.remove(&name) {
            Some(other) if other == digest => {}
            Some(_) => found.unequal.push(name),
            // What did not fit may be there.
            None if theirs.cut_short => {}
            None => found.missing_there.push(name),
        }
    }
    found.missing_here = left.into_keys().cloned().collect();
    found
}

const LISTING_BYTES_MAX: usize = 48 << 10;
const ENTRY_OVERHEAD_BYTES: usize = 32;

impl crate::Clusterer {
    /// Asks every Tandem peer what it has in the buckets that differ from ours; an
    /// [`Effect::Differs`] follows for each of these.
    pub fn ask_differences(
        &mut self,
        now: tandem_clock::Now,
        out: &mut crate::Effects,
    ) -> Vec<(tandem_bin::ClusterId, NodeId, CapId)> {
        let mut asked = Vec::new();
        self.each(now, out, |c, ctx| {
            let caps: Vec<_> = c.caps.iter().map(|cap| cap.id).collect();
            for peer in c.reachable(Kind::Tandem) {
                for &cap in &caps {
                    if c.ask_listing(ctx, peer, cap) {
                        asked.push((c.id, peer, cap));
                    }
                }
            }
        });
        asked
    }

    /// The answer to [`Effect::ListingWanted`].
    pub fn listing_ready(
        &mut self,
        now: tandem_clock::Now,
        request: RequestId,
        entries: Vec<Entry>,
        out: &mut crate::Effects,
    ) {
        let Some((cluster, cap, question)) = self.shared.questions.answer(request) else { return };
        self.within(now, out, cluster, |c, ctx| c.listing_ready(ctx, cap, question, entries));
    }
}
