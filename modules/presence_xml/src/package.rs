//! The packages `presence` and `dialog;sla`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::Cx;
use tandem_presence::{Body, Package, Refusal, RuleAsk, Verdict, Viewer};
use tandem_xml::media_type;

use crate::pidf::{self, CONTENT_TYPE};
use crate::state::Shared;
use crate::view::View;

/// The view of a watcher who is told that nobody is there.
pub(crate) const POLITE: &[u8] = b"polite";

fn text(uri: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(uri)
}

/// Whether somebody can be reached (RFC 3856).
pub(crate) struct Documents(pub(crate) Arc<Shared>);

impl Package for Documents {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn content_type(&self) -> &'static str {
        CONTENT_TYPE
    }

    fn has_winfo(&self) -> bool {
        true
    }

    fn judge(&self, content_type: &[u8], body: &Bytes) -> Result<(), Refusal> {
        if !media_type(content_type).eq_ignore_ascii_case(CONTENT_TYPE) {
            return Err(Refusal::unsupported(self.content_type()));
        }
        pidf::check(body).map_err(|why| Refusal::new(400, why))
    }

    fn merge(&self, presentity: &[u8], bodies: &[Body]) -> Option<Bytes> {
        let hard = self.0.hard_state(presentity);
        let published = bodies.iter().map(|body| &body.body[..]);
        let all: Vec<&[u8]> = published.chain(hard.as_deref()).collect();
        pidf::compose(&text(presentity), &all).map(Bytes::from)
    }

    fn offline(&self, presentity: &[u8]) -> Option<Bytes> {
        let hard = self.0.hard_state(presentity);
        let hard = hard.and_then(|hard| pidf::compose(&text(presentity), &[&hard]));
        Some(hard.unwrap_or_else(|| pidf::offline(&text(presentity), None)).into())
    }

    fn ended(&self, presentity: &[u8], last: &Body) -> Option<Bytes> {
        if self.0.hard_state(presentity).is_some() {
            return self.offline(presentity);
        }
        self.0.params.tells_end.then(|| pidf::offline(&text(presentity), Some(&last.body)).into())
    }

    fn shown(&self, body: &Bytes, viewer: &Viewer<'_>) -> Bytes {
        if viewer.view.is_empty() {
            return body.clone();
        }
        let nobody = || pidf::offline(&text(viewer.presentity), None);
        if viewer.view == POLITE {
            return nobody().into();
        }
        let view = std::str::from_utf8(viewer.view).ok().and_then(View::parse);
        view.and_then(|view| view.of(body)).unwrap_or_else(nobody).into()
    }

    fn shows_nothing(&self, view: &[u8]) -> bool {
        view == POLITE
    }

    fn has_rules(&self) -> bool {
        !self.0.params.force_active || self.0.params.has_hard_state
    }

    fn ask(&self, cx: &mut Cx<'_>, ask: &RuleAsk) -> Option<Verdict> {
        self.0.ask(cx, ask)
    }

    fn rules_changed(&self, presentity: &[u8]) {
        self.0.rules_changed(presentity);
    }

    fn sphere(&self, body: &Bytes) -> Option<Bytes> {
        pidf::sphere(body).map(Bytes::from)
    }

    fn mixed(&self, presentity: &[u8], busy: bool) -> Option<Body> {
        busy.then(|| Body {
            etag: Bytes::new(),
            content_type: Bytes::new(),
            body: pidf::on_the_phone(&text(presentity)).into(),
            sender: Bytes::new(),
            received_s: 0,
        })
    }
}

/// Lines that several phones share: each document stands for itself.
pub(crate) struct SharedLines;

impl Package for SharedLines {
    fn name(&self) -> &'static str {
        "dialog;sla"
    }

    fn content_type(&self) -> &'static str {
        "application/dialog-info+xml"
    }

    fn judge(&self, content_type: &[u8], body: &Bytes) -> Result<(), Refusal> {
        if !media_type(content_type).eq_ignore_ascii_case(self.content_type()) {
            return Err(Refusal::unsupported(self.content_type()));
        }
        let readable = tandem_xml::read(body).map(|_| ());
        readable.map_err(|why| Refusal::new(400, format!("Invalid dialog-info document: {why}")))
    }
}
