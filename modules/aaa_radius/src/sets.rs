//! Sets: which attribute has the value of which variable.

use tandem_script::program::{TextPart, VarId};

/// Sets of a script, and attributes of one, at most.
pub(crate) const SETS_MAX: usize = 256;
const PAIRS_MAX: usize = 64;

const FORM: &str = "write \"name = (Attribute = $variable, Attribute = $variable)\"";

/// See the module.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) pairs: Vec<(String, VarId)>,
}

impl Set {
    /// Reads a value of the parameter `sets`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(parts: &[TextPart]) -> Result<Self, String> {
        let [TextPart::Text(first), between @ .., TextPart::Text(last)] = parts else {
            return Err(format!("it names no variable: {FORM}"));
        };
        let first = String::from_utf8_lossy(first);
        let (name, attribute) = first.split_once('(').ok_or(format!("`(` is missing: {FORM}"))?;
        let name = name.trim().strip_suffix('=').map(str::trim);
        let name = name.filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
        let name = name.ok_or(format!("its name is missing: {FORM}"))?.to_owned();
        let mut pairs = Vec::new();
        let mut next = Some(left_of(attribute)?);
        for part in between {
            match (part, next.take()) {
                (TextPart::Var(var), Some(attribute)) => pairs.push((attribute, *var)),
                (TextPart::Text(text), None) => {
                    let text = String::from_utf8_lossy(text);
                    let text = text.trim().strip_prefix(',');
                    let text = text.ok_or(format!("`{name}`: `,` is missing: {FORM}"))?;
                    next = Some(left_of(text)?);
                }
                _ => return Err(format!("`{name}`: one variable follows another: {FORM}")),
            }
        }
        let end = String::from_utf8_lossy(last);
        if next.is_some() || end.trim().trim_start_matches(',').trim() != ")" {
            return Err(format!("`{name}` does not end with `)` behind a variable: {FORM}"));
        }
        if pairs.len() > PAIRS_MAX {
            return Err(format!("`{name}` has more than {PAIRS_MAX} attributes"));
        }
        Ok(Self { name, pairs })
    }
}

/// The attribute of `Attribute =`.
fn left_of(text: &str) -> Result<String, String> {
    let name = text.trim().strip_suffix('=').map(str::trim);
    let name = name.filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
    name.map(str::to_owned).ok_or_else(|| format!("`{}` is no `Attribute =`: {FORM}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// A text in which `$` is a variable.
    fn parts(text: &str) -> Vec<TextPart> {
        let texts: Vec<&str> = text.split('$').collect();
        let mut parts = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                parts.push(TextPart::Var(VarId(at as u32)));
            }
            if !text.is_empty() {
                parts.push(TextPart::Text(Bytes::copy_from_slice(text.as_bytes())));
            }
        }
        parts
    }

    #[test]
    fn attributes_have_variables() {
        let set = Set::parse(&parts(" one = ( User-Name = $, Sip-Group=$ ) ")).unwrap();
        let pairs: Vec<_> = set.pairs.iter().map(|(name, var)| (name.as_str(), var.0)).collect();
        assert_eq!((set.name.as_str(), pairs), ("one", vec![("User-Name", 1), ("Sip-Group", 2)]));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (text, why) in [
            ("", "names no variable"),
            ("a = (B = x)", "names no variable"),
            ("a = B = $)", "`(` is missing"),
            ("= (B = $)", "its name is missing"),
            ("a b = (B = $)", "its name is missing"),
            ("a = ($)", "is no `Attribute =`"),
            ("a = (B C = $)", "is no `Attribute =`"),
            ("a = (B = $ C = $)", "`,` is missing"),
            ("a = (B = $$)", "one variable follows another"),
            ("a = (B = $, C)", "does not end with"),
        ] {
            let told = Set::parse(&parts(text)).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\$|=|,|\\(|\\)| |a|\\PC){0,20}") {
            let _ = Set::parse(&parts(&text));
        }
    }
}
