//! Status reports of the cluster: `cap:<name>`, `sharing_tags`, `node_states`.

use tandem_cluster::{CapState, Effect as News};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

const GROUP: &str = "clusterer";
const TAGS: &str = "sharing_tags";
const NODES: &str = "node_states";

/// Makes the identifiers known when the cluster is configured.
pub(crate) fn begin(cx: &mut Cx<'_>) {
    let capabilities = cx.node.membership().status().map(|s| s.clusters).unwrap_or_default();
    for cap in capabilities.into_iter().flat_map(|c| c.capabilities) {
        show(cx, &cap.name, cap.state);
    }
    for identifier in [TAGS, NODES] {
        cx.set_status(GROUP, identifier, 1, "");
    }
}

fn show(cx: &mut Cx<'_>, capability: &str, state: CapState) {
    cx.set_status(GROUP, &format!("cap:{capability}"), state.code(), state.details());
}

/// Reports what happened.
pub(crate) fn tell(cx: &mut Cx<'_>, news: &News) {
    match news {
        News::CapState { cluster, cap, state, report } => {
            let clusters = cx.node.membership().status().map(|s| s.clusters).unwrap_or_default();
            let name = clusters.into_iter().filter(|c| c.cluster == *cluster).find_map(|c| {
                c.capabilities.into_iter().find(|known| known.cap == *cap).map(|c| c.name)
            });
            let Some(name) = name else { return };
            show(cx, &name, *state);
            cx.report(GROUP, &format!("cap:{name}"), report);
            cx.log(Level::Info, format!("cluster {cluster}, {name}: {report}"));
        }
        News::TagChanged { name, cluster, active, reason, .. } => {
            let text = match active {
                true => format!("tag <{name}/{cluster}> became active, reason: {}", reason.text),
                false => format!("tag <{name}/{cluster}> became backup, reason: {}", reason.text),
            };
            cx.report(GROUP, TAGS, &text);
        }
        News::NodeState { cluster, node, up } => {
            let state = if *up { "UP" } else { "DOWN" };
            cx.report(GROUP, NODES, &format!("Node [{node}], cluster [{cluster}] is {state}"));
        }
        _ => {}
    }
}
