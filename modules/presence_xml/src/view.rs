//! What of a document a watcher may see: the transformations of RFC 5025 3.3.

use std::collections::BTreeSet;

use tandem_xml::{Node, Scope, copy_parts, read, text};

use crate::pidf::PIDF;

/// The namespace of persons and devices (RFC 4479).
const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
/// Texts that a view keeps, at most.
const NAMES_MAX: usize = 1000;

/// Which services, persons or devices are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Which {
    all: bool,
    /// What to look at (`class`, `service-uri`, ..), and what has to stand there.
    named: BTreeSet<(String, String)>,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    whole: bool,
    services: Which,
    persons: Which,
    devices: Which,
    /// Every attribute.
    attributes: bool,
    /// Names of attributes that are shown.
    names: BTreeSet<String>,
}

/// What of `user-input` a rule grants beside the element: no names of elements.
const THRESHOLDS: &str = "user-input:thresholds";
const FULL: &str = "user-input:full";

/// Attributes that a rule has to grant (RFC 5025 3.3.2); anything else is shown with its service,
/// person or device.
const GRANTED: [(&str, &[&str]); 12] = [
    ("provide-activities", &["activities"]),
    ("provide-class", &["class"]),
    ("provide-deviceID", &["deviceID"]),
    ("provide-mood", &["mood"]),
    ("provide-place-is", &["place-is"]),
    ("provide-place-type", &["place-type"]),
    ("provide-privacy", &["privacy"]),
    ("provide-relationship", &["relationship"]),
    ("provide-status-icon", &["status-icon"]),
    ("provide-sphere", &["sphere"]),
    ("provide-time-offset", &["time-offset"]),
    ("provide-note", &["note"]),
];

impl View {
    /// The whole document.
    pub fn everything() -> Self {
        Self { whole: true, ..Self::nothing() }
    }

    pub fn nothing() -> Self {
        Self {
            whole: false,
            services: Which::default(),
            persons: Which::default(),
            devices: Which::default(),
            attributes: false,
            names: BTreeSet::new(),
        }
    }

    pub fn is_everything(&self) -> bool {
        self.whole
    }

    /// Adds what the transformations of a rule grant.
    pub(crate) fn add(&mut self, transformations: Node<'_, '_>) {
        for grant in transformations.children().filter(Node::is_element) {
            let name = grant.tag_name().name();
            match name {
                "provide-services" => self.services.add(grant, "all-services"),
                "provide-persons" => self.persons.add(grant, "all-persons"),
                "provide-devices" => self.devices.add(grant, "all-devices"),
                "provide-all-attributes" => self.attributes = true,
                "provide-unknown-attribute" => {
                    if let Some(name) = grant.attribute("name").filter(|_| is_true(grant)) {
                        self.name(name);
                    }
                }
                "provide-user-input" => self.add_user_input(text(grant)),
                _ if is_true(grant) => {
                    let known = GRANTED.iter().find(|(grant, _)| *grant == name);
                    let names = known.map(|(_, names)| *names).unwrap_or_default();
                    names.iter().for_each(|name| self.name(name));
                }
                _ => {}
            }
        }
    }

    /// The values grant more and more: `bare` no attributes, `thresholds` one of them, `full` all
    /// (RFC 5025 3.3.2.13). What is not known grants nothing.
    fn add_user_input(&mut self, value: &str) {
        let grants: &[&str] = match value {
            "bare" => &["user-input"],
            "thresholds" => &["user-input", THRESHOLDS],
            "full" => &["user-input", THRESHOLDS, FULL],
            _ => &[],
        };
        grants.iter().for_each(|name| self.name(name));
    }

    /// Whether an attribute of an element is shown.
    fn shows_xml_attribute(&self, node: Node<'_, '_>, name: &str) -> bool {
        let is_granted = |grant: &str| self.attributes || self.names.contains(grant);
        match (node.tag_name().name(), name) {
            ("user-input", "idle-threshold") => is_granted(THRESHOLDS),
            ("user-input", "last-input" | "since") => is_granted(FULL),
            _ => true,
        }
    }

