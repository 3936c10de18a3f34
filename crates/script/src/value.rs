//! What a variable holds.

use std::borrow::Cow;

use bytes::Bytes;

/// A script value. Integers that come from variables also have a decimal text; a text that
/// looks like a number is not an integer (script-language: "Values, null and truth").
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Value {
    #[default]
    Null,
    Int(i32),
    Str(Bytes),
    /// An integer whose text is not its plain decimal form (`$rp`, `$rs` keep what was received).
    Both(i32, Bytes),
}

impl Value {
    pub fn str(text: impl Into<Bytes>) -> Self {
        Self::Str(text.into())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The integer; a text that looks like a number is none.
    pub fn int(&self) -> Option<i32> {
        match self {
            Self::Int(i) | Self::Both(i, _) => Some(*i),
            Self::Null | Self::Str(_) => None,
        }
    }

    /// The text; an integer has its decimal form, null has none.
    pub fn text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Null => None,
            Self::Int(i) => Some(Cow::Owned(i.to_string().into_bytes())),
            Self::Str(s) | Self::Both(_, s) => Some(Cow::Borrowed(s)),
        }
    }

    /// The text as shared bytes; copies only integers.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Null => None,
            Self::Int(i) => Some(Bytes::from(i.to_string())),
            Self::Str(s) | Self::Both(_, s) => Some(s),
        }
    }

    /// Truth as a condition: null, 0 and the empty text are false.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Int(i) | Self::Both(i, _) => *i != 0,
            Self::Str(s) => !s.is_empty(),
        }
    }
}
