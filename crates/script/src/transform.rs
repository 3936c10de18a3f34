//! Transformations of values: `{s.len}`, `{uri.host}`, ...

use bytes::Bytes;
use smallvec::SmallVec;

use crate::program::VarId;
use crate::value::Value;

mod list;
mod text;
mod uri;

/// A transformation in the table.
#[derive(Clone, Copy, Debug)]
pub struct TransformSig {
    pub name: &'static str,
    pub args_min: u8,
    pub args_max: u8,
    /// Which arguments must be integers, as bits.
    pub ints: u8,
    pub(crate) run: fn(&Value, &Args<'_>) -> Value,
    pub help: &'static str,
}

/// A use of a transformation, its arguments parsed at load.
#[derive(Clone, Debug)]
pub struct TransformCall {
    pub(crate) index: u16,
    /// `{nameaddr.2.uri}`
    pub(crate) selector: i32,
    pub(crate) args: SmallVec<[TransformArg; 2]>,
}

#[derive(Clone, Debug)]
pub(crate) enum TransformArg {
    Int(i32),
    Text(Bytes),
    Var(VarId),
}

/// What a transformation gets besides the value.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    values: &'a [Value],
    pub(crate) selector: i32,
}

impl Args<'_> {
    fn int(&self, i: usize) -> Option<i32> {
        let value = self.values.get(i)?;
        value.int().or_else(|| std::str::from_utf8(&value.text()?).ok()?.trim().parse().ok())
    }

    fn text(&self, i: usize) -> Option<Bytes> {
        self.values.get(i).cloned().and_then(Value::into_bytes)
    }
}

/// All transformations that work.
pub const TRANSFORMS: &[&[TransformSig]] = &[text::TABLE, uri::TABLE, list::TABLE];

/// The place of a name in [`TRANSFORMS`], flattened.
pub(crate) fn find(name: &str) -> Option<(u16, &'static TransformSig)> {
    let all = TRANSFORMS.iter().flat_map(|t| t.iter()).enumerate();
    all.map(|(i, t)| (i as u16, t)).find(|(_, t)| t.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TRANSFORMS.iter().flat_map(|t| t.iter()).map(|t| t.name)
}

/// Applies one; null stays null, and what cannot be transformed becomes null.
pub(crate) fn apply(call: &TransformCall, value: Value, args: &[Value]) -> Value {
    if value.is_null() {
        return Value::Null;
    }
    let mut rest = usize::from(call.index);
    for table in TRANSFORMS {
        if let Some(sig) = table.get(rest) {
            return (sig.run)(&value, &Args { values: args, selector: call.selector });
        }
        rest -= table.len();
    }
    Value::Null
}

const fn row(
    name: &'static str,
    (args_min, args_max, ints): (u8, u8, u8),
    run: fn(&Value, &Args<'_>) -> Value,
    help: &'static str,
) -> TransformSig {
    TransformSig { name, args_min, args_max, ints, run, help }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i32>().prop_map(Value::Int),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::str),
            "[a-z:@;=?<>\",\\[\\]. 0-9-]{0,40}".prop_map(|s| Value::str(s.into_bytes())),
            Just(Value::Null),
        ]
    }

    proptest! {
        #[test]
        fn no_transformation_fails_on_any_value(
            value in any_value(),
            args in proptest::collection::vec(any_value(), 0..3),
            selector in any::<i32>(),
        ) {
            for index in 0..names().count() as u16 {
                let call = TransformCall { index, selector, args: SmallVec::new() };
                apply(&call, value.clone(), &args);
            }
        }
    }

    #[test]
    fn names_are_unique_and_known_in_the_field() {
        let known = crate::known::Known::builtin();
        let mut seen = std::collections::BTreeSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name} twice");
            assert!(known.transformation(name) || name == "uri.domain", "{name}");
        }
    }
}
