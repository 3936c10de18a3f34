//! The documents of a run.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::path::{Path, Step, View, place, walk, walk_mut};

/// Documents of one run.
const DOCUMENTS_MAX: usize = 256;
/// Bytes of a text that is read.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Values of one document.
const VALUES_MAX: usize = 100_000;
/// Links to links.
const LINKS_MAX: usize = 8;
/// Objects inside each other in a patch.
const DEPTH_MAX: usize = 128;

/// Documents and further names for parts of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    documents: BTreeMap<String, Json>,
    links: BTreeMap<String, (String, Vec<Step>)>,
}

impl Store {
    /// The document and the steps that a path means, links followed.
    fn resolve(&self, path: &Path) -> (String, Vec<Step>) {
        let (mut name, mut steps) = (path.name.clone(), path.steps.clone());
        for _ in 0..LINKS_MAX {
            let Some((target, first)) = self.links.get(&name) else { break };
            steps.splice(0..0, first.iter().cloned());
            name.clone_from(target);
        }
        (name, steps)
    }

    pub(crate) fn get(&self, path: &Path) -> Option<&Json> {
        if !self.links.contains_key(&path.name) {
            return walk(self.documents.get(&path.name)?, &path.steps);
        }
        let (name, steps) = self.resolve(path);
        walk(self.documents.get(&name)?, &steps)
    }

    pub(crate) fn set(&mut self, path: &Path, new: Json) -> Result<(), String> {
        if path.view != View::Value {
            return Err("keys and values of an object can only be read".into());
        }
        let (name, steps) = match path.steps.is_empty() {
            // A new document under a name that was a link.
            true => {
                self.links.remove(&path.name);
                (path.name.clone(), Vec::new())
            }
            false => self.resolve(path),
        };
        let Some((last, before)) = steps.split_last() else {
            if self.documents.len() >= DOCUMENTS_MAX && !self.documents.contains_key(&name) {
                return Err(format!("more than {DOCUMENTS_MAX} documents"));
            }
            self.documents.insert(name, new);
            return Ok(());
        };
        let document = self.documents.get_mut(&name);
        let document = document.ok_or_else(|| format!("there is no document `{name}`"))?;
        if count(document) >= VALUES_MAX {
            return Err(format!("a document has at most {VALUES_MAX} values"));
        }
        let parent = walk_mut(document, before).ok_or("the path leads nowhere")?;
        match (parent, last) {
            (Json::Object(object), Step::Key(key)) => {
                object.insert(key.clone(), new);
            }
            (Json::Array(list), Step::Append) => list.push(new),
            (Json::Array(list), Step::Index(index)) => {
                let at = place(list.len(), *index);
                *at.and_then(|at| list.get_mut(at)).ok_or("the index is too large")? = new;
            }
            (_, Step::Key(key)) => return Err(format!("`{key}` cannot be set: it is no object")),
            _ => return Err("an index is for arrays".into()),
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        if path.steps.is_empty() {
            if self.links.remove(&path.name).is_none() {
                self.documents.remove(&path.name);
            }
            return;
        }
        let (name, steps) = self.resolve(path);
        let Some((last, before)) = steps.split_last() else { return };
        let document = self.documents.get_mut(&name);
        match (document.and_then(|json| walk_mut(json, before)), last) {
            (Some(Json::Object(object)), Step::Key(key)) => {
                object.shift_remove(key);
            }
            (Some(Json::Array(list)), Step::Index(index)) => {
                if let Some(at) = place(list.len(), *index) {
                    list.remove(at);
                }
            }
            _ => {}
        }
    }

    /// Makes a name mean a part of a document. Into a document goes a copy.
    pub(crate) fn link(&mut self, dest: &Path, source: &Path) -> Result<(), String> {
        let value = self.get(source).ok_or("there is nothing to link to")?;
        if !dest.steps.is_empty() {
            let copy = value.clone();
            return self.set(dest, copy);
        }
        let (name, steps) = self.resolve(source);
        if name == dest.name {
            return Err("a document cannot be a part of itself".into());
        }
        if self.links.len() >= DOCUMENTS_MAX {
            return Err(format!("more than {DOCUMENTS_MAX} links"));
        }
        self.documents.remove(&dest.name);
        self.links.insert(dest.name.clone(), (name, steps));
        Ok(())
    }
}

fn count(json: &Json) -> usize {
    match json {
        Json::Object(object) => 1 + object.values().map(count).sum::<usize>(),
        Json::Array(list) => 1 + list.iter().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Reads a text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &[u8]) -> Result<Json, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a JSON text has at most {TEXT_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))
}

/// Merges a patch (RFC 7396).
///
/// # Errors
/// When it is nested too deep.
pub(crate) fn merge(main: &mut Json, patch: Json, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("the patch is nested too deep".into());
    }
    let Json::Object(patch) = patch else {
        *main = patch;
        return Ok(());
    };
    if !main.is_object() {
        *main = Json::Object(Map::new());
    }
    let Json::Object(object) = main else { return Ok(()) };
    for (key, value) in patch {
        match value {
            Json::Null => {
                object.shift_remove(&key);
            }
            value => merge(object.entry(key).or_insert(Json::Null), value, depth + 1)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Path {
        Path::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_set_where_there_is_a_place() {
        let mut store = Store::default();
        assert!(store.set(&path("a/b"), json!(1)).is_err());
        store.set(&path("a"), json!({"l": [1]})).unwrap();
        store.set(&path("a/l[]"), json!(2)).unwrap();
        store.set(&path("a/l[-2]"), json!(0)).unwrap();
        assert!(store.set(&path("a/l[5]"), json!(0)).is_err());
        assert!(store.set(&path("a/l/x"), json!(0)).is_err());
        assert_eq!(store.get(&path("a")), Some(&json!({"l": [0, 2]})));
        store.remove(&path("a/l[0]"));
        assert_eq!(store.get(&path("a/l[0]")), Some(&json!(2)));
    }

    #[test]
    fn a_link_is_another_name() {
        let mut store = Store::default();
        store.set(&path("a"), json!({"b": {"c": 1}})).unwrap();
        store.link(&path("x"), &path("a/b")).unwrap();
        store.set(&path("x/c"), json!(2)).unwrap();
        assert_eq!(store.get(&path("a/b/c")), Some(&json!(2)));
        assert!(store.link(&path("a"), &path("a/b")).is_err());
        store.remove(&path("x"));
        assert!(store.get(&path("x")).is_none() && store.get(&path("a/b")).is_some());
    }

    #[test]
    fn patches_are_those_of_rfc_7396() {
        let mut main = json!({"a": "b", "c": {"d": "e", "f": "g"}});
        merge(&mut main, json!({"a": "z", "c": {"f": null}, "n": {"x": null}}), 0).unwrap();
        assert_eq!(main, json!({"a": "z", "c": {"d": "e"}, "n": {}}));
    }
}
