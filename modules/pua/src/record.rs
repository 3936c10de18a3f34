//! What is kept of a publication or a subscription: plain data that means the same on every node.

use bytes::Bytes;

pub use tandem_cluster::Stamp;

/// A text of a record.
pub type Text = Box<[u8]>;

/// As a time up to which a record is wanted: until somebody ends it (in the year 3000).
pub const FOREVER_S: u64 = 32_503_680_000;

/// Bytes of a body, at most: with its record it has to fit into one packet.
pub const BODY_BYTES_MAX: usize = 32 << 10;
/// Bytes of any other text, at most.
pub const TEXT_BYTES_MAX: usize = 4096;

/// The events; the number is the bit in databases and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Event {
    Presence = 0,
    Winfo,
    SharedLine,
    MessageSummary,
    Conference,
    XcapDiff,
    Dialog,
    CallInfo,
    Reg,
}

impl Event {
    const ALL: [Self; 9] = [
        Self::Presence,
        Self::Winfo,
        Self::SharedLine,
        Self::MessageSummary,
        Self::Conference,
        Self::XcapDiff,
        Self::Dialog,
        Self::CallInfo,
        Self::Reg,
    ];

    pub fn bit(self) -> u32 {
        1 << self as u8
    }

    /// `None`: it is the bit of none.
    pub fn of_bit(bit: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.bit() == bit)
    }

    /// The value of the header Event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Winfo => "presence.winfo",
            Self::SharedLine => "dialog;sla",
            Self::MessageSummary => "message-summary",
            Self::Conference => "conference",
            Self::XcapDiff => "xcap-diff",
            Self::Dialog => "dialog",
            Self::CallInfo => "call-info",
            Self::Reg => "reg",
        }
    }
}

/// Who wants a record, as one bit: the number is that of databases and the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u32);

impl Source {
    /// `pua_dialoginfo`
    pub const DIALOG: Self = Self(1 << 10);
    /// Subscriptions of management.
    pub const COMMAND: Self = Self(1 << 8);
}

/// The name of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub uri: Text,
    pub source: u32,
    pub id: Text,
    pub event: u32,
    /// Who subscribes; empty: it is a publication.
    pub watcher: Text,
}

impl Key {
    /// The name of a publication.
    pub fn of(uri: &[u8], source: Source, id: &[u8], event: Event) -> Self {
        let (source, event) = (source.0, event.bit());
        Self { uri: uri.into(), source, id: id.into(), event, watcher: Text::default() }
    }

    pub(crate) fn event(&self) -> Option<Event> {
        Event::of_bit(self.event)
    }
}

/// What is to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    pub body: Bytes,
    pub content_type: Bytes,
    /// Seconds for which it is wanted; `None`: until it is ended. 0 ends it: the body is what
    /// watchers are told last.
    pub expires_s: Option<u32>,
    /// Further header lines, each with its end.
    pub extra: Bytes,
    /// Where to send it instead of to the URI; empty: to the URI.
    pub next_hop: Bytes,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stand {
    /// The server is to be told.
    #[default]
    Wanted = 1,
    Told,
    /// The server is to be told that it ends.
    Ending,
    Gone,
}

impl Stand {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Wanted, Self::Told, Self::Ending, Self::Gone]
            .into_iter()
            .find(|stand| *stand as u64 == number)
    }

    /// Whether a request is to be sent.
    pub(crate) fn is_owed(self) -> bool {
        matches!(self, Self::Wanted | Self::Ending)
    }
}

/// The dialog of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub to_uri: Text,
    pub call_id: Text,
    pub from_tag: Text,
    pub to_tag: Text,
    pub cseq: u32,
    /// Route values, separated by commas.
    pub routes: Text,
    pub contact: Text,
    pub remote_contact: Text,
    pub version: u32,
}

/// A publication or a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    pub stand: Stand,
    /// The node that made it; 0: in no cluster.
    pub creator: u32,
    pub tag: Text,
    pub etag: Text,
    /// Unix seconds up to which the server keeps it.
    pub expires_s: u64,
    /// Unix seconds up to which it is wanted.
    pub desired_s: u64,
    /// Unix seconds of its last change.
    pub changed_s: u64,
    pub content_type: Text,
    pub body: Bytes,
    pub extra: Text,
    pub next_hop: Text,
    pub watch: Option<Box<Watch>>,
    pub stamp: Stamp,
}

impl Record {
    /// Whether the server still has it under its ETag, as far as is known.
    pub(crate) fn has_etag(&self, now_s: u64) -> bool {
        !self.etag.is_empty() && self.expires_s > now_s
    }

    /// Unix seconds when it has to be looked at. `early`: seconds before the end at which it is
    /// refreshed; 0: it is not.
    pub(crate) fn due_s(&self, early: u64) -> u64 {
        match self.stand {
            Stand::Gone => self.changed_s + GONE_S,
            Stand::Wanted | Stand::Ending => self.changed_s + RETRY_S,
            Stand::Told if early == 0 => self.expires_s,
            // The server keeps it for as long as it is wanted.
            Stand::Told if self.desired_s <= self.expires_s => self.desired_s,
            Stand::Told => {
                let life = self.expires_s.saturating_sub(self.changed_s);
                // What lives shorter than two periods is refreshed at half its time.
                self.expires_s.saturating_sub(early.min(life / 2)).min(self.desired_s)
            }
        }
    }
}

/// How long the end of a record is remembered, so that late news do not bring it back; shorter
/// where there are more ends than are remembered.
const GONE_S: u64 = 600;
/// After this time a request that nobody has finished is sent again, by whoever has the duty.
const RETRY_S: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bits() {
        assert_eq!(Event::of_bit(64), Some(Event::Dialog));
        assert_eq!((Event::of_bit(3), Event::of_bit(1 << 9)), (None, None));
        assert!(Event::ALL.into_iter().all(|e| Event::of_bit(e.bit()) == Some(e)));
    }

    #[test]
    fn a_record_is_refreshed_before_its_end_and_not_beyond_its_time() {
        let record = |desired_s: u64, life: u64| Record {
            stand: Stand::Told,
            changed_s: 1000,
            expires_s: 1000 + life,
            desired_s,
            ..Record::default()
        };
        assert_eq!(record(9000, 3600).due_s(100), 4500);
        assert_eq!(record(9000, 60).due_s(100), 1030);
        assert_eq!(record(2000, 3600).due_s(100), 2000);
        assert_eq!(record(9000, 3600).due_s(0), 4600);
    }
}