    fn name(&mut self, name: &str) {
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.to_owned());
        }
    }

    /// What it says, in lines; [`View::parse`] reads it on any node.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.whole {
            lines.push("*".to_owned());
        }
        for (mark, which) in [('S', &self.services), ('P', &self.persons), ('D', &self.devices)] {
            if which.all {
                lines.push(format!("{mark}*"));
            }
            lines.extend(which.named.iter().map(|(what, value)| format!("{mark}{what}={value}")));
        }
        if self.attributes {
            lines.push("A*".to_owned());
        }
        lines.extend(self.names.iter().map(|name| format!("A{name}")));
        // One that shows nothing is not the empty text.
        format!("view\n{}", lines.join("\n"))
    }

    /// Reads what [`View::text`] has written. `None`: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        if lines.next() != Some("view") {
            return None;
        }
        let mut view = Self::nothing();
        for line in lines.filter(|line| !line.is_empty()) {
            let (mark, rest) = line.split_at_checked(1)?;
            let which = match mark {
                "*" => {
                    view.whole = true;
                    continue;
                }
                "A" if rest == "*" => {
                    view.attributes = true;
                    continue;
                }
                "A" => {
                    view.name(rest);
                    continue;
                }
                "S" => &mut view.services,
                "P" => &mut view.persons,
                "D" => &mut view.devices,
                _ => return None,
            };
            match rest.split_once('=') {
                None if rest == "*" => which.all = true,
                Some((what, value)) => which.name(what, value),
                None => return None,
            }
        }
        Some(view)
    }

    /// The document as the watcher sees it; `None`: it is no document.
    pub fn of(&self, body: &[u8]) -> Option<String> {
        let document = read(body).ok()?;
        if self.whole {
            return Some(document.input_text().to_owned());
        }
        let mut out = String::with_capacity(body.len());
        let root = document.root_element();
        let before = document.input_text().get(..root.range().start).unwrap_or_default();
        out.push_str(before);
        let mut scope = Scope::new(root.default_namespace().unwrap_or_default());
        scope.add(root);
        let shows_attribute = |n: Node<'_, '_>, name: &str| self.shows_xml_attribute(n, name);
        copy_parts(root, &scope, &|n| self.shows(n, root), &shows_attribute, &mut out);
        out.push('\n');
        Some(out)
    }

    fn shows(&self, node: Node<'_, '_>, root: Node<'_, '_>) -> bool {
        let parent = node.parent();
        if parent == Some(root) {
            return match (node.tag_name().namespace(), node.tag_name().name()) {
                (Some(PIDF), "tuple") => self.services.has(node),
                (Some(DATA_MODEL), "person") => self.persons.has(node),
                (Some(DATA_MODEL), "device") => self.devices.has(node),
                (Some(PIDF), "note") => self.attributes || self.names.contains("note"),
                _ => self.attributes,
            };
        }
        let is_attribute = parent.and_then(|p| p.parent()) == Some(root);
        !is_attribute || self.shows_attribute(node)
    }

    fn shows_attribute(&self, node: Node<'_, '_>) -> bool {
        let name = node.tag_name().name();
        // What a tuple cannot be without, and when it was written.
        let always = node.tag_name().namespace() == Some(PIDF)
            && matches!(name, "status" | "contact" | "timestamp");
        let always = always || (name == "deviceID" && parent_is(node, DATA_MODEL, "device"));
        always || self.attributes || self.names.contains(name)
    }
}

fn parent_is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.parent().is_some_and(|parent| tandem_xml::is(parent, namespace, name))
}

fn is_true(node: Node<'_, '_>) -> bool {
    matches!(text(node), "true" | "1")
}

impl Which {
    fn add(&mut self, grant: Node<'_, '_>, all: &str) {
        for which in grant.children().filter(Node::is_element) {
            let name = which.tag_name().name();
            if name == all {
                self.all = true;
            } else {
                self.name(name, text(which));
            }
        }
    }

    fn name(&mut self, what: &str, value: &str) {
        if self.named.len() < NAMES_MAX {
            // A view is kept in lines.
            self.named.insert((what.to_owned(), value.replace(['\n', '\r'], " ")));
        }
    }

    fn has(&self, node: Node<'_, '_>) -> bool {
        self.all || self.named.iter().any(|(what, value)| is_named(node, what, value))
    }
}

