//! `dialplan`: texts matched and rewritten by rules in tables.
//!
//! # Files
//! `rules.rs` is a table in memory, `state.rs` parameters and partitions, `mi.rs` commands.

mod mi;
mod rules;
mod state;

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::rules::Found;
use crate::state::Dialplan;

/// The table of `dialplan`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "dialplan",
    help: "Texts matched and rewritten by rules in tables.",
    dependencies: &[],
    params: state::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[],
    build: Dialplan::build,
};

const TRANSLATE: &[ArgSig] = &[
    arg("dpid", ArgKind::Int),
    arg("input", ArgKind::Str),
    optional("out_var", ArgKind::Var),
    optional("attrs_var", ArgKind::Var),
    optional("partition", ArgKind::Str),
];
const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::ERROR.0 & !Routes::ONREPLY.0);

const FUNCTIONS: &[FunctionDef] = &[function(
    "dp_translate",
    TRANSLATE,
    ROUTES,
    "Applies the first rule that matches, by priority: the new text and the attributes of the rule.",
    dp_translate,
)];

fn dp_translate(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Dialplan>() else { return Called::Returned(-1) };
    let name = call.given(4).then(|| String::from_utf8_lossy(&call.text(4)).into_owned());
    let Some(part) = state.part(name.as_deref()) else {
        let name = name.unwrap_or_else(|| "default".into());
        let why = format!("there is no partition `{name}`: set db_url or partition of dialplan");
        return call.complain(Level::Error, why);
    };
    let (id, input) = (i64::from(call.int(0).unwrap_or_default()), call.text(1));
    let at = call.cx.moment();
    let (output, attrs) = match part.table().translate(id, &input, at) {
        Found::Rule { output, attrs } => (output, attrs),
        Found::NoRules => {
            return call.complain(Level::Debug, format!("there are no rules of dpid {id}"));
        }
        Found::Nothing => return Called::Returned(-1),
        Found::Failed(why) => return call.complain(Level::Error, why),
    };
    let written = call.set_var(2, Value::str(output)).and_then(|()| match attrs {
        Some(attrs) => call.set_var(3, Value::str(attrs)),
        None => Ok(()),
    });
    match written {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}
