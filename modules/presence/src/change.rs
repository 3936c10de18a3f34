//! What can happen to what is known of a presentity.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Publication, Sent, Stamp, SubId, Subscription, Text};

/// Where a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client, an operator or the time, here.
    Local,
    /// A Tandem node.
    Tandem,
    /// A stock node.
    Stock,
    Database,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A publication is made or changed; the one with its id is replaced.
    Publish(Box<Publication>),
    /// One is removed; with what is said at its end, if anything.
    Unpublish { id: Text, body: Bytes },
    /// A subscription is made, or something of it has changed that is not a NOTIFY.
    Subscribe(Box<Subscription>),
    /// A NOTIFY leaves from here, if it is owed.
    Tell(Tell),
    /// It did not leave, and is owed still.
    Unsent { id: Arc<SubId>, cseq: u32, is_final: bool },
    /// Its number was below one that another node has used: it is owed still, with a greater one.
    Outrun { id: Arc<SubId>, cseq: u32 },
    /// It was answered.
    Confirm { id: Arc<SubId>, cseq: u32, mark: u64, asks: u32 },
    /// Another node has sent one.
    Told { id: Arc<SubId>, sent: Sent },
    /// A subscription is over and told so.
    Forget { id: Arc<SubId> },
    /// Publications that are over are dropped, on each node in its own time.
    Expire,
    /// A node remembers that something is gone.
    Bury { name: Name, stamp: Stamp, until_s: u32, body: Bytes },
}

/// A NOTIFY that may be owed.
#[derive(Clone, Debug)]
pub(crate) struct Tell {
    pub id: Arc<SubId>,
    /// The mark of what is said.
    pub mark: u64,
    /// This node.
    pub node: u32,
    /// Nobody takes over: what is sent counts as told.
    pub is_final: bool,
    /// The watcher said it himself, or sees nothing of it: only the books are changed.
    pub is_silent: bool,
}

/// What a record is called within its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    Publication(Text),
    Subscription(Arc<SubId>),
}

/// Why something was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are too many, of this presentity or at all.
    Full,
    /// There is none of this name, or something newer is known.
    Stale,
}

/// What a change came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Watchers are to be told another state.
    pub state: bool,
    /// There are other watchers, or in other states.
    pub watchers: bool,
    /// A subscription of which something is another that is not only what was sent.
    pub subscription: Option<Arc<SubId>>,
    /// A subscription of which anything is another.
    pub touched: Option<Arc<SubId>>,
    /// The publication as it is now, and the ETag it had before.
    pub published: Option<(Publication, Text)>,
    /// Publications that are gone.
    pub ended: Vec<Publication>,
    /// The ETag of one that a newer one has pushed out.
    pub pushed_out: Option<Text>,
    /// A subscription that is gone.
    pub forgotten: Option<Box<Subscription>>,
    /// The subscription as it is told.
    pub told: Option<Box<Subscription>>,
    /// The sphere has changed.
    pub sphere: bool,
}
