//! The dialog of a message, attached to it and to the transaction that is made of it.

use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_engine::sockets::SocketId;
use tandem_sip::Method;

use crate::id::DialogId;
use crate::record::{Side, Text};

/// The dialog that a message belongs to. Routes, branches and replies share it.
#[derive(Debug)]
pub struct Current {
    pub id: DialogId,
    /// Who sent the request.
    pub sender: Side,
    /// Place of the callee that a request within the dialog is about.
    pub callee: u8,
    pub kind: Kind,
    pub(crate) work: Mutex<Work>,
}

/// What the message is to the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The INVITE that made it.
    Initial,
    /// A request within it.
    Within(Method),
    /// Something that only looks at it, or a request of this node itself.
    Own,
}

/// What is remembered while the transaction goes on.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// The last number towards the receiver before this request.
    pub(crate) cseq_before: u32,
    pub(crate) branches: SmallVec<[SentOn; 1]>,
    /// What the sender of a request within the dialog tells of itself.
    pub(crate) contact: Option<Text>,
    pub(crate) sdp: Option<Text>,
    /// The body of the last 2xx or 1xx as it came.
    pub(crate) answer: Option<Text>,
}

/// How the request left on a branch.
#[derive(Debug)]
pub(crate) struct SentOn {
    pub(crate) branch: u8,
    pub(crate) socket: SocketId,
    /// The body, if it is another one than came; empty: none.
    pub(crate) sdp: Text,
    /// From and To, if they are others than came; empty: the same.
    pub(crate) from: Text,
    pub(crate) to: Text,
    /// Record-Routes that it had.
    pub(crate) routes: usize,
    /// The Contact, if it names this node: what the callee is shown.
    pub(crate) advertised: Text,
    /// Its number, if it is another one than came; 0: the same.
    pub(crate) cseq: u32,
}

impl Current {
    pub(crate) fn new(id: DialogId, sender: Side, callee: u8, kind: Kind) -> Self {
        Self { id, sender, callee, kind, work: Mutex::default() }
    }

    /// For what happens outside of a request.
    pub(crate) fn of(id: DialogId) -> Self {
        Self::new(id, Side::Caller, 0, Kind::Own)
    }
}
