//! XML of strangers: read within limits, and put together again as text.
//!
//! A document is read into a tree that points into the text. What is passed on is copied as it
//! was written; only the namespaces that it needs and would miss in its new place are added.
//!
//! # Promises
//! - A document has at most so many bytes, nodes and levels; one with a DTD is refused, so no
//!   entity can grow.
//! - Copying is deterministic, and copying a copy gives the same text.

mod copy;
mod escape;

use roxmltree::ParsingOptions;

pub use copy::{Scope, copy, copy_parts, copy_where, start_tag_declares};
pub use escape::{escape, escaped};
pub use roxmltree::{Document, Node};

/// Bytes of a document, at most.
pub const BYTES_MAX: usize = 128 * 1024;
/// Elements, texts and comments of a document, at most.
pub const NODES_MAX: u32 = 8192;
/// Levels of a document, at most.
pub const DEPTH_MAX: usize = 64;

/// Why a document is not read.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it has more than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("{0}")]
    Malformed(#[from] roxmltree::Error),
}

/// Reads a document.
///
/// # Errors
/// What is wrong with it: it is too large, too deep, has a DTD, or is no XML.
pub fn read(bytes: &[u8]) -> Result<Document<'_>, XmlError> {
    if bytes.len() > BYTES_MAX {
        return Err(XmlError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)?;
    match is_deep(&document) {
        true => Err(XmlError::TooDeep),
        false => Ok(document),
    }
}

/// Whether a document has too many levels; it is walked without recursion.
fn is_deep(document: &Document<'_>) -> bool {
    let (mut node, mut depth) = (document.root(), 0usize);
    loop {
        if let Some(child) = node.first_child() {
            (node, depth) = (child, depth + 1);
            if depth > DEPTH_MAX {
                return true;
            }
            continue;
        }
        loop {
            if let Some(next) = node.next_sibling() {
                node = next;
                break;
            }
            let Some(parent) = node.parent() else { return false };
            (node, depth) = (parent, depth.saturating_sub(1));
        }
    }
}

/// The media type of a Content-Type, without its parameters.
pub fn media_type(content_type: &[u8]) -> &str {
    let text = std::str::from_utf8(content_type).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether a node is an element of this namespace and name.
pub fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    let tag = node.tag_name();
    node.is_element() && tag.name() == name && tag.namespace() == Some(namespace)
}

/// The children of a node that are elements of this name, in any namespace.
pub fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> + 'a
where
    'i: 'a,
{
    node.children().filter(move |n| n.is_element() && n.tag_name().name() == name)
}

/// The text of an element without the blanks around it.
pub fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dtd_is_refused_so_that_no_entity_grows() {
        let bomb =
            "<!DOCTYPE a [<!ENTITY x \"xxxxxxxxxx\"><!ENTITY y \"&x;&x;&x;&x;\">]><a>&y;</a>";
        assert!(matches!(read(bomb.as_bytes()), Err(XmlError::Malformed(_))));
        let outside = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>";
        assert!(matches!(read(outside.as_bytes()), Err(XmlError::Malformed(_))));
        assert!(matches!(read(b"<a>&y;</a>"), Err(XmlError::Malformed(_))));
    }

    #[test]
    fn size_and_depth_have_limits() {
        let deep = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
        assert!(read(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert!(matches!(read(deep(DEPTH_MAX + 1).as_bytes()), Err(XmlError::TooDeep)));
        assert!(matches!(read(deep(5000).as_bytes()), Err(XmlError::TooDeep)));
        let wide = format!("<a>{}</a>", "<b/>".repeat(9000));
        assert!(matches!(read(wide.as_bytes()), Err(XmlError::Malformed(_))));
        let long = format!("<a>{}</a>", "b".repeat(BYTES_MAX));
        assert!(matches!(read(long.as_bytes()), Err(XmlError::TooLong)));
        assert!(matches!(read(b"<a>\xff</a>"), Err(XmlError::NotUtf8)));
    }

    #[test]
    fn a_media_type_has_no_parameters() {
        assert_eq!(media_type(b"text/xml ;charset=\"UTF-8\""), "text/xml");
        assert_eq!((media_type(b""), media_type(b"\xff/a")), ("", ""));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[<>/a-c&;!\\[\\]\"= :?x\\-]{0,60}") {
            let _ = read(text.as_bytes());
        }

        #[test]
        fn what_is_escaped_is_read_back(value in "\\PC{0,30}") {
            let text = format!("<a b=\"{}\">{}</a>", escaped(&value), escaped(&value));
            let document = read(text.as_bytes()).unwrap();
            let root = document.root_element();
            prop_assert_eq!(root.attribute("b").unwrap(), &value);
            prop_assert_eq!(root.text().unwrap_or_default(), &value);
        }
    }
}
