//! What a script says of a dialog before it has made it.

/// Attached to the message.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// `$DLG_timeout`, in seconds.
    pub(crate) lifetime_s: Option<u32>,
}
