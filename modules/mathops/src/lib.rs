//! `mathops`: calculations with decimals.

mod infix;
mod rpn;

use std::cmp::Ordering;
use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, FunctionDef, Module, ModuleDef};
use tandem_engine::table::{arg, function, optional, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, Routes};
use tandem_script::value::Value;

/// Decimals of one result.
const DIGITS_MAX: i64 = 300;

/// The table of `mathops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "mathops",
    help: "Calculations with decimals.",
    dependencies: &[],
    params: &[param("decimal_digits", ParamKind::Int, Some("6"), "Decimals of a result.")],
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const EXPR: &[ArgSig] = &[arg("expr", ArgKind::Str), arg("result", ArgKind::Var)];
const NUMBER: &[ArgSig] = &[arg("n", ArgKind::Str), arg("result", ArgKind::Var)];
const DECIMALS: &[ArgSig] =
    &[arg("n", ArgKind::Str), arg("result", ArgKind::Var), optional("decimals", ArgKind::Int)];
const FIGURES: &[ArgSig] =
    &[arg("n", ArgKind::Str), arg("result", ArgKind::Var), optional("figures", ArgKind::Int)];
const TWO: &[ArgSig] =
    &[arg("a", ArgKind::Str), arg("b", ArgKind::Str), arg("result", ArgKind::Var)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "math_eval",
        EXPR,
        Routes::ANY,
        "Calculates an expression: + - * / % ^, brackets, pi, e and functions such as sqrt(x).",
        |call| evaluated(call, infix::evaluate),
    ),
    function(
        "math_rpn",
        EXPR,
        Routes::ANY,
        "The same in reverse Polish notation: \"1 4 2 / +\".",
        |call| evaluated(call, rpn::evaluate),
    ),
    function("math_floor", NUMBER, Routes::ANY, "Rounds down.", |call| whole(call, f64::floor)),
    function("math_ceil", NUMBER, Routes::ANY, "Rounds up.", |call| whole(call, f64::ceil)),
    function("math_trunc", NUMBER, Routes::ANY, "Rounds to zero.", |call| whole(call, f64::trunc)),
    function(
        "math_round",
        DECIMALS,
        Routes::ANY,
        "Rounds to the nearest, halves away from zero; without decimals to a whole number.",
        math_round,
    ),
    function(
        "math_round_sf",
        FIGURES,
        Routes::ANY,
        "Rounds to significant figures, 4 without a number.",
        math_round_sf,
    ),
    function("math_compare", TWO, Routes::ANY, "-1, 0 or 1 as a is to b.", math_compare),
];

struct MathOps {
    digits: usize,
}

impl Module for MathOps {}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let digits = build.int("decimal_digits").filter(|n| (0..=DIGITS_MAX).contains(n));
    match digits.and_then(|n| usize::try_from(n).ok()) {
        Some(digits) => Ok(Arc::new(MathOps { digits })),
        None => Err(BuildError::new("decimal_digits", format!("0 to {DIGITS_MAX} are wanted"))),
    }
}

fn evaluated(call: &mut Call<'_, '_, '_>, evaluate: fn(&str) -> Result<f64, String>) -> Called {
    let Some(digits) = call.state::<MathOps>().map(|state| state.digits) else {
        return Called::Returned(-1);
    };
    let text = String::from_utf8_lossy(&call.text(0)).into_owned();
    match evaluate(&text) {
        Ok(n) if n.is_finite() => write(call, 1, Value::str(format!("{n:.digits$}"))),
        Ok(_) => call.complain(Level::Error, format!("`{text}` has no finite result")),
        Err(why) => call.complain(Level::Error, format!("`{text}`: {why}")),
    }
}

fn number(call: &mut Call<'_, '_, '_>, at: usize) -> Result<f64, Called> {
    let text = String::from_utf8_lossy(&call.text(at)).into_owned();
    let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    number.ok_or_else(|| call.complain(Level::Error, format!("`{text}` is not a number")))
}

fn whole(call: &mut Call<'_, '_, '_>, round: fn(f64) -> f64) -> Called {
    match number(call, 0) {
        Ok(n) => write_whole(call, round(n)),
        Err(failed) => failed,
    }
}

fn write_whole(call: &mut Call<'_, '_, '_>, n: f64) -> Called {
    let fits = n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX);
    // A number that 32 bits cannot hold is its text.
    let value = if fits { Value::Int(n as i32) } else { Value::str(format!("{n:.0}")) };
    write(call, 1, value)
}

fn math_round(call: &mut Call<'_, '_, '_>) -> Called {
    let n = match number(call, 0) {
        Ok(n) => n,
        Err(failed) => return failed,
    };
    match call.int(2).unwrap_or(0) {
        0 => write_whole(call, n.round()),
        decimals => match usize::try_from(decimals).ok().filter(|d| *d <= 15) {
            Some(decimals) => {
                let rounded = round_to(n, decimals as i32);
                write(call, 1, Value::str(format!("{rounded:.decimals$}")))
            }
            None => call.complain(Level::Error, "0 to 15 decimals are wanted"),
        },
    }
}

/// Halves go away from zero; `decimals` may be negative.
fn round_to(n: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    let rounded = (n * scale).round() / scale;
    if rounded.is_finite() { rounded } else { n }
}

fn math_round_sf(call: &mut Call<'_, '_, '_>) -> Called {
    let n = match number(call, 0) {
        Ok(n) => n,
        Err(failed) => return failed,
    };
    let figures = call.int(2).unwrap_or(4);
    if !(1..=15).contains(&figures) {
        return call.complain(Level::Error, "1 to 15 significant figures are wanted");
    }
    if n == 0.0 {
        return write(call, 1, Value::str("0"));
    }
    let magnitude = n.abs().log10().floor() as i32;
    let decimals = figures - 1 - magnitude;
    let rounded = round_to(n, decimals);
    let shown = usize::try_from(decimals).unwrap_or(0);
    write(call, 1, Value::str(format!("{rounded:.shown$}")))
}

fn math_compare(call: &mut Call<'_, '_, '_>) -> Called {
    let (a, b) = match (number(call, 0), number(call, 1)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(failed), _) | (_, Err(failed)) => return failed,
    };
    let order = match a.partial_cmp(&b) {
        Some(Ordering::Less) => -1,
        Some(Ordering::Greater) => 1,
        _ => 0,
    };
    write(call, 2, Value::Int(order))
}

fn write(call: &mut Call<'_, '_, '_>, at: usize, value: Value) -> Called {
    match call.set_var(at, value) {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}
