//! What `script_route` adds to a page.

use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::program::RouteId;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::Prometheus;
use crate::page::{Naming, Page, label};

/// Values that one run adds.
const VALUES_MAX: usize = 10_000;
/// Called elsewhere than in `script_route`.
const OUTSIDE: Called = Called::Returned(-2);

const DECLARE: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    ArgSig { check: Some(check_kind), ..optional("type", ArgKind::Str) },
    optional("help", ArgKind::Str),
];
const PUSH: &[ArgSig] = &[
    arg("value", ArgKind::Int),
    optional("label_name", ArgKind::Str),
    optional("label_value", ArgKind::Str),
];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "prometheus_declare_stat",
        DECLARE,
        Routes::REQUEST,
        "Begins a statistic of the script; its type is counter or gauge. -2 outside of \
         script_route.",
        declare,
    ),
    function(
        "prometheus_push_stat",
        PUSH,
        Routes::REQUEST,
        "Gives the statistic that was declared last a value, with a label. -2 outside of \
         script_route.",
        push,
    ),
];

/// What a run of the route has collected; the section exists in such runs alone.
#[derive(Default)]
struct Pushed {
    open: bool,
    /// Name, type, help, labels, value.
    values: Vec<[String; 5]>,
    /// Name, type and help of the last statistic.
    last: Option<[String; 3]>,
}

/// Runs the route and puts what it says on the page.
pub(crate) fn run(cx: &mut Cx<'_>, route: RouteId, naming: &Naming, page: &mut Page) {
    let mut ctx = cx.own_context(Routes::REQUEST);
    let slot = cx.slot;
    ctx.section_mut::<Pushed>(slot).open = true;
    cx.run_nested(route, &mut ctx);
    let pushed = std::mem::take(ctx.section_mut::<Pushed>(slot));
    for [name, kind, help, labels, value] in pushed.values {
        page.declare(naming.full(None, &name), &kind, &help).push(labels, value);
    }
}

fn pushed<'a>(call: &'a mut Call<'_, '_, '_>) -> Option<&'a mut Pushed> {
    let slot = call.cx.slot;
    call.ctx.section::<Pushed>(slot)?;
    Some(call.ctx.section_mut::<Pushed>(slot)).filter(|pushed| pushed.open)
}

fn declare(call: &mut Call<'_, '_, '_>) -> Called {
    if call.state::<Prometheus>().is_none() {
        return Called::Returned(-1);
    }
    let text = |at: usize| String::from_utf8_lossy(&call.text(at)).into_owned();
    let (name, kind, help) = (text(0), text(1), text(2));
    let kind = if kind.is_empty() { "gauge".to_owned() } else { kind };
    if let Err(why) = check_kind(&kind) {
        return call.complain(Level::Error, why);
    }
    let Some(pushed) = pushed(call) else { return OUTSIDE };
    pushed.last = Some([name, kind, help]);
    Called::Returned(1)
}

fn push(call: &mut Call<'_, '_, '_>) -> Called {
    let value = call.int(0).unwrap_or_default().to_string();
    let text = |at: usize| String::from_utf8_lossy(&call.text(at)).into_owned();
    let (name, of) = (text(1), text(2));
    let labels = if name.is_empty() { String::new() } else { label(&name, &of) };
    let Some(pushed) = pushed(call) else { return OUTSIDE };
    let Some([name, kind, help]) = pushed.last.clone() else {
        return call.complain(Level::Error, "prometheus_declare_stat() comes first");
    };
    if pushed.values.len() >= VALUES_MAX {
        return call.complain(Level::Error, format!("more than {VALUES_MAX} values"));
    }
    pushed.values.push([name, kind, help, labels, value]);
    Called::Returned(1)
}

fn check_kind(text: &str) -> Result<(), String> {
    match text {
        "counter" | "gauge" => Ok(()),
        _ => Err(format!("`{text}` is neither counter nor gauge")),
    }
}