/// Whether a service, person or device is what a rule names.
fn is_named(node: Node<'_, '_>, what: &str, value: &str) -> bool {
    let child = |name: &str| {
        node.children().find(|n| n.is_element() && n.tag_name().name() == name).map(text)
    };
    match what {
        "class" => child("class") == Some(value),
        "occurrence-id" => node.attribute("id") == Some(value),
        "deviceID" | "device-id" => child("deviceID") == Some(value),
        "service-uri" => child("contact") == Some(value),
        "service-uri-scheme" => {
            let scheme = child("contact").and_then(|c| c.split_once(':')).map(|(s, _)| s);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "<?xml version=\"1.0\"?>\n\
        <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
        xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" xmlns:r=\"urn:rpid\" entity=\"e\">\
        <tuple id=\"a\"><status><basic>open</basic></status><r:class>home</r:class>\
        <contact>sip:a@x</contact></tuple>\
        <tuple id=\"b\"><status><basic>open</basic></status><contact>mailto:a@x</contact></tuple>\
        <note>n</note><dm:person id=\"p\"><r:mood>m</r:mood><r:activities>busy</r:activities>\
        </dm:person><dm:device id=\"d\"><dm:deviceID>urn:d</dm:deviceID></dm:device></presence>";

    fn seen(grants: &str) -> Vec<String> {
        let text = format!("<t>{grants}</t>");
        let document = read(text.as_bytes()).unwrap();
        let mut view = View::nothing();
        view.add(document.root_element());
        let shown = view.of(BODY.as_bytes()).unwrap();
        let shown = read(shown.as_bytes()).unwrap();
        let all = shown.descendants().filter(Node::is_element).skip(1);
        all.map(|n| n.tag_name().name().to_owned()).collect()
    }

    #[test]
    fn nothing_is_shown_that_is_not_granted() {
        assert!(seen("").is_empty());
        assert_eq!(
            seen("<provide-services><all-services/></provide-services>"),
            ["tuple", "status", "basic", "contact", "tuple", "status", "basic", "contact"]
        );
        let one = ["tuple", "status", "basic", "contact"];
        for which in [
            "<class>home</class>",
            "<occurrence-id>b</occurrence-id>",
            "<service-uri>sip:a@x</service-uri>",
            "<service-uri-scheme>mailto</service-uri-scheme>",
        ] {
            assert_eq!(seen(&format!("<provide-services>{which}</provide-services>")), one);
        }
    }

    #[test]
    fn a_view_is_read_as_it_was_written() {
        let grants = "<t><provide-services><class>a=b</class><all-services/></provide-services>\
            <provide-persons><occurrence-id>x</occurrence-id></provide-persons>\
            <provide-mood>true</provide-mood><provide-all-attributes/></t>";
        let mut view = View::nothing();
        view.add(read(grants.as_bytes()).unwrap().root_element());
        for view in [view, View::nothing(), View::everything()] {
            assert_eq!(View::parse(&view.text()).unwrap(), view);
        }
        assert!(View::parse("").is_none() && View::parse("view\nX").is_none());
    }

    #[test]
    fn attributes_are_granted_by_name() {
        let persons = "<provide-persons><all-persons/></provide-persons>";
        assert_eq!(seen(persons), ["person"]);
        let mood = format!("{persons}<provide-mood>true</provide-mood>");
        assert_eq!(seen(&mood), ["person", "mood"]);
        let unknown = format!(
            "{persons}<provide-unknown-attribute name=\"activities\">true\
             </provide-unknown-attribute>"
        );
        assert_eq!(seen(&unknown), ["person", "activities"]);
        let no = format!("{persons}<provide-mood>false</provide-mood>");
        assert_eq!(seen(&no), ["person"]);
        let all = format!("{persons}<provide-all-attributes/>");
        assert_eq!(seen(&all), ["note", "person", "mood", "activities"]);
        let input = |value: &str| {
            let grants =
                format!("<t>{persons}<provide-user-input>{value}</provide-user-input></t>");
            let mut view = View::nothing();
            view.add(read(grants.as_bytes()).unwrap().root_element());
            let body = BODY.replace(
                "<r:mood>",
                "<r:user-input idle-threshold=\"600\" last-input=\"t\" x=\"1\">idle\
                 </r:user-input><r:mood>",
            );
            let shown = View::parse(&view.text()).unwrap().of(body.as_bytes()).unwrap();
            let at = shown.find("<r:user-input").map(|at| &shown[at..]);
            at.and_then(|rest| rest.split_once('>')).map(|(tag, _)| tag.to_owned())
        };
        assert_eq!(input("false"), None);
        assert_eq!(input("odd"), None);
        assert_eq!(input("bare").as_deref(), Some("<r:user-input x=\"1\""));
        let thresholds = "<r:user-input idle-threshold=\"600\" x=\"1\"";
        assert_eq!(input("thresholds").as_deref(), Some(thresholds));
        let full = "<r:user-input idle-threshold=\"600\" last-input=\"t\" x=\"1\"";
        assert_eq!(input("full").as_deref(), Some(full));
        let device = "<provide-devices><deviceID>urn:d</deviceID></provide-devices>";
        assert_eq!(seen(device), ["device", "deviceID"]);
        assert_eq!(View::everything().of(BODY.as_bytes()).as_deref(), Some(BODY));
    }
}
