//! Attribute-value lists (`$avp`): every name holds a stack, newest value first.

use bytes::Bytes;
use tandem_script::host::{Assign, Index};
use tandem_script::value::Value;

/// Values one message may hold; more is refused, so that a loop cannot eat memory.
const AVPS_MAX: usize = 10_000;

/// The lists of one message or transaction. The newest value of a name is the last in the vector.
#[derive(Clone, Debug, Default)]
pub struct Avps(Vec<(Bytes, Value)>);

impl Avps {
    /// The newest value of a name.
    pub fn first(&self, name: &[u8]) -> Value {
        self.newest_first(name).next().cloned().unwrap_or_default()
    }

    pub fn get(&self, name: &[u8], index: Index) -> Value {
        match index {
            Index::None | Index::Append => self.first(name),
            Index::At(n) => self.position(name, n).map_or(Value::Null, |at| self.0[at].1.clone()),
            Index::All => {
                let all = self.newest_first(name).cloned();
                let texts: Vec<Bytes> = all.filter_map(Value::into_bytes).collect();
                if texts.is_empty() { Value::Null } else { Value::str(texts.join(&b", "[..])) }
            }
        }
    }

    pub fn set(
        &mut self,
        name: &[u8],
        index: Index,
        how: Assign,
        value: Value,
    ) -> Result<(), String> {
        match (index, how, value.is_null()) {
            (Index::None, Assign::Set, true) => self.remove_at(name, 0),
            (Index::All, _, true) | (Index::None, Assign::Replace, true) => self.delete(name),
            (Index::None | Index::Append, Assign::Set, false) => {
                return self.insert(name, value, index == Index::Append);
            }
            (Index::None | Index::All | Index::Append, Assign::Replace, _) | (Index::All, ..) => {
                self.delete(name);
                return self.insert(name, value, false);
            }
            (Index::At(n), _, true) => self.remove_at(name, n),
            (Index::At(n), _, false) => {
                let at = self.position(name, n).ok_or("no AVP value at this index")?;
                self.0[at].1 = value;
            }
            (Index::Append, Assign::Set, true) => {}
        }
        Ok(())
    }

    /// Every name with every value, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Value)> {
        self.0.iter().rev().map(|(name, value)| (name, value))
    }

    /// Puts a value on top (or, with `oldest`, underneath all others).
    pub fn insert(&mut self, name: &[u8], value: Value, oldest: bool) -> Result<(), String> {
        if self.0.len() >= AVPS_MAX {
            return Err(format!("more than {AVPS_MAX} AVP values in one message"));
        }
        let entry = (Bytes::copy_from_slice(name), value);
        if oldest {
            self.0.insert(0, entry)
        } else {
            self.0.push(entry)
        }
        Ok(())
    }

    fn delete(&mut self, name: &[u8]) {
        self.0.retain(|(n, _)| n != name);
    }

    fn remove_at(&mut self, name: &[u8], index: i32) {
        if let Some(at) = self.position(name, index) {
            self.0.remove(at);
        }
    }

    /// Place of the value at an index counted from the newest; negative: from the oldest, -1 first.
    fn position(&self, name: &[u8], index: i32) -> Option<usize> {
        let mut places =
            self.0.iter().enumerate().filter(|(_, (n, _))| n == name).map(|(at, _)| at);
        match usize::try_from(index) {
            Ok(n) => places.rev().nth(n),
            Err(_) => places.nth(usize::try_from(-(i64::from(index)) - 1).ok()?),
        }
    }

    fn newest_first(&self, name: &[u8]) -> impl Iterator<Item = &Value> {
        self.0.iter().rev().filter(move |(n, _)| n == name).map(|(_, v)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(v: &str) -> Value {
        Value::str(v.to_string())
    }

    #[test]
    fn a_name_is_a_stack_that_can_be_indexed_from_both_ends() {
        let mut avps = Avps::default();
        for v in ["a", "b", "c"] {
            avps.set(b"x", Index::None, Assign::Set, text(v)).unwrap();
        }
        avps.set(b"x", Index::Append, Assign::Set, text("0")).unwrap();
        assert_eq!(avps.get(b"x", Index::None), text("c"));
        assert_eq!(avps.get(b"x", Index::At(1)), text("b"));
        assert_eq!(avps.get(b"x", Index::At(-1)), text("0"));
        assert_eq!(avps.get(b"x", Index::All), text("c, b, a, 0"));
        assert_eq!(avps.get(b"x", Index::At(9)), Value::Null);
        avps.set(b"x", Index::None, Assign::Set, Value::Null).unwrap();
        assert_eq!(avps.get(b"x", Index::None), text("b"));
        avps.set(b"x", Index::At(0), Assign::Set, Value::Null).unwrap();
        assert_eq!(avps.get(b"x", Index::All), text("a, 0"));
        avps.set(b"x", Index::None, Assign::Replace, text("z")).unwrap();
        assert_eq!(avps.get(b"x", Index::All), text("z"));
        avps.set(b"x", Index::None, Assign::Replace, Value::Null).unwrap();
        assert_eq!(avps.get(b"x", Index::All), Value::Null);
    }
}
