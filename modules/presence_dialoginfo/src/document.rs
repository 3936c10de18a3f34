//! Dialog information (RFC 4235): checked, put together, and turned into one that says
//! "terminated".

use std::collections::BTreeSet;

use tandem_xml::{Document, Node, Scope, copy, escape, read, text};

/// The namespace of dialog information.
pub(crate) const NAMESPACE: &str = "urn:ietf:params:xml:ns:dialog-info";
/// Its media type.
pub const CONTENT_TYPE: &str = "application/dialog-info+xml";
/// Documents that are put together, at most; older ones are left out.
const DOCUMENTS_MAX: usize = 256;

/// Judges a body that somebody publishes.
///
/// # Errors
/// What is wrong with it, for the reason phrase of a 400.
pub fn check(body: &[u8]) -> Result<(), String> {
    let document = read(body).map_err(|e| format!("Invalid dialog-info document: {e}"))?;
    match is_dialog_info(&document) {
        true => Ok(()),
        false => Err("Invalid dialog-info document: its root is no <dialog-info>".into()),
    }
}

fn is_dialog_info(document: &Document<'_>) -> bool {
    tandem_xml::is(document.root_element(), NAMESPACE, "dialog-info")
}

/// States by what a watcher cares for: a call that rings can be picked up.
fn interest(dialog: Node<'_, '_>) -> u8 {
    let state = dialog.children().find(|n| tandem_xml::is(*n, NAMESPACE, "state"));
    match state.map(text) {
        Some("early") => 5,
        Some("confirmed") => 4,
        Some("proceeding") => 3,
        Some("trying") => 2,
        Some("terminated") => 1,
        _ => 0,
    }
}

/// Whether somebody is on the phone by what a document says.
pub fn is_busy(body: &[u8]) -> bool {
    let Ok(document) = read(body) else { return false };
    dialogs_of(&document).any(|dialog| interest(dialog) > 2)
}

/// One document of several, the newest of which comes first: of two dialogs with the same id the
/// newer one counts. `single`: only the most interesting dialog is told. `None`: there is nothing
/// to put together. The version is 0: see [`with_version`].
pub fn compose(entity: &str, bodies: &[&[u8]], single: bool) -> Option<String> {
    let read_all = bodies.iter().take(DOCUMENTS_MAX).filter_map(|body| read(body).ok());
    let documents: Vec<Document<'_>> = read_all.filter(is_dialog_info).collect();
    if documents.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut dialogs = Vec::new();
    for document in &documents {
        for dialog in dialogs_of(document) {
            if seen.insert(dialog.attribute("id").unwrap_or_default().to_owned()) {
                dialogs.push(dialog);
            }
        }
    }
    if single {
        // Of several that are alike the newest stays: the last of a maximum counts.
        let most = dialogs.iter().rev().max_by_key(|d| interest(**d)).copied();
        dialogs = most.into_iter().collect();
    }
    let mut scope = Scope::new(NAMESPACE);
    for document in &documents {
        scope.add(document.root_element());
    }
    let mut out = begin(entity, &scope);
    for dialog in dialogs {
        // Names that are declared on the root go with each: together they may be many.
        if out.len() >= tandem_xml::BYTES_MAX {
            break;
        }
        out.push('\n');
        copy(dialog, &scope, &mut out);
    }
    out.push_str("\n</dialog-info>\n");
    Some(out)
}

fn dialogs_of<'a, 'i>(document: &'a Document<'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    document.root_element().children().filter(|n| tandem_xml::is(*n, NAMESPACE, "dialog"))
}

fn begin(entity: &str, scope: &Scope) -> String {
    let mut out = String::from("<?xml version=\"1.0\"?>\n<dialog-info");
    scope.declare(&mut out);
    out.push_str(" version=\"0\" state=\"full\" entity=\"");
    escape(entity, &mut out);
    out.push_str("\">");
    out
}

/// What watchers are told when nobody publishes anything more: each dialog of the last document
/// is over. Without one: there are no dialogs.
pub fn offline(entity: &str, last: Option<&[u8]>) -> String {
    let mut out = begin(entity, &Scope::new(NAMESPACE));
    let document = last.and_then(|body| read(body).ok()).filter(is_dialog_info);
    for dialog in document.iter().flat_map(dialogs_of) {
        out.push_str("\n<dialog");
        for name in ["id", "call-id", "local-tag", "remote-tag", "direction"] {
            if let Some(value) = dialog.attribute(name) {
                out.push_str(&format!(" {name}=\""));
                escape(value, &mut out);
                out.push('"');
            }
        }
        out.push_str("><state>terminated</state></dialog>");
    }
    out.push_str("\n</dialog-info>\n");
    out
}

