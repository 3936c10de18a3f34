//! What no single module can see: whether the lines of a cluster go together.

use tandem_script::program::{ModParam, Program, Setting};
use tandem_script::{Diag, Span};

/// Parameters that name a cluster by its id.
const CLUSTER_PARAMS: &[(&str, &str)] = &[
    ("usrloc", "location_cluster"),
    ("nathelper", "cluster_id"),
    ("dialog", "dialog_replication_cluster"),
    ("dialog", "profile_replication_cluster"),
    ("drouting", "cluster_id"),
    ("dispatcher", "cluster_id"),
    ("presence", "cluster_id"),
];

/// Findings about a cluster; none without the module clusterer.
pub(crate) fn cluster(program: &Program) -> Vec<Diag> {
    let Some(loaded) = program.modules.iter().find(|m| m.name == "clusterer") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if !program.sockets.iter().any(|s| matches!(s.proto.as_str(), "bin" | "bins")) {
        let text = "the node is in a cluster and has no BIN socket: no peer can reach it";
        let help = "add the line that its url names, such as socket = bin:10.0.0.1:5566";
        found.push(Diag::warning("W0910", loaded.span, text).help(help));
    }
    tags(program, &mut found);
    // With a database the nodes are known only when it is read.
    if int(program, "clusterer", "db_mode") == Some(0) {
        nodes(program, loaded.span, &mut found);
    }
    found.extend(untagged_contacts(program));
    found.extend(unsaid_pinging(program));
    for module in ["drouting", "dispatcher"] {
        found.extend(unsaid_probing(program, module));
    }
    found
}

fn params<'a>(
    program: &'a Program,
    module: &'a str,
    name: &'a str,
) -> impl Iterator<Item = &'a ModParam> {
    program.modparams.iter().filter(move |p| p.module_name == module && p.name == name)
}

fn int(program: &Program, module: &str, name: &str) -> Option<i32> {
    match params(program, module, name).last()?.value {
        Setting::Int(n) => Some(n),
        Setting::Str(_) => None,
    }
}

fn text(param: &ModParam) -> &str {
    match &param.value {
        Setting::Str(s) => s,
        Setting::Int(_) => "",
    }
}

/// The value of a field of `cluster_id=1, node_id=2, url=bin:...`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = info.split(',').filter_map(|f| f.split_once('='));
    fields.find(|(n, _)| n.trim() == name).map(|(_, v)| v.trim())
}

fn tags(program: &Program, found: &mut Vec<Diag>) {
    let mut before: Vec<(&str, Span)> = Vec::new();
    for param in params(program, "clusterer", "sharing_tag") {
        let tag = text(param).split('=').next().unwrap_or_default().trim();
        match before.iter().find(|(t, _)| *t == tag) {
            Some((_, first)) => {
                let message = format!("sharing tag `{tag}` is defined twice; the last one counts");
                let diag = Diag::warning("W0911", param.span, message);
                found.push(diag.related(*first, "the first one is here"));
            }
            None => before.push((tag, param.span)),
        }
    }
}

/// Nodes that the script itself describes.
fn nodes(program: &Program, loaded: Span, found: &mut Vec<Diag>) {
    let own: Vec<_> = params(program, "clusterer", "my_node_info").collect();
    let peers: Vec<_> = params(program, "clusterer", "neighbor_node_info").collect();
    let id_of = |info: &ModParam| field(text(info), "cluster_id").and_then(|c| c.parse().ok());
    let clusters: Vec<u32> = own.iter().filter_map(|p| id_of(p)).collect();
    let me = int(program, "clusterer", "my_node_id").map(|n| n.to_string());
    for info in &own {
        let cluster = id_of(info);
        if !peers.iter().any(|p| id_of(p) == cluster) {
            let shown = cluster.unwrap_or(0);
            let message = format!("cluster {shown} has no other node: nothing is kept elsewhere");
            let help = format!(
                "describe it: modparam(\"clusterer\", \"neighbor_node_info\", \
                 \"cluster_id={shown}, node_id=2, url=bin:ADDRESS:5566\")"
            );
            found.push(Diag::warning("W0912", info.span, message).help(help));
        }
        found.extend(foreign_url(program, info));
    }
    for peer in peers.iter().filter(|p| field(text(p), "node_id") == me.as_deref()) {
        if me.is_some() {
            let message = "this describes the node itself as its own neighbour";
            let help = "node_id has to be that of the other node";
            found.push(Diag::warning("W0913", peer.span, message).help(help));
        }
    }
    if own.is_empty() {
        let message = "db_mode is 0 and no cluster of this node is described";
        let help = "add modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:...\")";
        found.push(Diag::warning("W0912", loaded, message).help(help));
        return;
    }
    used_clusters(program, &clusters, found);
}

