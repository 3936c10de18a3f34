//! From settings and rows to the configuration of the machine.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tandem_cluster::{ClusterConfig, Config, NodeConfig, TagConfig};
use tandem_db::{Query, Select};
use tandem_engine::effect::DatabaseId;
use tandem_engine::gate::GateMode;
use tandem_engine::module::Cx;
use tandem_script::program::TagName;

/// Port of a node url without one.
const BIN_PORT: u16 = 5555;

pub(crate) struct Settings {
    pub(crate) my_node_id: u32,
    /// `db_mode` 1.
    pub(crate) database: Option<Database>,
    /// `db_mode` 0: this node and its neighbours.
    pub(crate) nodes: Vec<NodeRow>,
    pub(crate) tags: Vec<TagConfig>,
    /// Tags that the script uses.
    pub(crate) used_tags: Vec<TagName>,
    pub(crate) gate: GateMode,
    pub(crate) discovery: bool,
    pub(crate) rerouting: bool,
    /// `enable_stats`.
    pub(crate) has_statistics: bool,
    /// Commands that other nodes may run here.
    pub(crate) remote_commands: Vec<String>,
    pub(crate) timing: Timing,
}

pub(crate) struct Timing {
    pub(crate) ping_interval_s: u32,
    pub(crate) ping_timeout_ms: u32,
    pub(crate) node_timeout_s: u32,
    pub(crate) seed_fallback_interval_s: u32,
    pub(crate) sync_timeout_s: u32,
    pub(crate) sync_packet_size: usize,
}

pub(crate) struct Database {
    pub(crate) id: DatabaseId,
    pub(crate) table: String,
    /// The table of bridges to other clusters.
    pub(crate) bridges_table: String,
    pub(crate) columns: Columns,
}

pub(crate) struct Columns {
    pub(crate) id: String,
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) url: String,
    pub(crate) state: String,
    pub(crate) retries: String,
    pub(crate) priority: String,
    pub(crate) sip_addr: String,
    pub(crate) flags: String,
    pub(crate) description: String,
}

impl Database {
    /// All rows of the table of bridges.
    pub(crate) fn select_bridges(&self) -> Query {
        let columns = ["cluster_a", "cluster_b", "send_shtag", "dst_node_csv"];
        Query::Select(Select {
            table: self.bridges_table.clone().into(),
            columns: columns.into_iter().map(Into::into).collect(),
            ..Select::default()
        })
    }

    /// All rows of the node table.
    pub(crate) fn select(&self) -> Query {
        let c = &self.columns;
        let columns = [
            &c.id,
            &c.cluster,
            &c.node,
            &c.url,
            &c.state,
            &c.retries,
            &c.priority,
            &c.sip_addr,
            &c.flags,
            &c.description,
        ];
        Query::Select(Select {
            table: self.table.clone().into(),
            columns: columns.into_iter().map(|c| c.clone().into()).collect(),
            conds: Vec::new(),
            order: Vec::new(),
            limit: None,
        })
    }
}

/// A node as a row or a parameter describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) id: i64,
    pub(crate) cluster: u32,
    pub(crate) node: u32,
    pub(crate) url: String,
    pub(crate) enabled: bool,
    pub(crate) retries: u32,
    pub(crate) priority: i32,
    pub(crate) sip_addr: String,
    pub(crate) seed: bool,
    pub(crate) description: String,
}

impl NodeRow {
    fn config(&self) -> Result<NodeConfig, String> {
        let address = address(&self.url)?;
        Ok(NodeConfig {
            url: self.url.clone(),
            sip_addr: self.sip_addr.clone(),
            description: self.description.clone(),
            priority: self.priority,
            ping_retries: self.retries,
            seed: self.seed,
            enabled: self.enabled,
            ..NodeConfig::new(self.node, address)
        })
    }
}

/// `bin:host[:port]`, or without the scheme.
pub(crate) fn address(url: &str) -> Result<SocketAddr, String> {
    if url.starts_with("bins:") {
        return Err(format!("{url}: BIN over TLS is not in Tandem yet"));
    }
    let host = url.strip_prefix("bin:").unwrap_or(url);
    let ip = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let found = host.parse().ok().or_else(|| ip(host).map(|ip| (ip, BIN_PORT).into()));
    found.ok_or_else(|| format!("{url} is not of the form bin:IP[:PORT]"))
}

