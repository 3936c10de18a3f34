//! PIDF documents (RFC 3863): checked, put together, and turned into one that says "closed".

use std::collections::BTreeSet;

use tandem_xml::{Document, Node, Scope, copy, copy_where, escape, read};

/// The namespace of presence documents.
pub(crate) const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
/// Their media type.
pub const CONTENT_TYPE: &str = "application/pidf+xml";
/// Documents that are put together, at most; older ones are left out.
const DOCUMENTS_MAX: usize = 64;

/// Judges a body that somebody publishes.
///
/// # Errors
/// What is wrong with it, for the reason phrase of a 400.
pub fn check(body: &[u8]) -> Result<(), String> {
    let document = read(body).map_err(|e| format!("Invalid presence document: {e}"))?;
    match is_pidf(&document) {
        true => Ok(()),
        false => Err("Invalid presence document: its root is no <presence>".into()),
    }
}

fn is_pidf(document: &Document<'_>) -> bool {
    tandem_xml::is(document.root_element(), PIDF, "presence")
}

/// One document of several, the newest of which comes first: of two elements with the same id the
/// newer one counts. `None`: there is nothing to put together.
pub fn compose(entity: &str, bodies: &[&[u8]]) -> Option<String> {
    let read_all = bodies.iter().take(DOCUMENTS_MAX).filter_map(|body| read(body).ok());
    let documents: Vec<Document<'_>> = read_all.filter(is_pidf).collect();
    if documents.is_empty() {
        return None;
    }
    let mut scope = Scope::new(PIDF);
    for document in &documents {
        scope.add(document.root_element());
    }
    let mut out = begin(entity, &scope);
    let mut seen = BTreeSet::new();
    // The schema wants tuples first, then notes, then what others define.
    for part in [Part::Tuple, Part::Note, Part::Other] {
        for document in &documents {
            let elements = document.root_element().children().filter(Node::is_element);
            for element in elements.filter(|e| Part::of(*e) == part) {
                if out.len() < tandem_xml::BYTES_MAX && seen.insert(identity(element)) {
                    out.push('\n');
                    copy(element, &scope, &mut out);
                }
            }
        }
    }
    out.push_str("\n</presence>\n");
    Some(out)
}

fn begin(entity: &str, scope: &Scope) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence");
    scope.declare(&mut out);
    out.push_str(" entity=\"");
    escape(entity, &mut out);
    out.push_str("\">");
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Tuple,
    Note,
    Other,
}

impl Part {
    fn of(element: Node<'_, '_>) -> Self {
        let tag = element.tag_name();
        match (tag.namespace(), tag.name()) {
            (Some(PIDF), "tuple") => Self::Tuple,
            (Some(PIDF), "note") => Self::Note,
            _ => Self::Other,
        }
    }
}

/// What makes two elements the same: kind and id, or the whole text of those that have no id.
fn identity(element: Node<'_, '_>) -> (String, String, String) {
    let tag = element.tag_name();
    let namespace = tag.namespace().unwrap_or_default().to_owned();
    let text = || element.document().input_text().get(element.range()).unwrap_or_default();
    let what = match element.attribute("id") {
        Some(id) => format!("#{id}"),
        None => text().to_owned(),
    };
    (namespace, tag.name().to_owned(), what)
}

/// What watchers are told of somebody who publishes nothing any more: the tuples of the last
/// document, all of them closed, or one of its own.
pub fn offline(entity: &str, last: Option<&[u8]>) -> String {
    let mut scope = Scope::new(PIDF);
    let document = last.and_then(|body| read(body).ok()).filter(is_pidf);
    if let Some(document) = &document {
        scope.add(document.root_element());
    }
    let mut out = begin(entity, &scope);
    let root = document.as_ref().map(|d| d.root_element());
    let elements = root.into_iter().flat_map(|root| root.children().filter(Node::is_element));
    let mut ids = BTreeSet::new();
    for tuple in elements.filter(|e| Part::of(*e) == Part::Tuple) {
        let id = tuple.attribute("id").unwrap_or("offline").to_owned();
        if out.len() < tandem_xml::BYTES_MAX && ids.insert(id.clone()) {
            closed(&id, Some((tuple, &scope)), &mut out);
        }
    }
    if ids.is_empty() {
        closed("offline", None, &mut out);
    }
    out.push_str("\n</presence>\n");
    out
}

