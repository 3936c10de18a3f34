//! The table of partitions.

use std::sync::Arc;

use tandem_db::{Rows, Value, check_name};
use tandem_engine::effect::DatabaseId;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use crate::destinations::text;
use crate::params::Names;
use crate::state::Drouting;
use crate::table::Partition;

/// Its columns, in the order in which they are selected.
pub(crate) const PARTITION_COLUMNS: [&str; 13] = [
    "partition_name",
    "db_url",
    "drd_table",
    "drr_table",
    "drg_table",
    "drc_table",
    "ruri_avp",
    "gw_id_avp",
    "gw_priprefix_avp",
    "gw_sock_avp",
    "rule_id_avp",
    "rule_prefix_avp",
    "carrier_id_avp",
];
/// Partitions of a node.
const PARTITIONS_MAX: usize = 256;

impl Drouting {
    /// Takes the list of partitions.
    pub(crate) fn partitions_loaded(&self, cx: &mut Cx<'_>, rows: &Rows) {
        let mut parts: Vec<Arc<Partition>> = Vec::new();
        for row in rows.rows.iter().take(PARTITIONS_MAX) {
            match self.partition(cx, row) {
                Ok(part) if parts.iter().any(|p| p.name == part.name) => {
                    let text = format!("drouting: partition `{}` is there twice", part.name);
                    cx.log(Level::Error, text);
                }
                Ok(part) => parts.push(Arc::new(part)),
                Err(why) => cx.log(Level::Error, format!("drouting: {why}")),
            }
        }
        self.partitions.write().clone_from(&parts);
        if parts.is_empty() {
            cx.log(Level::Warning, "drouting: the table has no partition that can be used");
            return cx.end_startup();
        }
        self.load_first(cx, parts);
    }

    fn partition(&self, cx: &Cx<'_>, row: &[Value]) -> Result<Partition, String> {
        let texts: Vec<String> = row.iter().map(text).collect();
        let [name, url, drd, drr, drg, drc, avps @ ..] = texts.as_slice() else {
            return Err("a row of partitions has too few columns".into());
        };
        if name.is_empty() {
            return Err("a partition has no name".into());
        }
        let at = cx
            .node
            .databases
            .iter()
            .position(|known| tandem_db::DbUrl::parse(url).is_ok_and(|url| *known == url));
        let at = at.and_then(|at| u16::try_from(at).ok()).ok_or_else(|| {
            format!(
                "partition `{name}`: its db_url is none that the script names: name it in a \
                 parameter, such as db_partitions_url or db_url of drouting"
            )
        })?;
        let or = |given: &String, default: &String| {
            let name = if given.is_empty() { default } else { given };
            check_name(name).map_err(|e| format!("partition `{name}`: {e}"))?;
            Ok::<String, String>(name.clone())
        };
        let own = &self.params.names;
        let names = Names {
            gateways: or(drd, &own.gateways)?,
            rules: or(drr, &own.rules)?,
            groups: or(drg, &own.groups)?,
            carriers: or(drc, &own.carriers)?,
        };
        let query = self.params.rule_queries.iter().find(|(part, _)| part == name);
        let query = query.map(|(_, sql)| sql.clone());
        let mut of = self.params.avps.of_partition(name);
        of.name(avps);
        let database = DatabaseId(at);
        Ok(Partition::new(name.clone(), database, names, query, of, self.params.alphabet.clone()))
    }
}
