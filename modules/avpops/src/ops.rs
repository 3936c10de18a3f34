//! Operations on the AVPs of a message.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;
use tandem_engine::avp::Avps;
use tandem_engine::context::{BRANCHES_MAX, Branch};
use tandem_engine::glob;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::uri_edit::{Part, with_part};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::program::Ready;
use tandem_script::value::Value;
use tandem_script::vm::compile_posix;

use crate::text::{Operation, named, operation};

const YES: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

fn literal(call: &Call<'_, '_, '_>, at: usize) -> String {
    String::from_utf8_lossy(&call.text(at)).into_owned()
}

/// The values of a name, the newest first.
fn values(avps: &Avps, name: &str) -> Vec<Value> {
    let own = avps.iter().filter(|(n, _)| n.as_ref() == name.as_bytes());
    own.map(|(_, value)| value.clone()).collect()
}

/// Puts values on top, so that the first is the newest.
fn push(avps: &mut Avps, name: &str, values: Vec<Value>) -> bool {
    values.into_iter().rev().all(|value| avps.insert(name.as_bytes(), value, false).is_ok())
}

fn clear(avps: &mut Avps, name: &str) {
    // Deleting cannot fail.
    let _ = avps.set(name.as_bytes(), Index::All, Assign::Replace, Value::Null);
}

fn pop(avps: &mut Avps, name: &str) {
    let _ = avps.set(name.as_bytes(), Index::At(0), Assign::Set, Value::Null);
}

pub(crate) fn avp_print(call: &mut Call<'_, '_, '_>) -> Called {
    let line = |(name, value): (&Bytes, &Value)| {
        let text = value.text().unwrap_or_default();
        let (name, text) = (String::from_utf8_lossy(name), String::from_utf8_lossy(&text));
        format!("AVP {name} = {text}")
    };
    let lines: Vec<String> = call.ctx.avps.iter().map(line).collect();
    for line in lines {
        call.cx.log(Level::Info, line);
    }
    YES
}

pub(crate) fn avp_delete(call: &mut Call<'_, '_, '_>) -> Called {
    let text = literal(call, 0);
    let avps = &mut call.ctx.avps;
    match named(&text) {
        None if text.trim().ends_with("/g") => *avps = Avps::default(),
        None => {
            let newest = avps.iter().next().map(|(name, _)| name.clone());
            let Some(name) = newest else { return NO };
            pop(avps, &String::from_utf8_lossy(&name));
        }
        Some(named) if values(avps, named.name).is_empty() => return NO,
        Some(named) if named.flags.contains('g') => clear(avps, named.name),
        Some(named) => pop(avps, named.name),
    }
    YES
}

pub(crate) fn avp_copy(call: &mut Call<'_, '_, '_>) -> Called {
    let (old, new) = (literal(call, 0), literal(call, 1));
    let (Some(old), Some(new)) = (named(&old), named(&new)) else { return NO };
    let avps = &mut call.ctx.avps;
    let mut found = values(avps, old.name);
    if !new.flags.contains('g') {
        found.truncate(1);
    }
    if found.is_empty() {
        return NO;
    }
    if new.flags.contains('d') {
        found.iter().for_each(|_| pop(avps, old.name));
    }
    let converted = found.into_iter().map(|value| {
        let text = value.text().map(Cow::into_owned).unwrap_or_default();
        match (new.flags.contains('n'), new.flags.contains('s')) {
            (true, _) => number(&text).map_or(value, Value::Int),
            (_, true) => Value::str(text),
            _ => value,
        }
    });
    let converted = converted.collect();
    if push(avps, new.name, converted) { YES } else { NO }
}

pub(crate) fn avp_shuffle(call: &mut Call<'_, '_, '_>) -> Called {
    let text = literal(call, 0);
    let Some(named) = named(&text) else { return NO };
    let mut all = values(&call.ctx.avps, named.name);
    if all.is_empty() {
        return NO;
    }
    for last in (1..all.len()).rev() {
        let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
        all.swap(last, call.cx.worker.chance.below(bound) as usize);
    }
    clear(&mut call.ctx.avps, named.name);
    if push(&mut call.ctx.avps, named.name, all) { YES } else { NO }
}

