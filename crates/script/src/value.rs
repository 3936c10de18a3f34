//! What a variable holds.

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
}
