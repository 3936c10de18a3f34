//! The execution context: everything that one script run knows about its message.
//!
//! A context owns its data and moves whole when a run suspends, so that any worker can resume it.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_script::sig::Routes;
use tandem_script::value::Value;
use tandem_sip::{Edits, Message, Span};

use crate::attached::Attached;
use crate::avp::Avps;
use crate::blacklist::Choice;
use crate::sockets::SocketId;
use crate::stream::Proxied;

/// Message branches beside the Request-URI (the field's MAX_BRANCHES).
pub const BRANCHES_MAX: usize = 12;

/// Attributes of one branch.
const ATTRS_MAX: usize = 64;

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub addr: SocketAddr,
    pub socket: SocketId,
    /// The address it was sent to, so that an answer leaves from there.
    pub local_ip: IpAddr,
}

/// A target of the request: the Request-URI branch, or one of the additional branches.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    /// `None`: the Request-URI as received.
    pub uri: Option<Bytes>,
    /// `$du`: where to send instead of to the URI.
    pub dst_uri: Option<Bytes>,
    /// q x 1000; `None`: not given.
    pub q: Option<u16>,
    pub socket: Option<SocketId>,
    /// Branch flags.
    pub flags: u32,
    /// What few branches have; kept with the transaction, so it takes no room where there is none.
    pub seldom: Option<Box<Seldom>>,
}

/// See [`Branch::path`] and [`Branch::attrs`].
#[derive(Clone, Debug, Default)]
pub struct Seldom {
    pub path: Bytes,
    pub attrs: Vec<(Bytes, Value)>,
}

impl Branch {
    /// Route set to put on top (the contact's Path), as a header value.
    pub fn path(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.seldom.as_ref().map_or(&NONE, |seldom| &seldom.path)
    }

    pub fn set_path(&mut self, path: Bytes) {
        if !path.is_empty() || self.seldom.is_some() {
            self.seldom.get_or_insert_default().path = path;
        }
    }

    #[must_use]
    pub fn with_path(mut self, path: Bytes) -> Self {
        self.set_path(path);
        self
    }

    /// What a script keeps with the branch: `$msg.branch.attr(name)`.
    pub fn attrs(&self) -> &[(Bytes, Value)] {
        self.seldom.as_ref().map(|seldom| seldom.attrs.as_slice()).unwrap_or_default()
    }

    pub fn attr(&self, name: &[u8]) -> Option<&Value> {
        self.attrs().iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Sets a value of the script's own; null removes it.
    ///
    /// # Errors
    /// When there are too many.
    pub fn set_attr(&mut self, name: Bytes, value: Value) -> Result<(), String> {
        if value.is_null() && self.seldom.is_none() {
            return Ok(());
        }
        let attrs = &mut self.seldom.get_or_insert_default().attrs;
        attrs.retain(|(n, _)| *n != name);
        if value.is_null() {
            return Ok(());
        }
        if attrs.len() >= ATTRS_MAX {
            return Err(format!("more than {ATTRS_MAX} attributes of one branch"));
        }
        attrs.push((name, value));
        Ok(())
    }
}

/// What `record_route()` asks for. The header is written when the request leaves, because only
/// then it is known from which socket it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordRoute {
    /// Off while parameters are collected for a header that nobody has asked for yet.
    pub wanted: bool,
    /// User part of the URI; empty: none.
    pub user: Bytes,
    /// Parameters of the URI behind `lr`, each with its `;`.
    pub params: Bytes,
    /// Two headers with `r2=on` when the request leaves from another socket than it came to.
    pub double: bool,
    /// What stands in the headers instead of the sockets, the first one undermost; with
    /// parameters.
    pub preset: Vec<Bytes>,
}

/// How our Via of one request differs from that of its socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnVia {
    /// Instead of the host of the socket, in Record-Route too.
    pub host: Option<Bytes>,
    pub port: Option<u16>,
    /// With an empty `rport`.
    pub rport: bool,
    /// Further parameters, each with its `;`.
    pub params: Bytes,
}

/// What of a request's identity went out differently than it came in. Replies get it back: they
/// carry From, To and CSeq as the request had them (RFC 3261 8.2.6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    pub names: bool,
    /// What was added to the number of CSeq.
    pub cseq: u32,
    /// Reliable provisional replies are acknowledged by this node, so they go on as plain ones
    /// (RFC 3262).
    pub plain: bool,
}

impl Rewritten {
    /// Both together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            names: self.names || other.names,
            cseq: self.cseq.max(other.cseq),
            plain: self.plain || other.plain,
        }
    }

    pub fn is_any(self) -> bool {
        self.names || self.cseq != 0 || self.plain
    }
}

/// What a module hides of a request and the replies to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hides {
    /// The module.
    pub slot: u16,
    /// Its own flags.
    pub flags: u8,
    /// User of the Contact that the sender of the request is shown; empty: none.
    pub shown_user: Bytes,
    /// The same for its receiver.
    pub sent_user: Bytes,
    /// Routes to the sender of the request, when it does not say.
    pub own_routes: Vec<Vec<u8>>,
    /// Parameter of the shown Contact that leads back to the hidden side, with its `;`, when that
    /// is kept elsewhere; empty: the Contact holds it itself.
    pub place: Bytes,
}

/// What is wrong, as `$err.class` and `$err.level` say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorKind {
    /// A message that cannot be read.
    #[default]
    Message,
    /// An assertion of the script.
    Assertion,
}

/// What became of a request in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// It could not be sent on: code and reason of a reply that says why.
    Failed(u16, &'static str),
    /// It has its final reply.
    Answered,
}

