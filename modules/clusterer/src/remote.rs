//! Management commands over the cluster: sent to other nodes, and run for them from an explicit
//! list, so that a peer cannot end a node or read it out.

use serde_json::Value as Json;
use tandem_bin::clusterer::{Extra, MiCmd};
use tandem_cluster::ClusterError;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam, Params, run_command};
use tandem_engine::module::Cx;
use tandem_engine::table::{command, mi_int, mi_text};

use crate::ClustererModule;
use crate::mi::number;

/// What other nodes may run here unless `mi_commands` says something else: what reads, what
/// reloads from the node's own database, and what scripts of the field broadcast.
pub(crate) const DEFAULT_COMMANDS: &str = "version,uptime,pwd,arg,ps,which,\
    statistics:get,statistics:list,statistics:reset,log_level,xlog_level,\
    clusterer:list,clusterer:list_topology,clusterer:list_cap,clusterer:list_shtags,\
    clusterer:reload,clusterer:shtag_set_active,cache:store,cache:remove,\
    domain:reload,domain:dump,permissions:address_reload,dispatcher:reload,drouting:reload,\
    dialplan:reload,load_balancer:reload,tls_mgm:reload,usrloc:rm,usrloc:rm_contact";

const CMD_PARAMS: MiParam = MiParam { name: "cmd_params", kind: MiKind::Array };
const SEND: &[MiParam] = &[mi_int("cluster_id"), mi_int("destination"), mi_text("cmd_name")];
const SEND_PARAMS: &[MiParam] =
    &[mi_int("cluster_id"), mi_int("destination"), mi_text("cmd_name"), CMD_PARAMS];
const BROADCAST: &[MiParam] = &[mi_int("cluster_id"), mi_text("cmd_name")];
const BROADCAST_PARAMS: &[MiParam] = &[mi_int("cluster_id"), mi_text("cmd_name"), CMD_PARAMS];

pub(crate) const SEND_MI: MiDef = command(
    "clusterer:send_mi",
    &["cluster_send_mi"],
    &[SEND, SEND_PARAMS],
    "Runs a command on another node, which logs the result.",
    |call| send(call).unwrap_or_else(|refused| refused),
);
pub(crate) const BROADCAST_MI: MiDef = command(
    "clusterer:broadcast_mi",
    &["cluster_broadcast_mi"],
    &[BROADCAST, BROADCAST_PARAMS],
    "Runs a command on all nodes; the answer is that of this one.",
    |call| broadcast(call).unwrap_or_else(|refused| refused),
);

/// Parameters that a packet can carry.
const PARAMS_MAX: usize = 20;

/// The names of a list.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn packet(call: &MiCall<'_, '_>) -> Result<Extra, MiOutcome> {
    let command = call.text("cmd_name").unwrap_or_default().into_bytes().into();
    let given = call.array("cmd_params").unwrap_or_default();
    if given.len() > PARAMS_MAX {
        return Err(MiOutcome::failed(400, "Bad value for 'cmd_params'"));
    }
    let params = given.iter().map(|value| match value {
        Json::String(text) => Ok(text.clone().into_bytes().into()),
        Json::Number(n) => Ok(n.to_string().into_bytes().into()),
        _ => Err(MiOutcome::failed(400, "Bad value for 'cmd_params'")),
    });
    Ok(Extra::Mi(MiCmd { command, params: params.collect::<Result<_, _>>()? }))
}

fn send(call: &mut MiCall<'_, '_>) -> Result<MiOutcome, MiOutcome> {
    let (cluster, to) = (number(call, "cluster_id")?, number(call, "destination")?);
    let packet = packet(call)?;
    let membership = call.cx.node.membership();
    if to == membership.node_id() {
        return Err(MiOutcome::failed(400, "Local node specified as destination"));
    }
    let now = call.cx.now;
    match membership.with(|machine, out| machine.send_extra(now, cluster, to, &packet, out)) {
        Some(Ok(())) => Ok(MiOutcome::ok()),
        Some(Err(ClusterError::UnknownCluster(_))) => {
            Err(MiOutcome::failed(400, "Bad value for 'cluster_id'"))
        }
        Some(Err(ClusterError::NotReachable(_) | ClusterError::UnknownNode(_))) => {
            Err(MiOutcome::failed(400, "Destination down"))
        }
        Some(Err(_)) => Err(MiOutcome::failed(400, "Send error")),
        None => Err(MiOutcome::failed(400, "Internal error")),
    }
}