pub(crate) fn avp_pushto(call: &mut Call<'_, '_, '_>) -> Called {
    let (to, text) = (literal(call, 0), literal(call, 1));
    let Some(named) = named(&text) else { return NO };
    let found = values(&call.ctx.avps, named.name).into_iter().filter_map(Value::into_bytes);
    let mut found = found.peekable();
    if found.peek().is_none() {
        return NO;
    }
    let most = if named.flags.contains('g') { usize::MAX } else { 1 };
    let ctx = &mut *call.ctx;
    for value in found.take(most) {
        let part = match to.trim() {
            "$du" => {
                ctx.target.dst_uri = Some(value);
                continue;
            }
            "$br" => {
                if ctx.branches.len() >= BRANCHES_MAX {
                    return NO;
                }
                ctx.branches.push(Branch { uri: Some(value), ..Branch::default() });
                continue;
            }
            "$ru" => {
                ctx.target.uri = Some(value);
                continue;
            }
            "$ru/username" => Part::User,
            _ => Part::Host,
        };
        match with_part(ctx.request_uri(), part, &value) {
            Some(uri) => ctx.target.uri = Some(uri),
            None => return NO,
        }
    }
    YES
}

pub(crate) fn is_avp_set(call: &mut Call<'_, '_, '_>) -> Called {
    let text = literal(call, 0);
    let Some(named) = named(&text) else { return NO };
    let fits = |value: &Value| {
        named.flags.chars().all(|flag| match flag {
            'e' => value.text().is_none_or(|text| text.is_empty()) || value.int() == Some(0),
            's' => value.int().is_none(),
            _ => value.int().is_some(),
        })
    };
    if values(&call.ctx.avps, named.name).iter().any(fits) { YES } else { NO }
}

/// The right side of an operation: a variable, `i:5`, `s:text`, or the text itself.
fn operand(call: &mut Call<'_, '_, '_>, text: &str) -> Result<Value, String> {
    if text.starts_with('$') {
        let text = call.expand(text.as_bytes())?;
        return Ok(number(&text).map_or(Value::Str(text), Value::Int));
    }
    let text = text.strip_prefix("s:").unwrap_or(text);
    let bare = text.strip_prefix("i:").unwrap_or(text);
    Ok(number(bare.as_bytes()).map_or_else(|| Value::str(bare.to_owned()), Value::Int))
}