/// The last parse or script error, for error_route and `sl_reply_error`.
#[derive(Clone, Debug, Default)]
pub struct ScriptError {
    pub kind: ErrorKind,
    /// Reply code to answer with; 0: nothing recorded.
    pub code: u16,
    pub reason: String,
}

/// A script run's view of one message.
pub struct Ctx {
    pub msg: Message,
    /// Number of the message within its worker; 0: it came from nowhere.
    pub id: u32,
    pub edits: Edits,
    pub source: Source,
    /// The target in `$ru`, `$du` and friends.
    pub target: Branch,
    pub branches: Vec<Branch>,
    /// Message flags.
    pub flags: u32,
    pub avps: Avps,
    /// Header lines that go into a locally generated reply.
    pub reply_headers: Vec<u8>,
    /// Body of a locally generated reply; its type is one of `reply_headers`.
    pub reply_body: Vec<u8>,
    /// Answer to the source port although the top Via has no rport.
    pub force_rport: bool,
    pub record_route: Option<RecordRoute>,
    /// The Path header to add (RFC 3327), which looks the same.
    pub own_path: Option<RecordRoute>,
    /// What the script wants of our Via.
    pub own_via: OwnVia,
    pub rewritten: Rewritten,
    /// Set when a module hides the sides of the message from each other.
    pub hides: Option<Arc<Hides>>,
    /// What modules attached to the message and its transaction.
    pub attached: Attached,
    /// Blacklists that the script named; `None`: those of every message.
    pub blacklists: Option<Box<Choice>>,
    /// The kind of block that runs.
    pub block: Routes,
    /// The reply that a failure route looks at through `$(<reply>...)`.
    pub reply: Option<Message>,
    /// Request of the transaction, in an onreply route.
    pub request: Option<Message>,
    pub error: ScriptError,
    /// A final reply went out without state.
    pub is_answered: bool,
    /// The request lacks what every element must check (RFC 3261 16.3); it is not sent on.
    pub is_unfit: bool,
    /// Value of the Authorization or Proxy-Authorization header that was found right.
    pub authorized: Option<Span>,
    /// Who speaks through a load balancer, as that has told.
    pub proxied: Option<Box<Proxied>>,
    /// `$param(name)` of an event route.
    pub params: Vec<(Bytes, Value)>,
    sections: SmallVec<[(u16, Box<dyn Any + Send>); 2]>,
}

impl Ctx {
    pub fn new(msg: Message, source: Source, block: Routes) -> Self {
        Self {
            msg,
            id: 0,
            edits: Edits::default(),
            source,
            target: Branch::default(),
            branches: Vec::new(),
            flags: 0,
            avps: Avps::default(),
            reply_headers: Vec::new(),
            reply_body: Vec::new(),
            force_rport: false,
            record_route: None,
            own_path: None,
            own_via: OwnVia::default(),
            rewritten: Rewritten::default(),
            hides: None,
            attached: Attached::default(),
            blacklists: None,
            block,
            reply: None,
            request: None,
            error: ScriptError::default(),
            is_answered: false,
            is_unfit: false,
            authorized: None,
            proxied: None,
            params: Vec::new(),
            sections: SmallVec::new(),
        }
    }

    /// A copy of what decides how the request leaves, for a target of its own: what happens to it
    /// is its own.
    #[must_use]
    pub fn for_target(&self, target: Branch, block: Routes) -> Self {
        let mut copy = Self::new(self.msg.clone(), self.source, block);
        copy.id = self.id;
        copy.is_unfit = self.is_unfit;
        copy.edits = self.edits.clone();
        copy.target = target;
        copy.flags = self.flags;
        copy.force_rport = self.force_rport;
        copy.record_route.clone_from(&self.record_route);
        copy.own_path.clone_from(&self.own_path);
        copy.own_via = self.own_via.clone();
        copy.blacklists.clone_from(&self.blacklists);
        copy.rewritten = self.rewritten;
        copy.hides.clone_from(&self.hides);
        copy.proxied.clone_from(&self.proxied);
        copy.attached = self.attached.clone();
        copy
    }

    /// The Request-URI as it stands now.
    pub fn request_uri(&self) -> &[u8] {
        self.target.uri.as_deref().unwrap_or_else(|| self.msg.request_uri())
    }

    /// Where the request may go, as a Contact header has it: the R-URI and the branches (`$ds`).
    pub fn destinations(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for branch in std::iter::once(&self.target).chain(&self.branches) {
            if !out.is_empty() {
                out.extend_from_slice(b", ");
            }
            out.push(b'<');
            out.extend_from_slice(branch.uri.as_deref().unwrap_or_else(|| self.request_uri()));
            out.push(b'>');
            if let Some(q) = branch.q {
                let q = format!(";q={}", f32::from(q) / 1000.0);
                out.extend_from_slice(q.as_bytes());
            }
        }
        out
    }

    /// Whether any module attached something to this message.
    pub(crate) fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// What module `slot` attached to this message.
    pub fn section<T: Any>(&self, slot: u16) -> Option<&T> {
        self.sections.iter().find(|(s, _)| *s == slot).and_then(|(_, b)| b.downcast_ref())
    }

    /// What module `slot` attached to this message, made if it is not there.
    pub fn section_mut<T: Any + Send + Default>(&mut self, slot: u16) -> &mut T {
        let at = self.sections.iter().position(|(s, b)| *s == slot && b.is::<T>());
        let at = at.unwrap_or_else(|| {
            self.sections.retain(|(s, _)| *s != slot);
            self.sections.push((slot, Box::<T>::default()));
            self.sections.len() - 1
        });
        #[expect(clippy::expect_used, reason = "the entry at `at` was found or made as a T above")]
        self.sections[at].1.downcast_mut().expect("section of this type")
    }
}