fn broadcast(call: &mut MiCall<'_, '_>) -> Result<MiOutcome, MiOutcome> {
    let cluster = number(call, "cluster_id")?;
    let packet = packet(call)?;
    let name = call.text("cmd_name").unwrap_or_default();
    if call.cx.node.command(&name).is_err() {
        return Err(MiOutcome::failed(400, "Command to be run not found"));
    }
    let now = call.cx.now;
    let told = call.cx.node.membership().with(|machine, out| {
        machine.is_enabled(cluster)?;
        for to in machine.others(cluster) {
            // Who is down is told nothing: there is no answer either way.
            let _ = machine.send_extra(now, cluster, to, &packet, out);
        }
        Some(())
    });
    if told.flatten().is_none() {
        return Err(MiOutcome::failed(400, "Bad value for 'cluster_id'"));
    }
    let params = call.array("cmd_params").map(<[Json]>::to_vec).unwrap_or_default();
    let params = positional(call.cx.node.command(&name).ok(), params);
    Ok(run_command(call.cx, call.request, &name, params))
}

/// The parameters for a command. A packet carries nothing but texts, so where the command wants a
/// list (`get_statistics`), the texts from there on are its items.
fn positional(command: Option<&MiDef>, mut params: Vec<Json>) -> Params {
    let sets = command.map_or(&[] as &[&[MiParam]], |def| def.param_sets);
    let fits = |set: &&&[MiParam]| {
        let is_list = set.last().is_some_and(|last| last.kind == MiKind::Array);
        is_list && params.len() >= set.len() && params.iter().all(Json::is_string)
    };
    if let Some(set) = sets.iter().find(fits) {
        let items = params.split_off(set.len() - 1);
        params.push(Json::Array(items));
    }
    if params.is_empty() { Params::None } else { Params::Positional(params) }
}

/// Runs a command for another node. There is no answer packet: the result is logged.
pub(crate) fn run(module: &ClustererModule, cx: &mut Cx<'_>, source: u32, command: &MiCmd) {
    let name = String::from_utf8_lossy(&command.command).into_owned();
    let found = cx.node.command(&name);
    let allowed = &module.settings.remote_commands;
    let may = found.as_ref().is_ok_and(|def| {
        let short = def.name.rsplit(':').next().unwrap_or(def.name);
        let known = |a: &String| {
            a == def.name
                || def.old_names.contains(&a.as_str())
                || a == short && def.name.starts_with("core:")
        };
        allowed.iter().any(known)
    });
    if !may {
        let why = if found.is_ok() { "it is not in mi_commands" } else { "it is not known" };
        cx.log(Level::Error, format!("command {name:?} of node {source} refused: {why}"));
        return;
    }
    let params = command.params.iter().map(|p| Json::from(String::from_utf8_lossy(p)));
    let params = positional(found.ok(), params.collect());
    match run_command(cx, 0, &name, params) {
        MiOutcome::Done(result) => {
            cx.log(Level::Info, format!("node {source} ran {name}: {result}"));
        }
        MiOutcome::Failed(error) => {
            let text = format!("node {source} ran {name}: {} {}", error.code, error.message);
            cx.log(Level::Error, text);
        }
        MiOutcome::Later => cx.log(Level::Info, format!("node {source} runs {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_packet_are_the_items_of_a_list() {
        use serde_json::json;
        const LIST: MiDef = command("a:b", &[], &[&[], &[CMD_PARAMS]], "", |_| MiOutcome::ok());
        const TAIL: &[MiParam] = &[mi_text("x"), CMD_PARAMS];
        const MIXED: MiDef = command("a:c", &[], &[TAIL], "", |_| MiOutcome::ok());
        let of = |def: &MiDef, params: Json| match positional(
            Some(def),
            params.as_array().cloned().unwrap_or_default(),
        ) {
            Params::Positional(all) => Json::Array(all),
            _ => Json::Null,
        };
        assert_eq!(of(&LIST, json!([])), Json::Null);
        assert_eq!(of(&LIST, json!(["all"])), json!([["all"]]));
        assert_eq!(of(&LIST, json!(["net:", "tm:"])), json!([["net:", "tm:"]]));
        assert_eq!(of(&LIST, json!([["all"]])), json!([["all"]]), "a list as it is");
        assert_eq!(of(&MIXED, json!(["x", "a", "b"])), json!(["x", ["a", "b"]]));
        assert_eq!(of(&MIXED, json!(["x"])), json!(["x"]));
        assert_eq!(of(&BROADCAST_MI, json!([1, "uptime"])), json!([1, "uptime"]));
    }

    #[test]
    fn the_default_list_cannot_end_a_node() {
        let names = commands(DEFAULT_COMMANDS);
        assert!(names.iter().all(|name| !name.contains("kill") && !name.contains("reload_routes")));
        assert!(names.contains(&"version".to_owned()));
        assert_eq!(commands(" a , b,"), ["a", "b"]);
        assert!(commands("").is_empty());
    }
}
