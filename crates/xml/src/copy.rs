//! Elements copied from one document into another.

use std::fmt::Write as _;

use roxmltree::Node;

use crate::escape::escape;

/// Declarations of a root, at most; those of further documents go with their elements.
const DECLARATIONS_MAX: usize = 32;

/// The namespaces that are declared around what is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The one without a prefix; empty: none.
    default: String,
    prefixed: Vec<(String, String)>,
}

impl Scope {
    /// `default` is the namespace of names without prefix.
    pub fn new(default: &str) -> Self {
        Self { default: default.to_owned(), prefixed: Vec::new() }
    }

    /// Takes over the prefixes of a root that mean nothing else here.
    pub fn add(&mut self, root: Node<'_, '_>) {
        for (prefix, uri) in prefixes(root) {
            let known = self.prefixed.iter().any(|(p, _)| p == prefix);
            if !known && self.prefixed.len() < DECLARATIONS_MAX {
                self.prefixed.push((prefix.to_owned(), uri.to_owned()));
            }
        }
    }

    /// Writes the declarations into a start tag.
    pub fn declare(&self, out: &mut String) {
        if !self.default.is_empty() {
            attribute("xmlns", &self.default, out);
        }
        let mut sorted: Vec<_> = self.prefixed.iter().collect();
        sorted.sort_unstable();
        for (prefix, uri) in sorted {
            attribute(&format!("xmlns:{prefix}"), uri, out);
        }
    }

    fn has(&self, prefix: &str, uri: &str) -> bool {
        self.prefixed.iter().any(|(p, u)| p == prefix && u == uri)
    }
}

fn attribute(name: &str, value: &str, out: &mut String) {
    let _ = write!(out, " {name}=\"");
    escape(value, out);
    out.push('"');
}

/// The prefixes that a node sees. The nearest declaration counts.
fn prefixes<'a>(node: Node<'a, '_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    node.namespaces().filter_map(|ns| Some((ns.name()?, ns.uri()))).filter(|(p, _)| *p != "xml")
}

/// Copies an element as it was written, with the namespaces that it would miss.
pub fn copy(node: Node<'_, '_>, scope: &Scope, out: &mut String) {
    copy_where(node, scope, &|_| true, out);
}

/// Copies an element without those within it that are not to be kept.
pub fn copy_where(
    node: Node<'_, '_>,
    scope: &Scope,
    keep: &dyn Fn(Node<'_, '_>) -> bool,
    out: &mut String,
) {
    copy_parts(node, scope, keep, &|_, _| true, out);
}

/// The same, without those attributes of the elements within it that are not to be kept.
pub fn copy_parts(
    node: Node<'_, '_>,
    scope: &Scope,
    keep: &dyn Fn(Node<'_, '_>) -> bool,
    keep_attribute: &dyn Fn(Node<'_, '_>, &str) -> bool,
    out: &mut String,
) {
    let source = node.document().input_text();
    let range = node.range();
    let Some(text) = source.get(range.clone()) else { return };
    let name = text.find([' ', '\t', '\r', '\n', '/', '>']).unwrap_or(text.len());
    out.push_str(text.get(..name).unwrap_or_default());
    add_missing(node, text, scope, out);
    let mut at = range.start + name;
    // An element that is left out takes everything within it along.
    let mut skipped_to = range.start;
    for inner in node.descendants().skip(1).filter(Node::is_element) {
        let gone = inner.range();
        if gone.start >= skipped_to && !keep(inner) {
            out.push_str(source.get(at..gone.start).unwrap_or_default());
            (at, skipped_to) = (gone.end, gone.end);
        } else if gone.start >= skipped_to {
            for attribute in inner.attributes().filter(|a| !keep_attribute(inner, a.name())) {
                let gone = attribute.range();
                out.push_str(source.get(at..gone.start).unwrap_or_default().trim_end());
                at = gone.end;
            }
        }
    }
    out.push_str(source.get(at..range.end).unwrap_or_default());
}

/// Declares what the element sees in its own document and would not see in the new place.
fn add_missing(node: Node<'_, '_>, text: &str, scope: &Scope, out: &mut String) {
    for (prefix, uri) in prefixes(node) {
        let name = format!("xmlns:{prefix}");
        if !scope.has(prefix, uri) && !start_tag_declares(text, &name) {
            attribute(&name, uri, out);
        }
    }
    let default = node.default_namespace().unwrap_or_default();
    if default != scope.default && !start_tag_declares(text, "xmlns") {
        attribute("xmlns", default, out);
    }
}

/// Whether the start tag at the beginning of a text has an attribute of this name.
pub fn start_tag_declares(text: &str, wanted: &str) -> bool {
    let mut rest = text;
    let Some(after_name) = rest.find([' ', '\t', '\r', '\n', '/', '>']) else { return false };
    rest = rest.get(after_name..).unwrap_or_default();
    loop {
        rest = rest.trim_start();
        let Some(end) = rest.find(['=', '>', '/']) else { return false };
        let (name, after) = rest.split_at(end);
        let Some(after) = after.strip_prefix('=') else { return false };
        if name.trim_end() == wanted {
            return true;
        }
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return false;
        };
        let Some((_, next)) = after.get(1..).and_then(|a| a.split_once(quote)) else {
            return false;
        };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    fn copied(text: &str, scope: &Scope) -> String {
        let document = read(text.as_bytes()).unwrap();
        let mut out = String::new();
        copy(document.root_element().first_element_child().unwrap(), scope, &mut out);
        out
    }

    #[test]
    fn what_an_element_would_miss_goes_with_it_and_nothing_else() {
        let mut scope = Scope::new("urn:d");
        let same = r#"<r xmlns="urn:d" xmlns:p="urn:p"><e a='1'><p:x/></e></r>"#;
        scope.add(read(same.as_bytes()).unwrap().root_element());
        assert_eq!(copied(same, &scope), "<e a='1'><p:x/></e>");
        let other = r#"<q:r xmlns:q="urn:d" xmlns:p="urn:other"><q:e><p:x/></q:e></q:r>"#;
        let copy = copied(other, &scope);
        for wanted in [r#"xmlns:q="urn:d""#, r#"xmlns:p="urn:other""#, r#"xmlns="""#] {
            assert_eq!(copy.matches(wanted).count(), 1, "{copy}");
        }
        let own = r#"<r><e xmlns='urn:d'/></r>"#;
        assert_eq!(copied(own, &scope), "<e xmlns='urn:d'/>");
    }

    #[test]
    fn what_is_not_kept_is_left_out_with_all_within() {
        let text = "<r><e><a><b/></a>t<c>u</c></e></r>";
        let document = read(text.as_bytes()).unwrap();
        let node = document.root_element().first_element_child().unwrap();
        let mut out = String::new();
        copy_where(node, &Scope::default(), &|n| n.tag_name().name() != "a", &mut out);
        assert_eq!(out, "<e>t<c>u</c></e>");
    }

    #[test]
    fn attributes_of_a_start_tag_are_found() {
        let text = r#"<e a = "x>y" xmlns:p='q'/>"#;
        assert!(start_tag_declares(text, "a") && start_tag_declares(text, "xmlns:p"));
        assert!(!start_tag_declares(text, "xmlns") && !start_tag_declares("<e>", "a"));
    }
}
