//! Transformations of values: `{s.len}`, `{uri.host}`, ...
//!
//! A row of the tables is a pure function of a value and its arguments. Null stays null, and what
//! cannot be transformed becomes null.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::program::VarId;
use crate::value::Value;

mod escape;
mod hash;
mod ip;
mod list;
mod sdp;
pub(crate) mod subst;
mod text;
mod uri;
mod via;

/// A transformation in the table.
#[derive(Clone, Copy, Debug)]
pub struct TransformSig {
    pub name: &'static str,
    pub args_min: u8,
    pub args_max: u8,
    /// Which arguments must be integers, as bits.
    pub ints: u8,
    pub(crate) run: Run,
    pub help: &'static str,
}

/// How a transformation is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    Pure(fn(&Value, &Args<'_>) -> Value),
    /// The last argument goes to the end, commas included.
    Greedy(fn(&Value, &Args<'_>) -> Value),
    /// `{re.subst}`: its argument is an expression of its own.
    Subst,
    /// `{s.eval}`: needs the variables of the run.
    Eval,
    /// `{ip.resolve}`: asks the host.
    Resolve,
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
    Subst(Arc<subst::Subst>),
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

    /// As written, blanks included.
    fn text(&self, i: usize) -> Option<Bytes> {
        self.values.get(i).cloned().and_then(Value::into_bytes)
    }

    /// Without the blanks around it.
    fn word(&self, i: usize) -> Option<Bytes> {
        let text = self.text(i)?;
        let trimmed = text.trim_ascii();
        Some(text.slice_ref(trimmed))
    }
}

/// All transformations, by class.
pub const TRANSFORMS: &[&[TransformSig]] = &[
    text::TABLE,
    hash::TABLE,
    escape::TABLE,
    uri::TABLE,
    via::TABLE,
    list::TABLE,
    ip::TABLE,
    sdp::TABLE,
    subst::TABLE,
];

/// Older spellings, with the present ones.
pub(crate) const OLD_NAMES: &[(&str, &str)] =
    &[("s.encode.base64", "s.b64encode"), ("s.decode.base64", "s.b64decode")];

/// The place of a name in [`TRANSFORMS`], flattened.
pub(crate) fn find(name: &str) -> Option<(u16, &'static TransformSig)> {
    let all = TRANSFORMS.iter().flat_map(|t| t.iter()).enumerate();
    all.map(|(i, t)| (i as u16, t)).find(|(_, t)| t.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TRANSFORMS.iter().flat_map(|t| t.iter()).map(|t| t.name)
}

/// The row of a call.
pub(crate) fn row_of(call: &TransformCall) -> Option<&'static TransformSig> {
    let mut rest = usize::from(call.index);
    for table in TRANSFORMS {
        if let Some(sig) = table.get(rest) {
            return Some(sig);
        }
        rest -= table.len();
    }
    None
}

/// Applies one that needs nothing of the run.
pub(crate) fn apply(call: &TransformCall, value: Value, args: &[Value]) -> Value {
    if value.is_null() {
        return Value::Null;
    }
    match row_of(call).map(|sig| sig.run) {
        Some(Run::Pure(run) | Run::Greedy(run)) => {
            run(&value, &Args { values: args, selector: call.selector })
        }
        _ => Value::Null,
    }
}

const fn row(
    name: &'static str,
    args: (u8, u8, u8),
    run: fn(&Value, &Args<'_>) -> Value,
    help: &'static str,
) -> TransformSig {
    special(name, args, Run::Pure(run), help)
}

const fn special(
    name: &'static str,
    (args_min, args_max, ints): (u8, u8, u8),
    run: Run,
    help: &'static str,
) -> TransformSig {
    TransformSig { name, args_min, args_max, ints, run, help }
}

fn on(value: &Value, f: impl FnOnce(&[u8]) -> Value) -> Value {
    value.text().map_or(Value::Null, |t| f(&t))
}

fn map(value: &Value, f: impl FnOnce(&[u8]) -> Vec<u8>) -> Value {
    on(value, |t| Value::str(f(t)))
}

fn int(n: usize) -> Value {
    Value::Int(i32::try_from(n).unwrap_or(i32::MAX))
}

/// A number that may be larger than 32 signed bits: its text is right in any case.
fn number(n: i64) -> Value {
    i32::try_from(n).map_or_else(|_| Value::Both(n as i32, n.to_string().into()), Value::Int)
}

fn truth(b: bool) -> Value {
    Value::Int(i32::from(b))
}

fn copy(text: &[u8]) -> Value {
    Value::Str(Bytes::copy_from_slice(text))
}

fn text(t: String) -> Value {
    Value::str(t.into_bytes())
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
            "([amcvos]=[a-z0-9 ./]{0,12}\r?\n){0,8}".prop_map(|s| Value::str(s.into_bytes())),
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
    fn names_are_unique_and_every_name_of_the_field_is_there() {
        let known = crate::known::Known::builtin();
        let mut seen = std::collections::BTreeSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name} twice");
            // Another name of `host`, and those of the module rest_client.
            let also = ["uri.domain", "via.domain", "rest.escape", "rest.unescape"];
            assert!(known.transformation(name) || also.contains(&name), "{name}");
        }
        for name in known.modules.iter().flat_map(|m| &m.transformations) {
            assert!(seen.contains(name), "{name} is missing");
        }
    }
}
