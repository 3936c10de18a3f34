//! Commands about what other nodes and databases have of the dialogs.

use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};

use crate::sql::NotRead;
use crate::state::Dialogs;

/// `dialog:db_sync`.
pub(crate) const DB_SYNC: MiDef = MiDef {
    name: "dialog:db_sync",
    old_names: &["dlg_db_sync"],
    param_sets: &[&[]],
    help: "Takes what was changed in the table of dialogs, and forgets what is not there.",
    run: db_sync,
};

/// `dialog:restore_db`.
pub(crate) const RESTORE_DB: MiDef = MiDef {
    name: "dialog:restore_db",
    old_names: &["dlg_restore_db"],
    param_sets: &[&[]],
    help: "Writes the table of dialogs anew from memory.",
    run: |call| database(call, "Cannot restore db in no-db mode!", Dialogs::rewrite_sql),
};

/// `dialog:cluster_sync`.
pub(crate) const CLUSTER_SYNC: MiDef = MiDef {
    name: "dialog:cluster_sync",
    old_names: &["dlg_cluster_sync"],
    param_sets: &[&[], &[MiParam { name: "sharing_tag", kind: MiKind::Str }]],
    help: "Asks a synced node for all dialogs.",
    run: cluster_sync,
};

fn db_sync(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let dialogs = call.cx.node.module::<Dialogs>(call.cx.slot);
    let read = dialogs.map_or(Err(NotRead::NoDatabase), |d| d.sync_sql(call.cx, call.request));
    match read {
        Ok(()) => MiOutcome::Later,
        Err(NotRead::NoDatabase) => MiOutcome::failed(400, "Cannot sync in no-db mode"),
        Err(NotRead::Busy) => MiOutcome::failed(400, "Sync mem with DB failed"),
    }
}

fn database(
    call: &mut MiCall<'_, '_>,
    without: &'static str,
    run: fn(&Dialogs, &mut tandem_engine::module::Cx<'_>) -> bool,
) -> MiOutcome {
    let dialogs = call.cx.node.module::<Dialogs>(call.cx.slot);
    match dialogs.map(|dialogs| run(&dialogs, call.cx)) {
        Some(true) => MiOutcome::ok(),
        _ => MiOutcome::failed(400, without),
    }
}

/// A tag makes no difference: records are merged, so what this node knows better stays.
fn cluster_sync(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let dialogs = call.cx.node.module::<Dialogs>(call.cx.slot);
    if !dialogs.is_some_and(|dialogs| dialogs.is_replicated()) {
        return MiOutcome::failed(400, "Dialog replication disabled");
    }
    if let Some(tag) = call.text("sharing_tag") {
        let tags = call.cx.node.membership().tags().cloned().unwrap_or_default();
        let name = tag.split_once('/').map_or(&*tag, |(name, _)| name);
        let known = tags.snapshot().into_iter().any(|view| view.name == name);
        if !known {
            return MiOutcome::failed(500, "Internal error while setting sync state");
        }
    }
    let node = std::sync::Arc::clone(call.cx.node);
    match node.membership().request_sync(call.cx) {
        true => MiOutcome::ok(),
        false => MiOutcome::failed(400, "Failed to send sync request"),
    }
}