/// `cluster_id=1,node_id=2,url=bin:10.0.0.2:5566`; `own` is the id of this node, which its own
/// description need not repeat.
pub(crate) fn parse_node_info(text: &str, own: Option<u32>) -> Result<NodeRow, String> {
    let mut row = NodeRow {
        id: 0,
        cluster: 0,
        node: own.unwrap_or(0),
        url: String::new(),
        enabled: true,
        retries: 3,
        priority: 50,
        sip_addr: String::new(),
        seed: false,
        description: String::new(),
    };
    for item in text.split([',', ';']).map(str::trim).filter(|i| !i.is_empty()) {
        let (name, value) = item
            .split_once('=')
            .ok_or_else(|| format!("`{item}` is not of the form name=value"))?;
        let (name, value) = (name.trim(), value.trim());
        let number = || value.parse::<u32>().map_err(|_| format!("`{item}`: not a number"));
        match name {
            "cluster_id" => row.cluster = number()?,
            "node_id" => row.node = number()?,
            "url" => row.url = value.to_owned(),
            "state" => row.enabled = number()? != 0,
            "no_ping_retries" => row.retries = number()?,
            "priority" => row.priority = number()? as i32,
            "sip_addr" => row.sip_addr = value.to_owned(),
            "flags" => row.seed = value.split('|').any(|f| f.trim() == "seed"),
            "description" => row.description = value.to_owned(),
            other => return Err(format!("unknown property `{other}` of a node")),
        }
    }
    if row.cluster == 0 || row.node == 0 || row.url.is_empty() {
        return Err("a node needs cluster_id, node_id (of 1 or more) and url".into());
    }
    address(&row.url)?;
    Ok(row)
}

/// The machine's configuration.
pub(crate) fn config(
    cx: &mut Cx<'_>,
    settings: &Settings,
    rows: &[NodeRow],
    saved_claims: Option<Bytes>,
) -> Result<Config, String> {
    let me = settings.my_node_id;
    let mut config = Config::new(me, cx.worker.chance.u64());
    config.saved_claims = saved_claims;
    config.gate = match settings.gate {
        GateMode::Off => tandem_cluster::GateMode::Off,
        GateMode::Sent => tandem_cluster::GateMode::Sent,
        GateMode::Acked => tandem_cluster::GateMode::Acked,
    };
    config.addresses =
        cx.node.sockets.listening().map(|(_, s)| (s.addr.ip(), s.is_held())).collect();
    config.addresses.sort_unstable();
    config.addresses.dedup();
    config.clusters = clusters(settings, rows)?;
    config.tags = tags(settings, &config.clusters);
    Ok(config)
}

/// The clusters that this node is in.
pub(crate) fn clusters(
    settings: &Settings,
    rows: &[NodeRow],
) -> Result<Vec<ClusterConfig>, String> {
    let me = settings.my_node_id;
    let own = rows.iter().filter(|r| r.node == me);
    let clusters: Vec<_> = own.map(|own| cluster(settings, rows, own)).collect::<Result<_, _>>()?;
    if clusters.is_empty() {
        return Err(format!("node {me} is in no cluster: no row or my_node_info describes it"));
    }
    Ok(clusters)
}

fn cluster(settings: &Settings, rows: &[NodeRow], own: &NodeRow) -> Result<ClusterConfig, String> {
    let Timing {
        ping_interval_s,
        ping_timeout_ms,
        node_timeout_s,
        seed_fallback_interval_s,
        sync_timeout_s,
        sync_packet_size,
    } = settings.timing;
    let peers = rows.iter().filter(|r| r.cluster == own.cluster && r.node != own.node);
    Ok(ClusterConfig {
        peers: peers.map(NodeRow::config).collect::<Result<_, _>>()?,
        db_mode: settings.database.is_some(),
        discovery: settings.discovery,
        rerouting: settings.rerouting,
        ping_interval_s,
        ping_timeout_ms,
        node_timeout_s,
        seed_fallback_interval_s,
        sync_timeout_s,
        sync_packet_size,
        ..ClusterConfig::new(own.cluster, own.config()?)
    })
}

/// Tags that are defined, and those that the script only uses: they exist, as backup.
fn tags(settings: &Settings, clusters: &[ClusterConfig]) -> Vec<TagConfig> {
    let mut tags = settings.tags.clone();
    let default = clusters.first().map_or(1, |c| c.cluster);
    for used in &settings.used_tags {
        let cluster = used.cluster.unwrap_or(default);
        if !tags.iter().any(|t| t.name == used.name && t.cluster == cluster) {
            tags.push(TagConfig { name: used.name.clone(), cluster, active_in_file: false });
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_describes_itself_in_one_line() {
        let row =
            parse_node_info("cluster_id=1, url=bin:127.0.1.1:5566, flags=seed", Some(7)).unwrap();
        assert_eq!((row.cluster, row.node, row.seed), (1, 7, true));
        assert!(parse_node_info("cluster_id=1,url=bin:127.0.1.1", None).is_err());
        assert!(parse_node_info("cluster_id=1,node_id=2,url=bin:host.example", None).is_err());
        assert!(parse_node_info("cluster_id=1,node_id=2,url=127.0.0.1,colour=red", None).is_err());
    }

    #[test]
    fn a_url_without_scheme_or_port_gets_both() {
        assert_eq!(address("127.0.0.1").unwrap(), "127.0.0.1:5555".parse().unwrap());
        assert_eq!(address("bin:[::1]:7").unwrap(), "[::1]:7".parse().unwrap());
        assert!(address("bins:127.0.0.1").is_err());
    }
}
