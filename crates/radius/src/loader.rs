//! The files of a dictionary: one names others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Fault;
use crate::dictionary::{Dictionary, Line, include_of};

/// Files of one dictionary.
const FILES_MAX: usize = 1_000;
/// Bytes of them all.
const BYTES_MAX: usize = 16 << 20;
/// Files inside of files.
const DEPTH_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Loader {
    root: String,
    texts: BTreeMap<String, Option<String>>,
    /// Those that were asked for and have not come.
    asked: BTreeSet<String>,
    bytes: usize,
}

impl Loader {
    /// A dictionary whose first file is to be read; the second value.
    pub fn new(root: &str) -> (Self, String) {
        let asked = [root.to_owned()].into();
        let loader = Self { root: root.to_owned(), texts: BTreeMap::new(), asked, bytes: 0 };
        (loader, root.to_owned())
    }

    /// A file was read, or is not there: the files that are to be read next.
    pub fn came(&mut self, file: &str, text: Option<&[u8]>) -> Vec<String> {
        self.asked.remove(file);
        let text = text.map(|text| String::from_utf8_lossy(text).into_owned());
        self.bytes += text.as_ref().map_or(0, String::len);
        let mut next = Vec::new();
        for line in text.iter().filter(|_| self.bytes <= BYTES_MAX).flat_map(|text| text.lines()) {
            let Line::Include(name, _) = include_of(line) else { continue };
            let name = beside(file, name);
            let is_new = !self.texts.contains_key(&name) && name != file;
            let has_room = self.texts.len() + self.asked.len() < FILES_MAX;
            if is_new && has_room && self.asked.insert(name.clone()) {
                next.push(name);
            }
        }
        self.texts.insert(file.to_owned(), text);
        next
    }

    /// Whether all files have come.
    pub fn is_whole(&self) -> bool {
        self.asked.is_empty()
    }

    /// The dictionary of all these files.
    ///
    /// # Errors
    /// If the first file is not there.
    pub fn dictionary(&self) -> Result<Dictionary, Fault> {
        let mut dictionary = Dictionary::named(&self.root);
        let Some(Some(_)) = self.texts.get(&self.root) else {
            let text = "there is no such file: `dictionary` in radiusclient.conf names it";
            return Err(Fault { file: self.root.clone(), line: 0, text: text.to_owned() });
        };
        self.read(&mut dictionary, &self.root, 0, &mut 0);
        if self.bytes > BYTES_MAX {
            dictionary.fault(&self.root, 0, format!("more than {BYTES_MAX} bytes in all"));
        }
        Ok(dictionary)
    }

    fn read(&self, dictionary: &mut Dictionary, file: &str, depth: usize, reads: &mut usize) {
        let Some(Some(text)) = self.texts.get(file) else { return };
        *reads += 1;
        dictionary.read(file, text, &mut |dictionary, line, is_needed, name| {
            let name = beside(file, name);
            match self.texts.get(&name) {
                _ if depth >= DEPTH_MAX || *reads >= FILES_MAX => {
                    let text = format!("more than {DEPTH_MAX} files inside of each other");
                    dictionary.fault(file, line, text);
                }
                Some(Some(_)) => self.read(dictionary, &name, depth + 1, reads),
                _ if is_needed => {
                    dictionary.fault(file, line, format!("the file {name} cannot be read"));
                }
                _ => {}
            }
        });
    }
}

/// A file that another one names: beside it, if its name is relative.
pub fn beside(file: &str, name: &str) -> String {
    let folder = Path::new(file).parent().unwrap_or("".as_ref());
    folder.join(name).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(files: &[(&str, &str)]) -> Result<Dictionary, Fault> {
        let (mut loader, first) = Loader::new("/d/main");
        let mut wanted = vec![first];
        while let Some(name) = wanted.pop() {
            let text = files.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_bytes());
            wanted.extend(loader.came(&name, text));
        }
        assert!(loader.is_whole());
        loader.dictionary()
    }

    #[test]
    fn files_are_read_where_they_are_named() {
        let main = "ATTRIBUTE A 1 string\n$INCLUDE more\n$INCLUDE- none\n$INCLUDE /e/other\n";
        let files = [
            ("/d/main", main),
            ("/d/more", "VENDOR V 5\nATTRIBUTE B 2 string V\n"),
            ("/e/other", "ATTRIBUTE C 3 string V\nATTRIBUTE A 4 string\n"),
        ];
        let all = loaded(&files).unwrap();
        assert_eq!(all.faults(), []);
        let named = |name| all.attribute_named(name).map(|a| (a.vendor, a.number));
        assert_eq!(named("A"), Some((0, Some(4))));
        assert_eq!(named("B"), Some((5, Some(2))));
        assert_eq!(named("C"), Some((5, Some(3))));
    }

    #[test]
    fn files_that_are_missing_or_name_each_other_are_named() {
        assert!(loaded(&[]).unwrap_err().to_string().starts_with("/d/main: there is no such file"));
        let all =
            loaded(&[("/d/main", "$INCLUDE no\n$INCLUDE main2\n"), ("/d/main2", "$INCLUDE main")]);
        let faults: Vec<String> = all.unwrap().faults().iter().map(ToString::to_string).collect();
        assert!(faults[0].starts_with("/d/main:1: the file /d/no cannot be read"), "{faults:?}");
        assert!(faults.iter().any(|f| f.contains("inside of each other")), "{faults:?}");
    }
}