fn number(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

pub(crate) fn avp_check(call: &mut Call<'_, '_, '_>) -> Called {
    let (source, test) = (literal(call, 0), literal(call, 1));
    let read = operation(&test);
    let left = match named(&source) {
        Some(avp) => values(&call.ctx.avps, avp.name),
        None => match call.expand(source.as_bytes()) {
            Ok(text) => vec![number(&text).map_or(Value::Str(text), Value::Int)],
            Err(why) => return call.complain(Level::Error, why),
        },
    };
    let right = match operand(call, read.value) {
        Ok(right) => right,
        Err(why) => return call.complain(Level::Error, why),
    };
    let most = if read.flags.contains('g') { usize::MAX } else { 1 };
    for value in left.iter().take(most) {
        match fits(value, &right, read) {
            Ok(true) => return YES,
            Ok(false) => {}
            Err(why) => return call.complain(Level::Error, why),
        }
    }
    NO
}

fn fits(left: &Value, right: &Value, read: Operation<'_>) -> Result<bool, String> {
    let text = |value: &Value| value.text().map(Cow::into_owned).unwrap_or_default();
    let (l, r) = (text(left), text(right));
    let any_case = read.flags.contains('i');
    match read.op {
        "re" => return compile_posix(&r, any_case, false).map(|regex| regex.is_match(&l)),
        "fm" => {
            let r = String::from_utf8_lossy(&r).into_owned();
            let (pattern, l) = match any_case {
                true => (r.to_lowercase(), l.to_ascii_lowercase()),
                false => (r, l),
            };
            return glob::compile(&pattern).map(|regex| regex.is_match(&l));
        }
        "and" | "or" | "xor" => {
            let (Some(l), Some(r)) = (left.int(), right.int()) else { return Ok(false) };
            let bits = match read.op {
                "and" => l & r,
                "or" => l | r,
                _ => l ^ r,
            };
            return Ok(bits != 0);
        }
        _ => {}
    }
    let order = match (left.int(), right.int()) {
        (Some(l), Some(r)) => l.cmp(&r),
        _ if any_case => l.to_ascii_lowercase().cmp(&r.to_ascii_lowercase()),
        _ => l.cmp(&r),
    };
    Ok(match read.op {
        "eq" => order == Ordering::Equal,
        "ne" => order != Ordering::Equal,
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

pub(crate) fn avp_op(call: &mut Call<'_, '_, '_>) -> Called {
    let (pair, op) = (literal(call, 0), literal(call, 1));
    let read = operation(&op);
    let right = match operand(call, read.value) {
        Ok(right) => right.int().unwrap_or(0),
        Err(why) => return call.complain(Level::Error, why),
    };
    let calculated = |value: &Value| {
        let left = value.int().or_else(|| number(&value.text()?))?;
        calculate(left, right, read.op).map(Value::Int)
    };
    change(call, &pair, read.flags, calculated)
}

fn calculate(left: i32, right: i32, op: &str) -> Option<i32> {
    Some(match op {
        "add" => left.wrapping_add(right),
        "sub" => left.wrapping_sub(right),
        "mul" => left.wrapping_mul(right),
        "div" => left.checked_div(right)?,
        "mod" => left.checked_rem(right)?,
        "and" => left & right,
        "or" => left | right,
        "xor" => left ^ right,
        _ => !left,
    })
}

pub(crate) fn avp_subst(call: &mut Call<'_, '_, '_>) -> Called {
    let pair = literal(call, 0);
    let Some(Ready::Subst(subst)) = call.ready(1).cloned() else { return NO };
    let values = subst.values(|var| call.read(var).into_bytes().unwrap_or_default());
    let substituted = |value: &Value| {
        let text = value.text()?;
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        for found in subst.regex().captures_iter(&text).take(subst.times()) {
            let whole = found.get(0)?;
            out.extend_from_slice(text.get(at..whole.start())?);
            out.extend_from_slice(&subst.replaced(&found, &values));
            at = whole.end();
        }
        let changed = at != 0 || subst.regex().is_match(&text);
        out.extend_from_slice(text.get(at..)?);
        changed.then(|| Value::str(out))
    };
    let flags = named(&pair).map_or("", |named| named.flags).to_owned();
    change(call, &pair, &flags, substituted)
}

/// Changes one value, or all with flag `g`: in place, or into the second AVP, whose source goes
/// with flag `d`. False when nothing could be changed.
fn change(
    call: &mut Call<'_, '_, '_>,
    pair: &str,
    flags: &str,
    changed: impl Fn(&Value) -> Option<Value>,
) -> Called {
    let Some(pair) = named(pair) else { return NO };
    let avps = &mut call.ctx.avps;
    let old = values(avps, pair.name);
    let most = if flags.contains('g') { old.len() } else { 1 };
    let new: Vec<Option<Value>> = old.iter().take(most).map(changed).collect();
    if new.iter().all(Option::is_none) {
        return NO;
    }
    let done = match pair.second {
        Some(second) => {
            if flags.contains('d') {
                new.iter().for_each(|_| pop(avps, pair.name));
            }
            push(avps, second, new.into_iter().flatten().collect())
        }
        None => {
            let rest = old.iter().skip(new.len()).cloned();
            let kept = new.iter().zip(&old).map(|(new, old)| new.clone().unwrap_or(old.clone()));
            let all = kept.chain(rest).collect();
            clear(avps, pair.name);
            push(avps, pair.name, all)
        }
    };
    if done { YES } else { NO }
}
