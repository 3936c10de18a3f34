//! What is kept of a dialog: plain data that means the same on every node.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::flags::Flags;
use crate::id::DialogId;

pub use tandem_cluster::Stamp;

pub use crate::terms::Terms;
pub use crate::value_stamps::ValueStamps;

/// A text of a record; 16 bytes where it is empty.
pub type Text = Box<[u8]>;

/// The value that holds the sharing tag.
pub const TAG_VALUE: &[u8] = b"dlgX_shtag";

/// The value that holds the Call-ID as the callee knows it, where that is hidden from it.
pub const CALLEE_CALL_ID: &[u8] = b"_th_callid";

/// Callees of one dialog, at most; a forked call has one for each To tag.
pub const LEGS_MAX: usize = 16;
/// Values of one dialog, at most.
pub const VALUES_MAX: usize = 256;
/// Bytes of one value, at most.
pub const VALUE_BYTES_MAX: usize = 16_384;
/// Profiles that one dialog is in, at most.
pub const PROFILES_MAX: usize = 64;
/// CDRs that one dialog may owe.
pub const DEBTS_MAX: usize = 256;
/// Sections of other modules, at most.
pub const SECTIONS_MAX: usize = 16;

/// The states, with the numbers of `$DLG_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// The INVITE was seen.
    Unconfirmed = 1,
    /// It rings.
    Early = 2,
    /// Answered, the ACK is to come.
    Unacked = 3,
    Confirmed = 4,
    Deleted = 5,
}

impl State {
    pub fn number(self) -> u8 {
        self as u8
    }

    /// `None`: there is no such state.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Unconfirmed,
            2 => Self::Early,
            3 => Self::Unacked,
            4 => Self::Confirmed,
            5 => Self::Deleted,
            _ => return None,
        })
    }

    /// Answered and not ended: what is replicated and stored.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Unacked | Self::Confirmed)
    }

    pub fn is_alive(self) -> bool {
        self != Self::Deleted
    }
}

/// Why a dialog ended, as `$DLG_end_reason` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    UpstreamBye = 1,
    DownstreamBye,
    Cancelled,
    Lifetime,
    Race,
    Command,
    Ping,
    CallerPing,
    CalleePing,
    Reinvite,
    CallerReinvite,
    CalleeReinvite,
    /// A negative reply, or none.
    Failed,
    /// Another node ended it and has not said why.
    Peer,
}

impl EndReason {
    pub const ALL: [Self; 14] = [
        Self::UpstreamBye,
        Self::DownstreamBye,
        Self::Cancelled,
        Self::Lifetime,
        Self::Race,
        Self::Command,
        Self::Ping,
        Self::CallerPing,
        Self::CalleePing,
        Self::Reinvite,
        Self::CallerReinvite,
        Self::CalleeReinvite,
        Self::Failed,
        Self::Peer,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// `None`: scripts see no reason.
    pub fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::UpstreamBye => "Upstream BYE",
            Self::DownstreamBye => "Downstream BYE",
            Self::Cancelled => "Cancelled",
            Self::Lifetime => "Lifetime Timeout",
            Self::Race => "SIP Race Condition",
            Self::Command => "MI Termination",
            Self::Ping => "Ping Timeout",
            Self::CallerPing => "Caller Ping Timeout",
            Self::CalleePing => "Callee Ping Timeout",
            Self::Reinvite => "ReINVITE Ping Timeout",
            Self::CallerReinvite => "Caller ReINVITE Ping Timeout",
            Self::CalleeReinvite => "Callee ReINVITE Ping Timeout",
            Self::Failed | Self::Peer => return None,
        })
    }
}

/// One of the two ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Caller,
    Callee,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// One end of the call as this node reaches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    pub tag: Text,
    /// URI of its Contact.
    pub contact: Text,
    /// Route values towards it, separated by commas.
    pub route_set: Text,
    /// Our socket towards it, as its node wrote it: `udp:ip:port` or `udp:tag`.
    pub socket: Text,
    /// The last body that came from it.
    pub sdp_in: Text,
    /// The body sent to it, if it is another one than came from the other side.
    pub sdp_out: Text,
    /// The Contact that it was shown instead of the other side's, with topology hiding.
    pub advertised: Text,
    /// Number of the last request that the other side sent towards it.
    pub cseq: u32,
    /// The last number that this node made up towards it; 0: none.
    pub generated_cseq: u32,
}

impl Leg {
    /// What of it is text, in the order of the wire between Tandem nodes.
    pub(crate) fn texts(&self) -> [&Text; 7] {
        let Self { tag, contact, route_set, socket, sdp_in, sdp_out, advertised, .. } = self;
        [tag, contact, route_set, socket, sdp_in, sdp_out, advertised]
    }
}

/// A value of `$dlg_val`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Val {
    Str(Text),
    Int(i32),
}

/// Where the members of a profile are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Marker {
    #[default]
    Local,
    /// `/b`: nodes tell each other their counts.
    Bin,
    /// `/s`: in a key-value store.
    Cache,
}

impl Marker {
    /// As it stands behind the name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Local => "",
            Self::Bin => "/b",
            Self::Cache => "/s",
        }
    }
}

/// A place of the dialog in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Without the marker.
    pub name: Text,
    /// Empty in profiles without values.
    pub value: Text,
    pub marker: Marker,
}

/// A CDR that somebody has to write (decisions: "CDRs").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    /// Identities of the CDRs, which no two calls share.
    pub ids: Vec<u64>,
    /// The node that owes them.
    pub node: u32,
    /// The place that it writes them to: see `Module::pays_into`.
    pub place: u64,
    pub paid: bool,
    /// When the call ended, in Unix milliseconds; 0: only the second is known.
    pub ended_ms: u64,
}

