//! Rows of the node table.

use tandem_cluster::BridgeConfig;
use tandem_db::{Rows, Value};

use crate::config::{Database, NodeRow, address};

/// The nodes of the table, and what is wrong with the other rows.
pub(crate) fn nodes(db: &Database, rows: &Rows) -> (Vec<NodeRow>, Vec<String>) {
    let mut nodes = Vec::new();
    let mut problems = Vec::new();
    for (n, row) in rows.rows.iter().enumerate() {
        match node(row) {
            Ok(node) => nodes.push(node),
            Err(e) => {
                problems.push(format!("row {} of table {} is left out: {e}", n + 1, db.table))
            }
        }
    }
    (nodes, problems)
}

/// A row with the columns in the order of [`Database::select`].
fn node(row: &[Value]) -> Result<NodeRow, String> {
    let cell = |n: usize| row.get(n).unwrap_or(&Value::Null);
    let number = |n: usize, what: &str, default: Option<i64>| match cell(n) {
        Value::Int(i) => Ok(*i),
        Value::Null => default.ok_or_else(|| format!("{what} is NULL")),
        _ => Err(format!("{what} is not a number")),
    };
    let id = |n: usize, what: &str| {
        let value = number(n, what, None)?;
        u32::try_from(value).ok().filter(|v| *v >= 1).ok_or_else(|| format!("{what} is {value}"))
    };
    let text = |n: usize| match cell(n) {
        Value::Str(s) => s.to_string(),
        _ => String::new(),
    };
    Ok(NodeRow {
        id: number(0, "id", Some(0))?,
        cluster: id(1, "the cluster id")?,
        node: id(2, "the node id")?,
        url: Some(text(3)).filter(|u| !u.is_empty()).ok_or("the url is missing")?,
        enabled: number(4, "state", Some(1))? != 0,
        retries: u32::try_from(number(5, "no_ping_retries", Some(3))?).unwrap_or(0),
        priority: i32::try_from(number(6, "priority", Some(50))?).unwrap_or(50),
        sip_addr: text(7),
        seed: text(8).split([',', '|', ' ']).any(|f| f == "seed"),
        description: text(9),
    })
}

/// The bridges of the table, and what is wrong with the other rows.
pub(crate) fn bridges(rows: &Rows) -> (Vec<BridgeConfig>, Vec<String>) {
    let mut bridges = Vec::new();
    let mut problems = Vec::new();
    for (n, row) in rows.rows.iter().enumerate() {
        match bridge(row) {
            Ok(bridge) => bridges.push(bridge),
            Err(e) => problems.push(format!("bridge {} is left out: {e}", n + 1)),
        }
    }
    (bridges, problems)
}

/// A row with the columns in the order of [`Database::select_bridges`].
fn bridge(row: &[Value]) -> Result<BridgeConfig, String> {
    let [Value::Int(from), Value::Int(to), Value::Str(tag), Value::Str(nodes)] = row else {
        return Err("a cluster, the tag or the nodes are missing".into());
    };
    let cluster = |id: &i64| {
        u32::try_from(*id).ok().filter(|id| *id > 0).ok_or(format!("{id} is no cluster"))
    };
    let nodes = nodes.split(',').map(str::trim).filter(|node| !node.is_empty());
    Ok(BridgeConfig {
        from: cluster(from)?,
        to: cluster(to)?,
        tag: tag.to_string(),
        addresses: nodes.map(address).collect::<Result<_, _>>()?,
    })
}
