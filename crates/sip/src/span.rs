//! Places inside a message.

use std::ops::Range;

/// A range of byte offsets inside one message. Plain data: it survives a move of the message,
/// and means nothing for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte; never below `start`.
    pub end: u32,
}

impl Span {
    /// From `start` up to, not including, `end`; empty at `start` if `end` lies before it.
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// As a range for slicing.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// `true` if both share at least one byte.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        let (start, end) = (
            if self.start > other.start { self.start } else { other.start },
            if self.end < other.end { self.end } else { other.end },
        );
        start < end
    }
}

/// A [`Span`] as the index of a message keeps it, in half the room: no message has more bytes than
/// 16 bits count ([`crate::MESSAGE_BYTES_MAX`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

const _: () = assert!(crate::MESSAGE_BYTES_MAX <= u16::MAX as usize);

impl Place {
    /// As [`Span::new`]; both are offsets in a message.
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, end: if end < start { start } else { end } as u16 }
    }

    pub(crate) const fn span(self) -> Span {
        Span { start: self.start as u32, end: self.end as u32 }
    }

    /// The bytes there.
    pub(crate) fn of(self, buf: &[u8]) -> &[u8] {
        crate::scan::slice(buf, self.start.into(), self.end.into())
    }
}