/// The routes that a script has set for moments of the dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    pub on_answer: Text,
    pub on_timeout: Text,
    pub on_hangup: Text,
}

/// A dialog. It holds nothing that means something on one node only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub id: DialogId,
    pub call_id: Text,
    pub from_uri: Text,
    pub to_uri: Text,
    /// What the callee sees instead; empty: the same.
    pub mangled_from: Text,
    pub mangled_to: Text,
    /// Unix seconds of the INVITE, of the answer, and of the end; 0: not yet.
    pub start_s: u32,
    pub answered_s: u32,
    pub ended_s: u32,
    pub state: State,
    pub end_reason: Option<EndReason>,
    /// CSeq number of the INVITE.
    pub invite_cseq: u32,
    pub caller: Leg,
    /// In the order in which they were heard of.
    pub callees: SmallVec<[Leg; 1]>,
    /// The one that answered.
    pub answered: Option<u8>,
    /// In the order of first writing.
    pub values: Vec<(Text, Val)>,
    pub profiles: Vec<Membership>,
    /// Bits in the order in which this node's script names the flags.
    pub user_flags: u32,
    pub module_flags: u32,
    pub flags: Flags,
    /// Seconds that it lives from the answer.
    pub lifetime_s: u32,
    /// Unix seconds when it ends by itself.
    pub expires_s: u32,
    /// Seconds that it stays readable after its end; `None`: as configured.
    pub delete_delay_s: Option<u32>,
    pub routes: Routes,
    /// What other modules keep: name of the module, and what only that module reads.
    pub sections: Vec<(Text, Bytes)>,
    pub debt: Option<Debt>,
    /// The node that made it; 0: in no cluster.
    pub creator: u32,
    /// Its last change that peers are told of.
    pub stamp: Stamp,
    /// When its values were written.
    pub value_stamps: ValueStamps,
    /// When its lifetime, delay and flags were written.
    pub terms: Terms,
}

impl Dialog {
    /// When it ended, in Unix milliseconds, as exactly as is known; 0: not at all.
    pub fn ended_ms(&self) -> u64 {
        self.ended_exactly_ms().unwrap_or(u64::from(self.ended_s) * 1000)
    }

    /// The same if it is known more exactly than to the second.
    pub fn ended_exactly_ms(&self) -> Option<u64> {
        let exact = self.debt.as_ref().map_or(0, |debt| debt.ended_ms);
        // Nodes that did not see each other may have heard of different ends.
        (exact != 0 && exact / 1000 == u64::from(self.ended_s)).then_some(exact)
    }

    /// A record of which nothing is known yet.
    pub fn empty(id: DialogId) -> Self {
        Self {
            id,
            call_id: Text::default(),
            from_uri: Text::default(),
            to_uri: Text::default(),
            mangled_from: Text::default(),
            mangled_to: Text::default(),
            start_s: 0,
            answered_s: 0,
            ended_s: 0,
            state: State::Unconfirmed,
            end_reason: None,
            invite_cseq: 0,
            caller: Leg::default(),
            callees: SmallVec::new(),
            answered: None,
            values: Vec::new(),
            profiles: Vec::new(),
            user_flags: 0,
            module_flags: 0,
            flags: Flags::NONE,
            lifetime_s: 0,
            expires_s: 0,
            delete_delay_s: None,
            routes: Routes::default(),
            sections: Vec::new(),
            debt: None,
            creator: 0,
            stamp: Stamp { time_us: 0, node: 0 },
            value_stamps: ValueStamps::default(),
            terms: Terms::NONE,
        }
    }

    /// The leg that answered, or the one that was heard of last.
    pub fn callee(&self) -> Option<&Leg> {
        match self.answered {
            Some(at) => self.callees.get(usize::from(at)),
            None => self.callees.last(),
        }
    }

    /// One end; the callee is the one that answered.
    pub fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => Some(&self.caller),
            Side::Callee => self.callee(),
        }
    }

    pub fn to_tag(&self) -> &[u8] {
        self.callee().map_or(b"", |leg| &leg.tag)
    }

    /// Place of the callee with this tag.
    pub fn callee_at(&self, tag: &[u8]) -> Option<u8> {
        self.callees.iter().position(|leg| *leg.tag == *tag).and_then(|at| u8::try_from(at).ok())
    }

    pub fn value(&self, name: &[u8]) -> Option<&Val> {
        self.values.iter().find(|(n, _)| **n == *name).map(|(_, value)| value)
    }

    /// The sharing tag, as the script wrote it.
    pub fn tag(&self) -> Option<&str> {
        match self.value(TAG_VALUE)? {
            Val::Str(text) => std::str::from_utf8(text).ok(),
            Val::Int(_) => None,
        }
    }

    /// Whether a message with this Call-ID may belong to it: the callee may know another one.
    pub fn has_call_id(&self, call_id: &[u8]) -> bool {
        let is_callees =
            || matches!(self.value(CALLEE_CALL_ID), Some(Val::Str(text)) if **text == *call_id);
        *self.call_id == *call_id || is_callees()
    }

    pub fn section(&self, module: &str) -> Option<&Bytes> {
        let found = self.sections.iter().find(|(name, _)| **name == *module.as_bytes());
        found.map(|(_, bytes)| bytes)
    }

    /// Which side a request with these tags comes from, and which callee it is about; `None`:
    /// they are not those of this dialog.
    pub fn sender(&self, from_tag: &[u8], to_tag: &[u8]) -> Option<(Side, u8)> {
        if *from_tag == *self.caller.tag
            && let Some(at) = self.callee_at(to_tag)
        {
            return Some((Side::Caller, at));
        }
        if *to_tag == *self.caller.tag
            && let Some(at) = self.callee_at(from_tag)
        {
            return Some((Side::Callee, at));
        }
        None
    }
}