fn closed(id: &str, like: Option<(Node<'_, '_>, &Scope)>, out: &mut String) {
    out.push_str("\n<tuple id=\"");
    escape(id, out);
    out.push_str("\"><status><basic>closed</basic></status>");
    let contact = like.and_then(|(tuple, scope)| {
        let found = tuple.children().find(|n| tandem_xml::is(*n, PIDF, "contact"))?;
        Some((found, scope))
    });
    if let Some((contact, scope)) = contact {
        copy_where(contact, scope, &|_| false, out);
    }
    out.push_str("</tuple>");
}

/// A document that says that somebody is on the phone (RFC 4480 3.2).
pub fn on_the_phone(entity: &str) -> String {
    let mut out = begin(entity, &Scope::new(PIDF));
    out.push_str(
        "\n<tuple id=\"dialog\"><status><basic>open</basic></status></tuple>\
         \n<note>On the phone</note>\
         \n<dm:person xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" id=\"dialog\"><rpid:activities>\
         <rpid:on-the-phone/></rpid:activities></dm:person>\n</presence>\n",
    );
    out
}

/// Whether somebody can be reached by what a document says.
pub fn is_open(body: &[u8]) -> bool {
    let Ok(document) = read(body) else { return false };
    let open = |n: Node<'_, '_>| tandem_xml::is(n, PIDF, "basic") && tandem_xml::text(n) == "open";
    document.descendants().any(open)
}

