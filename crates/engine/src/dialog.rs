//! What modules hear of dialogs in which they keep something.

use std::any::Any;
use std::fmt;

use tandem_sip::Message;

/// What became of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogMoment {
    /// The INVITE made it.
    Created,
    /// A 2xx went to the caller.
    Answered,
    /// A request within it passed.
    Request,
    /// This node has ended it.
    Ended,
    /// Another node has ended it.
    EndedElsewhere,
    /// It is over, another node owed what follows from that, and now this one does.
    Owed,
}

/// An event of a dialog. The module of dialogs tells it to every module that keeps a section in
/// the record, after the change and with no lock held.
pub struct DialogEvent<'a> {
    pub moment: DialogMoment,
    /// Name of the dialog, as a number.
    pub id: u64,
    /// The record: a `tandem_dialog::Dialog`.
    pub record: &'a (dyn Any + Send + Sync),
    /// The message that caused it, if one did.
    pub message: Option<&'a Message>,
    /// The message flags that a script has set by then for a request within it.
    pub flags: u32,
}

impl fmt::Debug for DialogEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialogEvent")
            .field("moment", &self.moment)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
