//! The package `dialog`.

use bytes::Bytes;
use tandem_presence::{Body, Package, Refusal, Viewer};
use tandem_xml::media_type;

use crate::document::{self, CONTENT_TYPE};

/// Who is on the phone (RFC 4235).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialogs {
    /// Only the most interesting dialog is told.
    pub(crate) single: bool,
}

fn text(uri: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(uri)
}

impl Package for Dialogs {
    fn name(&self) -> &'static str {
        "dialog"
    }

    fn content_type(&self) -> &'static str {
        CONTENT_TYPE
    }

    fn judge(&self, content_type: &[u8], body: &Bytes) -> Result<(), Refusal> {
        if !media_type(content_type).eq_ignore_ascii_case(CONTENT_TYPE) {
            return Err(Refusal::unsupported(self.content_type()));
        }
        document::check(body).map_err(|why| Refusal::new(400, why))
    }

    fn merge(&self, presentity: &[u8], bodies: &[Body]) -> Option<Bytes> {
        let all: Vec<&[u8]> = bodies.iter().map(|body| &body.body[..]).collect();
        document::compose(&text(presentity), &all, self.single).map(Bytes::from)
    }

    fn offline(&self, presentity: &[u8]) -> Option<Bytes> {
        Some(document::offline(&text(presentity), None).into())
    }

    fn ended(&self, presentity: &[u8], last: &Body) -> Option<Bytes> {
        Some(document::offline(&text(presentity), Some(&last.body)).into())
    }

    fn shown(&self, body: &Bytes, viewer: &Viewer<'_>) -> Bytes {
        match std::str::from_utf8(body) {
            Ok(body) => document::with_version(body, viewer.version).into(),
            Err(_) => body.clone(),
        }
    }

    fn is_busy(&self, bodies: &[Body]) -> bool {
        bodies.iter().any(|body| document::is_busy(&body.body))
    }
}