/// The document with another version: each subscription counts its own (RFC 4235 4.3). What has
/// no version stays as it is.
pub fn with_version(body: &str, version: u32) -> String {
    let at = read(body.as_bytes()).ok().and_then(|document| {
        let root = document.root_element();
        root.attribute_node("version").map(|attribute| attribute.range_value())
    });
    match at.and_then(|at| Some((body.get(..at.start)?, body.get(at.end..)?))) {
        Some((before, after)) => format!("{before}{version}{after}"),
        None => body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(dialogs: &[(&str, &str)]) -> String {
        let dialogs = dialogs.iter().map(|(id, state)| {
            format!("<dialog id=\"{id}\" direction=\"recipient\"><state>{state}</state></dialog>")
        });
        let dialogs: String = dialogs.collect();
        format!(
            "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"{NAMESPACE}\" version=\"7\" \
             state=\"full\" entity=\"sip:a@x\">{dialogs}</dialog-info>"
        )
    }

    fn states(text: &str) -> Vec<(String, String)> {
        let document = read(text.as_bytes()).unwrap();
        let state = |d: Node<'_, '_>| d.first_element_child().map(text_of).unwrap_or_default();
        dialogs_of(&document)
            .map(|d| (d.attribute("id").unwrap_or_default().to_owned(), state(d)))
            .collect()
    }

    fn text_of(node: Node<'_, '_>) -> String {
        text(node).to_owned()
    }

    fn pair(id: &str, state: &str) -> (String, String) {
        (id.into(), state.into())
    }

    #[test]
    fn the_newer_of_two_dialogs_with_one_id_counts() {
        let new = body(&[("1", "terminated"), ("2", "early")]);
        let old = body(&[("1", "confirmed"), ("3", "confirmed")]);
        let all = compose("sip:a@x", &[new.as_bytes(), b"no", old.as_bytes()], false).unwrap();
        let wanted = [pair("1", "terminated"), pair("2", "early"), pair("3", "confirmed")];
        assert_eq!(states(&all), wanted);
        assert!(all.contains("version=\"0\" state=\"full\" entity=\"sip:a@x\""), "{all}");
        assert!(compose("sip:a@x", &[b"<a/>"], false).is_none());
    }

    #[test]
    fn a_phone_that_knows_one_dialog_gets_the_most_interesting() {
        let single = |dialogs: &[(&str, &str)]| {
            let body = body(dialogs);
            states(&compose("e", &[body.as_bytes()], true).unwrap())
        };
        let all = [("1", "terminated"), ("2", "confirmed"), ("3", "early"), ("4", "trying")];
        assert_eq!(single(&all), [pair("3", "early")]);
        assert_eq!(single(&all[..2]), [pair("2", "confirmed")]);
        assert_eq!(single(&[("1", "early"), ("2", "early")]), [pair("1", "early")]);
        assert!(single(&[]).is_empty());
    }

    #[test]
    fn the_end_of_a_publication_ends_its_dialogs() {
        let last = body(&[("1", "confirmed"), ("2", "early")]);
        let said = offline("sip:a@x", Some(last.as_bytes()));
        assert_eq!(states(&said), [pair("1", "terminated"), pair("2", "terminated")]);
        assert!(said.contains("direction=\"recipient\"") && !is_busy(said.as_bytes()));
        assert!(is_busy(last.as_bytes()));
        assert!(states(&offline("sip:a@x", None)).is_empty());
    }

    #[test]
    fn each_subscription_counts_its_own_version() {
        let text = body(&[("1", "early")]);
        let next = with_version(&text, 12);
        assert!(next.contains(" version=\"12\"") && !next.contains("version=\"7\""), "{next}");
        assert!(next.starts_with("<?xml version=\"1.0\"?>"));
        assert_eq!(with_version("<a/>", 1), "<a/>");
    }

    #[test]
    fn a_body_that_is_none_is_refused_with_the_reason() {
        assert!(check(body(&[]).as_bytes()).is_ok());
        assert!(check(b"<dialog-info/>").unwrap_err().contains("its root"));
        assert!(check(b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>").is_err());
    }

    prop_compose! {
        fn any_body()(
            dialogs in proptest::collection::vec(
                ("[a-d]", "(early|confirmed|terminated|trying|odd)"), 0..5),
            broken in prop::bool::weighted(0.1),
        ) -> String {
            let dialogs: Vec<_> = dialogs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let text = body(&dialogs);
            if broken { text[..text.len() / 2].to_owned() } else { text }
        }
    }

    proptest! {
        #[test]
        fn composing_is_deterministic_idempotent_and_well_formed(
            bodies in proptest::collection::vec(any_body(), 0..5), single in any::<bool>()
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
            let Some(one) = compose("sip:a@x", &bodies, single) else { return Ok(()) };
            prop_assert_eq!(compose("sip:a@x", &bodies, single).unwrap(), one.clone());
            prop_assert!(check(one.as_bytes()).is_ok());
            prop_assert_eq!(compose("sip:a@x", &[one.as_bytes()], single).unwrap(), one.clone());
            prop_assert!(check(offline("e", Some(one.as_bytes())).as_bytes()).is_ok());
            prop_assert!(!single || states(&one).len() <= 1);
        }

        #[test]
        fn no_body_panics(text in "[<>/a-c&;!\\[\\]\"= :?x\\-]{0,60}") {
            let _ = (compose("e", &[text.as_bytes()], true), with_version(&text, 1));
            let _ = (check(text.as_bytes()), offline("e", Some(text.as_bytes())));
        }
    }
}
