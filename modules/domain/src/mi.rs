//! Management commands.

use serde_json::{Map, Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};

use crate::state::Domain;

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "domain:reload",
        old_names: &[],
        param_sets: &[&[]],
        help: "Reads the table of domains again.",
        run: reload,
    },
    MiDef {
        name: "domain:dump",
        old_names: &[],
        param_sets: &[&[]],
        help: "Lists the domains in memory.",
        run: dump,
    },
];

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    match cached(call) {
        Ok(domain) => domain.cached.reload(call.cx, call.request, None),
        Err(outcome) => outcome,
    }
}

fn dump(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let domain = match cached(call) {
        Ok(domain) => domain,
        Err(outcome) => return outcome,
    };
    let table = domain.table().unwrap_or_default();
    let domains = table.iter().map(|(name, entry)| {
        let mut one = Map::new();
        one.insert("name".into(), name.into());
        if let Some(attrs) = &entry.attrs {
            one.insert("attributes".into(), attrs.as_str().into());
        }
        Json::Object(one)
    });
    MiOutcome::Done(json!({"Domains": domains.collect::<Vec<_>>()}))
}

fn cached(call: &MiCall<'_, '_>) -> Result<std::sync::Arc<Domain>, MiOutcome> {
    let domain = call.cx.node.module::<Domain>(call.cx.slot);
    let domain = domain.filter(|domain| domain.params.is_cached);
    domain.ok_or_else(|| MiOutcome::failed(500, "DB is disabled (db_mode=0)"))
}