/// A node that gives its peers an address where it does not listen.
fn foreign_url(program: &Program, info: &ModParam) -> Option<Diag> {
    let url = field(text(info), "url")?;
    let (_, address) = url.split_once(':')?;
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = port.parse::<u16>().ok();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let named = host.parse::<std::net::IpAddr>().is_err();
    let listens = program.sockets.iter().filter(|s| s.proto.starts_with("bin")).any(|s| {
        let here = s.host == host || s.host == "*";
        let ports = &s.ports;
        here && port.is_none_or(|p| ports.is_empty() || ports.iter().any(|r| r.0 <= p && p <= r.1))
    });
    let any = program.sockets.iter().any(|s| s.proto.starts_with("bin"));
    if listens || named || !any {
        return None;
    }
    let message = format!("peers are told to connect to {url}, which is none of the BIN sockets");
    let help = format!("add socket = {url}, or name the address of a socket");
    Some(Diag::warning("W0914", info.span, message).help(help))
}

/// Cluster ids that modules and tags use, and that no line defines.
fn used_clusters(program: &Program, clusters: &[u32], found: &mut Vec<Diag>) {
    let known = clusters.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut judge = |id: u32, span: Span, what: &str| {
        if id != 0 && !clusters.contains(&id) {
            let message = format!("{what} is of cluster {id}, in which this node is not");
            let help = format!("this node is in cluster {known}");
            found.push(Diag::warning("W0915", span, message).help(help));
        }
    };
    for (module, name) in CLUSTER_PARAMS {
        for param in params(program, module, name) {
            if let Setting::Int(id) = param.value {
                judge(u32::try_from(id).unwrap_or(0), param.span, &format!("{module} {name}"));
            }
        }
    }
    for param in params(program, "clusterer", "sharing_tag") {
        let tag = text(param).split('=').next().unwrap_or_default();
        let (name, id) = tag.split_once('/').unwrap_or((tag, ""));
        let id = id.trim().parse().unwrap_or(0);
        judge(id, param.span, &format!("sharing tag `{}`", name.trim()));
    }
}

/// `save(..., tag)` while contacts are not shared: the tag decides nothing.
fn untagged_contacts(program: &Program) -> Option<Diag> {
    let usrloc = program.modules.iter().any(|m| m.name == "usrloc");
    let shared = int(program, "usrloc", "location_cluster").is_some_and(|n| n > 0);
    let (tag, span) = program.tags_in_calls.first()?;
    if !usrloc || shared {
        return None;
    }
    let message =
        format!("contacts are not shared with a cluster: tag `{}` decides nothing", tag.name);
    let help =
        "set modparam(\"usrloc\", \"location_cluster\", 1) and a working_mode_preset that shares";
    Some(Diag::warning("W0916", *span, message).help(help))
}

/// Shared contacts that are pinged, while no line says by whom.
fn unsaid_pinging(program: &Program) -> Option<Diag> {
    let pings = params(program, "nathelper", "natping_interval").last()?;
    let is_said = |name| params(program, "usrloc", name).next().is_some();
    let shared = int(program, "usrloc", "location_cluster").is_some_and(|n| n > 0);
    let never = matches!(pings.value, Setting::Int(0));
    if never || !shared || is_said("pinging_mode") || is_said("shared_pinging") {
        return None;
    }
    let message = "the pinging mode is not set: a contact with a sharing tag is pinged by the \
                   node that holds the tag, any other by the nodes in turn";
    let help = "say it with modparam(\"usrloc\", \"pinging_mode\", \"ownership\"), or \
                \"cooperation\" to share all of them";
    Some(Diag::note("N0917", pings.span, message).help(help))
}

/// Targets whose states are shared and that are probed, while no line says by whom; or a line that
/// says so while nothing is shared.
fn unsaid_probing(program: &Program, module: &str) -> Option<Diag> {
    let last = |name| params(program, module, name).last();
    let shared = int(program, module, "cluster_id").is_some_and(|n| n > 0);
    let (mode, tag) = (last("cluster_probing_mode"), last("cluster_sharing_tag"));
    if !shared {
        let line = mode.or(tag)?;
        let text = format!("{} of {module} decides nothing without its cluster_id", line.name);
        let help = "states are shared in a cluster, and every node probes without one";
        return Some(Diag::note("N0918", line.span, text).help(help));
    }
    let line = tag.filter(|_| mode.is_none())?;
    let text =
        format!("the probing mode of {module} is not set: only the holder of its tag probes");
    let help = format!(
        "say it with modparam(\"{module}\", \"cluster_probing_mode\", \"by-shtag\"), or \"all\" for \
         every node"
    );
    Some(Diag::note("N0918", line.span, text).help(help))
}
