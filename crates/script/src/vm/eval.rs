//! Texts with variables that are known at run time only: `{s.eval}`.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{RunState, TEXT_BYTES_MAX, access};
use crate::host::Host;
use crate::program::{IndexRef, Name, Program, ScopeVar, VarRef, VarTarget};
use crate::pv::{self, Piece, Spec};
use crate::transform::subst::Subst;
use crate::transform::{self, Run, TransformArg, TransformCall};
use crate::value::Value;

/// Variables within variables, and texts within texts.
const DEPTH_MAX: u8 = 8;

/// Expands the variables of a text, as the script could have written it. Null prints as
/// `<null>`.
///
/// # Errors
/// What is wrong with the text, in plain words.
pub fn expand<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    text: &[u8],
    host: &mut H,
) -> Result<Bytes, String> {
    if run.expanding >= DEPTH_MAX {
        return Err("variables are nested too deep".to_owned());
    }
    run.expanding += 1;
    let result = parts(program, run, text, host);
    run.expanding -= 1;
    result
}

fn parts<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    text: &[u8],
    host: &mut H,
) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if *byte != b'$' || at + 1 == text.len() {
            out.push(*byte);
            at += 1;
        } else if text.get(at + 1) == Some(&b'$') {
            out.push(b'$');
            at += 2;
        } else {
            let (value, end) = variable(program, run, text, at, host)?;
            out.extend_from_slice(value.text().as_deref().unwrap_or(b"<null>"));
            at = end;
        }
        if out.len() > TEXT_BYTES_MAX {
            return Err(format!("the text would be longer than {TEXT_BYTES_MAX} bytes"));
        }
    }
    Ok(out.into())
}

/// The value of the variable at `at`, and where it ends.
fn variable<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    text: &[u8],
    at: usize,
    host: &mut H,
) -> Result<(Value, usize), String> {
    let find = |name: &str| program.scope.iter().filter(|v| v.name == name).collect::<Vec<_>>();
    let named = |name: &str| {
        let rows = find(name);
        rows.is_empty() || rows.iter().any(|v| v.takes_name)
    };
    let spec = pv::spec(text, at, named).map_err(|e| e.message)?;
    let name = String::from_utf8_lossy(spec.name.text).into_owned();
    let rows = find(&name);
    let row = rows.iter().find(|v| v.takes_name == spec.inner.is_some());
    let Some(row) = row.or(rows.first()).filter(|v| v.takes_name || spec.inner.is_none()) else {
        return Err(format!("unknown variable ${name}"));
    };
    let var = reference(program, run, row, &spec, host)?;
    let value = access::value_of(program, run, &var, host);
    Ok((value, spec.end))
}

fn reference<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    row: &ScopeVar,
    spec: &Spec<'_>,
    host: &mut H,
) -> Result<VarRef, String> {
    let name = match spec.inner {
        None => Name::None,
        Some(inner) => Name::Text(expand(program, run, inner.text, host)?),
    };
    let index = match spec.index {
        None => IndexRef::None,
        Some(Piece { text: b"*", .. }) => IndexRef::All,
        Some(piece) => {
            let text = expand(program, run, piece.text.trim_ascii(), host)?;
            let number = std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok());
            IndexRef::At(number.ok_or("an index is a number, `*` or a variable")?)
        }
    };
    let mut transforms = SmallVec::new();
    for piece in &spec.transforms {
        transforms.push(transformation(program, run, *piece, host)?);
    }
    let target = match row.target {
        VarTarget::Slot(_) => VarTarget::DynamicVar,
        target => target,
    };
    let text = format!("${}", row.name);
    Ok(VarRef { target, name, index, context: spec.context, transforms, text })
}

fn transformation<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    piece: Piece<'_>,
    host: &mut H,
) -> Result<TransformCall, String> {
    let (name, selector) = pv::transform_name(piece);
    let Some((index, sig)) = transform::find(&name) else {
        return Err(format!("unknown transformation {{{name}}}"));
    };
    let parts = pv::transform_args(piece, sig);
    let mut args: SmallVec<[TransformArg; 2]> = SmallVec::new();
    for part in &parts {
        let value = if part.text.trim_ascii().first() == Some(&b'$') && part.text.len() > 1 {
            expand(program, run, part.text.trim_ascii(), host)?
        } else {
            Bytes::copy_from_slice(part.text)
        };
        args.push(match sig.run {
            Run::Subst => TransformArg::Subst(Subst::plain(&value)?.into()),
            _ => TransformArg::Text(value),
        });
    }
    if args.len() < usize::from(sig.args_min) || args.len() > usize::from(sig.args_max) {
        return Err(format!("{{{name}}} has the wrong number of arguments"));
    }
    Ok(TransformCall { index, selector, args })
}
