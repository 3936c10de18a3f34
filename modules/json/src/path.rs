//! Names of values: `name/key[0]/other`, with `[]` behind the last element and `.keys` or
//! `.values` of an object at the end.

use serde_json::Value as Json;

/// Steps of one path.
const STEPS_MAX: usize = 64;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    /// Negative: from the end.
    Index(i32),
    Append,
}

/// What is wanted of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Value,
    Keys,
    Values,
}

/// A document and a way into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) view: View,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, in plain words.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(text);
        let (text, view) = match (text.strip_suffix(".keys"), text.strip_suffix(".values")) {
            (Some(text), _) => (text, View::Keys),
            (_, Some(text)) => (text, View::Values),
            _ => (&*text, View::Value),
        };
        let end = text.find(['/', '[']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        if name.is_empty() {
            return Err("a document has a name".into());
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() >= STEPS_MAX {
                return Err(format!("a path has at most {STEPS_MAX} steps"));
            }
            let step;
            (step, rest) = one(rest)?;
            steps.push(step);
        }
        Ok(Self { name: name.to_owned(), steps, view })
    }
}

fn one(text: &str) -> Result<(Step, &str), String> {
    if let Some(rest) = text.strip_prefix('/') {
        let end = rest.find(['/', '[']).unwrap_or(rest.len());
        let (key, rest) = rest.split_at(end);
        return Ok((Step::Key(key.to_owned()), rest));
    }
    let inside = text.strip_prefix('[').ok_or("a step is /key or [index]")?;
    let (index, rest) = inside.split_once(']').ok_or("a `]` is missing")?;
    match index.trim() {
        "" => Ok((Step::Append, rest)),
        index => {
            let index = index.parse().map_err(|_| format!("`{index}` is no index"))?;
            Ok((Step::Index(index), rest))
        }
    }
}

/// The place that an index of a list means.
pub(crate) fn place(len: usize, index: i32) -> Option<usize> {
    match usize::try_from(index) {
        Ok(at) => (at < len).then_some(at),
        Err(_) => len.checked_sub(index.unsigned_abs() as usize),
    }
}

/// Walks into a document.
pub(crate) fn walk<'a>(json: &'a Json, steps: &[Step]) -> Option<&'a Json> {
    steps.iter().try_fold(json, |json, step| match (json, step) {
        (Json::Object(object), Step::Key(key)) => object.get(key),
        (Json::Array(list), Step::Index(index)) => list.get(place(list.len(), *index)?),
        _ => None,
    })
}

/// The same, to change what is there.
pub(crate) fn walk_mut<'a>(json: &'a mut Json, steps: &[Step]) -> Option<&'a mut Json> {
    steps.iter().try_fold(json, |json, step| match (json, step) {
        (Json::Object(object), Step::Key(key)) => object.get_mut(key),
        (Json::Array(list), Step::Index(index)) => {
            let at = place(list.len(), *index)?;
            list.get_mut(at)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_have_keys_and_indices() {
        let read = Path::parse(b"a/b c[-1][]/d.keys").unwrap();
        let steps =
            vec![Step::Key("b c".into()), Step::Index(-1), Step::Append, Step::Key("d".into())];
        assert_eq!(read, Path { name: "a".into(), steps, view: View::Keys });
        for wrong in [&b""[..], b"/a", b"a[", b"a[x]", b"a]x[0]y[1"] {
            assert!(Path::parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        assert_eq!((place(3, -1), place(3, -4), place(3, 3)), (Some(2), None, None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c/\\[\\]0-9.-]{0,20}") {
            let _ = Path::parse(text.as_bytes());
        }
    }
}
