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
