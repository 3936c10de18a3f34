//! Fields beside the standard ones: what `extra_fields` and `leg_fields` declare.

use bytes::Bytes;
use tandem_db::Name;

use crate::marks::Backend;

/// Fields of one kind, at most.
pub(crate) const FIELDS_MAX: usize = 64;

/// The declared fields of one kind. A tag that several backends name is one field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) tags: Vec<Bytes>,
    /// Of each backend in the order of [`Backend::ALL`]: the field, and its printed name.
    printed: [Vec<(usize, Name)>; 4],
}

impl Fields {
    /// Takes one value of a parameter: `db: tag->column; tag2`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn declare(&mut self, text: &str) -> Result<(), String> {
        let wrong = "fields are declared as \"db: tag->column; tag2\"";
        let (backend, list) = text.split_once(':').ok_or(wrong)?;
        let backend = Backend::named(backend)?;
        for item in list.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let (tag, printed) = item.split_once("->").unwrap_or((item, item));
            let (tag, printed) = (tag.trim(), printed.trim());
            if tag.is_empty() || printed.is_empty() {
                return Err(format!("`{item}` names no field: {wrong}"));
            }
            if backend == Backend::Db {
                tandem_db::check_name(printed).map_err(|e| e.to_string())?;
            }
            let at = self.field(tag)?;
            let list = self.list_mut(backend);
            if list.iter().any(|(field, _)| *field == at) {
                return Err(format!("`{tag}` is declared twice for {}", backend.name()));
            }
            list.push((at, printed.to_owned().into()));
        }
        Ok(())
    }

    fn field(&mut self, tag: &str) -> Result<usize, String> {
        if let Some(at) = self.position(tag.as_bytes()) {
            return Ok(at);
        }
        if self.tags.len() >= FIELDS_MAX {
            return Err(format!("more than {FIELDS_MAX} fields"));
        }
        self.tags.push(Bytes::copy_from_slice(tag.as_bytes()));
        Ok(self.tags.len() - 1)
    }

    fn list_mut(&mut self, backend: Backend) -> &mut Vec<(usize, Name)> {
        let [log, db, evi, aaa] = &mut self.printed;
        match backend {
            Backend::Log => log,
            Backend::Db => db,
            Backend::Evi => evi,
            Backend::Aaa => aaa,
        }
    }

    /// The fields of a backend with their printed names.
    pub(crate) fn of(&self, backend: Backend) -> &[(usize, Name)] {
        let [log, db, evi, aaa] = &self.printed;
        match backend {
            Backend::Log => log,
            Backend::Db => db,
            Backend::Evi => evi,
            Backend::Aaa => aaa,
        }
    }

    /// The place of a tag.
    pub(crate) fn position(&self, tag: &[u8]) -> Option<usize> {
        self.tags.iter().position(|t| t == tag)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }
}

/// Judges a value of a parameter.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    Fields::default().declare(text)
}

/// Values of the fields of one kind, in the order of their tags; those that are not there are
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values(Vec<Option<Bytes>>);

impl Values {
    pub(crate) fn get(&self, at: usize) -> Option<&Bytes> {
        self.0.get(at)?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The text of a value; empty where there is none.
    pub(crate) fn text(&self, at: usize) -> &[u8] {
        self.get(at).map_or(b"", |v| v)
    }

    pub(crate) fn set(&mut self, at: usize, value: Option<Bytes>) {
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        if let Some(place) = self.0.get_mut(at) {
            *place = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tag_that_two_backends_name_is_one_field() {
        let mut fields = Fields::default();
        fields.declare("log: src_ip; gw->gateway").unwrap();
        fields.declare("db: gw ; src_ip -> source").unwrap();
        assert_eq!(fields.tags, [&b"src_ip"[..], b"gw"]);
        let named = |b| fields.of(b).iter().map(|(at, n)| (*at, &**n)).collect::<Vec<_>>();
        assert_eq!(named(Backend::Log), [(0, "src_ip"), (1, "gateway")]);
        assert_eq!(named(Backend::Db), [(1, "gw"), (0, "source")]);
        assert!(fields.of(Backend::Evi).is_empty());
    }

    #[test]
    fn what_declares_nothing_is_refused() {
        for text in ["x", "db", "aa: x", "db: a b", "db: ->x", "db: a;a", "db: x->a;b->"] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check("log:").is_ok() && check("db: a; a2->b.c;").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "(db|log|:|;|->|a|\\PC){0,20}") {
            let _ = check(&text);
        }
    }
}