/// The sphere that a document tells (RFC 4480 3.10): the newest person's.
pub fn sphere(body: &[u8]) -> Option<String> {
    let document = read(body).ok()?;
    let sphere =
        document.descendants().find(|n| n.is_element() && n.tag_name().name() == "sphere")?;
    let child = sphere.first_element_child().map(|child| child.tag_name().name().to_owned());
    let own = tandem_xml::text(sphere);
    child.or_else(|| (!own.is_empty()).then(|| own.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(tuples: &[(&str, &str)], rest: &str) -> String {
        let tuples = tuples.iter().map(|(id, basic)| {
            format!("<tuple id=\"{id}\"><status><basic>{basic}</basic></status></tuple>")
        });
        let tuples: String = tuples.collect();
        format!(
            "<?xml version=\"1.0\"?><presence xmlns=\"{PIDF}\" entity=\"sip:x@y\">{tuples}{rest}\
             </presence>"
        )
    }

    fn tuples(text: &str) -> Vec<(String, String)> {
        let document = read(text.as_bytes()).unwrap();
        let basic = |n: Node<'_, '_>| {
            let basic = n.descendants().find(|n| n.tag_name().name() == "basic");
            basic.and_then(|n| n.text().map(str::to_owned))
        };
        let all = document.root_element().children().filter(|n| n.tag_name().name() == "tuple");
        all.map(|n| (n.attribute("id").unwrap().into(), basic(n).unwrap_or_default())).collect()
    }

    fn pair(id: &str, basic: &str) -> (String, String) {
        (id.into(), basic.into())
    }

    #[test]
    fn the_newer_of_two_tuples_with_one_id_counts() {
        let new = document(&[("a", "open"), ("b", "closed")], "");
        let old = document(&[("b", "open"), ("c", "open")], "<note>n</note>");
        let one = compose("sip:al&ice@x", &[new.as_bytes(), b"<broken", old.as_bytes()]).unwrap();
        let wanted = [pair("a", "open"), pair("b", "closed"), pair("c", "open")];
        assert_eq!(tuples(&one), wanted);
        assert!(one.contains("entity=\"sip:al&amp;ice@x\"") && one.contains("<note>n</note>"));
        assert!(compose("sip:a@x", &[b"", b"<a/>"]).is_none());
    }

    #[test]
    fn prefixes_that_clash_stay_with_their_elements() {
        let new = format!(
            "<p:presence xmlns:p=\"{PIDF}\" xmlns:d=\"urn:one\" entity=\"e\"><p:tuple id=\"a\">\
             <p:status><p:basic>open</p:basic></p:status><d:x/></p:tuple></p:presence>"
        );
        let old = format!(
            "<presence xmlns=\"{PIDF}\" xmlns:d=\"urn:two\" entity=\"e\"><d:person id=\"q\"/>\
             </presence>"
        );
        let one = compose("e", &[new.as_bytes(), old.as_bytes()]).unwrap();
        let read = read(one.as_bytes()).unwrap();
        let find = |name: &str| read.descendants().find(|n| n.tag_name().name() == name).unwrap();
        assert_eq!(find("x").tag_name().namespace(), Some("urn:one"));
        assert_eq!(find("person").tag_name().namespace(), Some("urn:two"));
        assert_eq!(find("basic").tag_name().namespace(), Some(PIDF));
    }

    #[test]
    fn somebody_who_went_has_closed_tuples() {
        let rest = "<x xmlns=\"urn:x\"/>";
        let last = document(&[("a", "open"), ("b", "open")], rest);
        let said = offline("sip:a@x", Some(last.as_bytes()));
        assert_eq!(tuples(&said), [pair("a", "closed"), pair("b", "closed")]);
        assert!(!said.contains("urn:x") && !is_open(said.as_bytes()));
        assert_eq!(tuples(&offline("sip:a@x", None)), [pair("offline", "closed")]);
        assert!(is_open(on_the_phone("sip:a@x").as_bytes()));
        assert!(is_open(last.as_bytes()));
    }

    #[test]
    fn many_names_times_many_elements_make_no_mountain() {
        let names: String = (0..1500).map(|n| format!(" xmlns:a{n}=\"b\"")).collect();
        let elements: String = (0..2000).map(|n| format!("<x{n}/>")).collect();
        let bomb = format!("<presence xmlns=\"{PIDF}\"{names} entity=\"e\">{elements}</presence>");
        assert!(check(bomb.as_bytes()).is_ok());
        let one = compose("e", &[bomb.as_bytes()]).unwrap();
        assert!(one.len() < 2 * tandem_xml::BYTES_MAX, "{}", one.len());
        assert!(check(one.as_bytes()).is_ok() || one.len() > tandem_xml::BYTES_MAX);
    }

    #[test]
    fn a_body_that_is_none_is_refused_with_the_reason() {
        assert!(check(document(&[], "").as_bytes()).is_ok());
        assert!(check(b"<presence/>").unwrap_err().contains("its root"));
        assert!(check(b"<a").is_err() && check(b"").is_err());
        assert!(check(b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>").is_err());
    }

    #[test]
    fn a_sphere_is_read() {
        let person = "<p xmlns=\"urn:p\"><sphere><work/></sphere></p>";
        assert_eq!(sphere(document(&[], person).as_bytes()).as_deref(), Some("work"));
        let person = "<p xmlns=\"urn:p\"><sphere> home </sphere></p>";
        assert_eq!(sphere(document(&[], person).as_bytes()).as_deref(), Some("home"));
        assert_eq!(sphere(document(&[], "").as_bytes()), None);
    }

    prop_compose! {
        fn any_document()(
            tuples in proptest::collection::vec(("[a-d]", "(open|closed)"), 0..4),
            prefix in "(d|e|xx)", uri in "(urn:1|urn:2|urn:ietf:params:xml:ns:pidf)",
            person in prop::option::of("[a-b]"),
            broken in prop::bool::weighted(0.1),
        ) -> String {
            let all: String = tuples.iter().map(|(id, basic)| format!(
                "<tuple id=\"{id}\"><status><basic>{basic}</basic></status><{prefix}:z/></tuple> "
            )).collect();
            let person = person.map(|id| format!("<{prefix}:person id='{id}'/>"));
            let text = format!(
                "<presence xmlns='{PIDF}' xmlns:{prefix}='{uri}' entity='e'>{all}{}</presence>",
                person.unwrap_or_default()
            );
            if broken { text[..text.len() / 2].to_owned() } else { text }
        }
    }

    proptest! {
        #[test]
        fn composing_is_deterministic_idempotent_and_well_formed(
            bodies in proptest::collection::vec(any_document(), 0..5)
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
            let Some(one) = compose("sip:a@x", &bodies) else { return Ok(()) };
            prop_assert_eq!(compose("sip:a@x", &bodies).unwrap(), one.clone());
            prop_assert!(check(one.as_bytes()).is_ok(), "{}", one);
            let again = compose("sip:a@x", &[one.as_bytes()]).unwrap();
            prop_assert_eq!(&again, &one);
            prop_assert!(check(offline("e", Some(one.as_bytes())).as_bytes()).is_ok());
            let mut ids: Vec<_> = tuples(&one).into_iter().map(|(id, _)| id).collect();
            let before = ids.len();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), before);
        }

        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (check(&body), compose("e", &[&body]), sphere(&body));
            let _ = (offline("e", Some(&body)), is_open(&body));
        }
    }
}
