//! The document that is published.

use tandem_xml::escape;

use crate::params::Params;
use crate::plan::Party;

/// Its media type.
pub(crate) const CONTENT_TYPE: &[u8] = b"application/dialog-info+xml";

/// The states of RFC 4235 3.7.1 that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Trying,
    Early,
    Confirmed,
    Terminated,
}

impl Phase {
    fn text(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Terminated => "terminated",
        }
    }
}

/// A call as one side sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// The name of the dialog, and of its publication.
    pub(crate) id: &'a str,
    pub(crate) call_id: &'a [u8],
    /// Whom it is about.
    pub(crate) local: &'a Party,
    pub(crate) local_tag: &'a [u8],
    pub(crate) remote: &'a Party,
    pub(crate) remote_tag: &'a [u8],
    pub(crate) is_caller: bool,
    pub(crate) phase: Phase,
    /// Rises with each document of the dialog.
    pub(crate) version: u64,
}

/// Writes the document.
pub(crate) fn document(view: &View<'_>, params: &Params) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("<?xml version=\"1.0\"?>\n<dialog-info");
    attribute("xmlns", "urn:ietf:params:xml:ns:dialog-info", &mut out);
    // A server that puts calls together counts versions itself, for each watcher.
    if params.server_merges {
        attribute("state", "partial", &mut out);
    } else {
        attribute("version", &view.version.to_string(), &mut out);
        attribute("state", "full", &mut out);
    }
    attribute("entity", &lossy(&view.local.uri), &mut out);
    out.push_str("><dialog");
    attribute("id", view.id, &mut out);
    if params.shows_call_id {
        attribute("call-id", &lossy(view.call_id), &mut out);
    }
    if params.shows_tags {
        for (name, tag) in [("local-tag", view.local_tag), ("remote-tag", view.remote_tag)] {
            if !tag.is_empty() {
                attribute(name, &lossy(tag), &mut out);
            }
        }
    }
    let direction = if view.is_caller { "initiator" } else { "recipient" };
    attribute("direction", direction, &mut out);
    out.push_str("><state>");
    out.push_str(view.phase.text());
    out.push_str("</state>");
    if params.shows_sides {
        side("remote", view.remote, &mut out);
        side("local", view.local, &mut out);
    }
    out.push_str("</dialog></dialog-info>\n");
    out
}

fn side(name: &str, party: &Party, out: &mut String) {
    let uri = lossy(&party.uri);
    out.push_str(&format!("<{name}><identity"));
    if !party.display.is_empty() {
        attribute("display", &lossy(&party.display), out);
    }
    out.push('>');
    escape(&uri, out);
    out.push_str("</identity><target");
    attribute("uri", &uri, out);
    out.push_str(&format!("/></{name}>"));
}

fn attribute(name: &str, value: &str, out: &mut String) {
    out.push_str(&format!(" {name}=\""));
    escape(value, out);
    out.push('"');
}

fn lossy(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params() -> Params {
        Params {
            shows_call_id: true,
            shows_sides: true,
            shows_tags: true,
            caller_confirmed: false,
            on_trying: false,
            server: bytes::Bytes::new(),
            caller: None,
            callee: None,
            server_merges: true,
            nopublish: 0,
        }
    }

    fn party(uri: &str, display: &str) -> Party {
        Party { uri: uri.as_bytes().into(), display: display.as_bytes().into() }
    }

    /// What a stock node was seen to publish at the end of a call.
    const SEEN: &str = "<?xml version=\"1.0\"?>\n<dialog-info \
        xmlns=\"urn:ietf:params:xml:ns:dialog-info\" state=\"partial\" \
        entity=\"sip:caller1@127.0.0.11\"><dialog id=\"call-8073d0d447.0\" \
        call-id=\"call-8073d0d447\" local-tag=\"fte00222d6\" remote-tag=\"uastagf181\" \
        direction=\"initiator\"><state>terminated</state><remote><identity>\
        sip:4912345@127.0.0.11</identity><target uri=\"sip:4912345@127.0.0.11\"/></remote><local>\
        <identity>sip:caller1@127.0.0.11</identity><target uri=\"sip:caller1@127.0.0.11\"/></local>\
        </dialog></dialog-info>\n";

    #[test]
    fn a_document_is_that_of_the_field() {
        let (local, remote) =
            (party("sip:caller1@127.0.0.11", ""), party("sip:4912345@127.0.0.11", ""));
        let view = View {
            id: "call-8073d0d447.0",
            call_id: b"call-8073d0d447",
            local: &local,
            local_tag: b"fte00222d6",
            remote: &remote,
            remote_tag: b"uastagf181",
            is_caller: true,
            phase: Phase::Terminated,
            version: 3,
        };
        assert_eq!(document(&view, &params()), SEEN);
        let bare = Params {
            shows_call_id: false,
            shows_sides: false,
            shows_tags: false,
            server_merges: false,
            ..params()
        };
        let text = document(&View { is_caller: false, ..view }, &bare);
        assert!(text.contains("version=\"3\" state=\"full\"") && text.contains("recipient"));
        assert!(["call-id", "-tag", "<remote>"].iter().all(|gone| !text.contains(gone)), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_parties_are_called_the_document_can_be_read(
            uri in proptest::collection::vec(any::<u8>(), 0..20), display in "\\PC{0,12}"
        ) {
            let local = Party { uri: uri.clone().into(), display: display.as_bytes().into() };
            let view = View {
                id: "i<\"", call_id: &uri, local: &local, local_tag: &uri, remote: &local,
                remote_tag: b"", is_caller: true, phase: Phase::Early, version: 1,
            };
            let text = document(&view, &params());
            let read = tandem_xml::read(text.as_bytes()).unwrap();
            let identity = read.descendants().find(|n| n.tag_name().name() == "identity").unwrap();
            if !display.is_empty() {
                prop_assert_eq!(identity.attribute("display"), Some(&display[..]));
            }
        }
    }
}
