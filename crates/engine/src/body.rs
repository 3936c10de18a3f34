//! The body of a message as it stands: with what a script changed in it so far.

use bytes::Bytes;
use tandem_sip::Message;

use crate::context::Ctx;
use crate::transport::written;

/// A body and its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// As Content-Type says it; empty if there is none.
    pub content_type: Bytes,
    pub bytes: Bytes,
}

impl Ctx {
    /// The body that would leave now. A function that makes a new body of it, and sets that with
    /// [`tandem_sip::Edits::set_body`], goes together with all others that change the body.
    pub fn body(&self) -> Body {
        let received = || self.msg.content_type().map(Bytes::copy_from_slice).unwrap_or_default();
        if let Some(bytes) = self.edits.body() {
            let own = self.edits.body_type().cloned().filter(|own| !own.is_empty());
            let content_type = own.unwrap_or_else(received);
            return Body { content_type, bytes: bytes.clone() };
        }
        if !self.edits.touches_body(&self.msg) {
            let bytes = self.msg.bytes().slice(self.msg.body_span().range());
            return Body { content_type: received(), bytes };
        }
        let changed = Message::parse(written(&self.msg, &self.edits));
        let bytes = changed.map(|msg| msg.bytes().slice(msg.body_span().range()));
        Body { content_type: received(), bytes: bytes.unwrap_or_default() }
    }
}
