//! Management commands.

use tandem_engine::mi::{MiDef, MiKind, MiParam};
use tandem_engine::table::{mi_int, mi_text};

use crate::{admin, commands, send};

const fn by_name(name: &'static str, kind: MiKind) -> MiParam {
    MiParam { name, kind }
}

const CALLID: MiParam = by_name("callid", MiKind::NamedStr);
const MODE: MiParam = by_name("mode", MiKind::NamedStr);
const METHOD: MiParam = by_name("method", MiKind::NamedStr);
const BODY: MiParam = by_name("body", MiKind::NamedStr);
const HEADERS: MiParam = by_name("headers", MiKind::NamedStr);

const LIST: &[&[MiParam]] = &[
    &[],
    &[CALLID],
    &[CALLID, by_name("from_tag", MiKind::NamedStr)],
    &[by_name("index", MiKind::NamedInt), by_name("counter", MiKind::NamedInt)],
];
const SEND: &[&[MiParam]] = &[
    &[CALLID],
    &[CALLID, MODE],
    &[CALLID, METHOD],
    &[CALLID, BODY],
    &[CALLID, MODE, METHOD],
    &[CALLID, MODE, BODY],
    &[CALLID, METHOD, BODY],
    &[CALLID, METHOD, BODY, MODE],
    &[CALLID, METHOD, BODY, MODE, HEADERS],
];
const PROFILE: &[&[MiParam]] = &[&[mi_text("profile")], &[mi_text("profile"), mi_text("value")]];

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "dialog:list",
        old_names: &["dlg_list"],
        param_sets: LIST,
        help: "Lists dialogs: all, those of a call, or a page of them.",
        run: |call| commands::list(call, false),
    },
    MiDef {
        name: "dialog:list_ctx",
        old_names: &["dlg_list_ctx"],
        param_sets: LIST,
        help: "The same, with the values and profiles of each.",
        run: |call| commands::list(call, true),
    },
    MiDef {
        name: "dialog:end_dlg",
        old_names: &["dlg_end_dlg"],
        param_sets: &[&[mi_text("dialog_id")], &[mi_text("dialog_id"), mi_text("extra_hdrs")]],
        help: "Ends a dialog, named by its ID, its number or its Call-ID: BYE to both sides, or \
               CANCEL while it rings.",
        run: commands::end_dlg,
    },
    MiDef {
        name: "dialog:push_var",
        old_names: &["dlg_push_var"],
        param_sets: &[&[
            mi_text("dlg_val_name"),
            mi_text("dlg_val_value"),
            MiParam { name: "DID", kind: MiKind::Array },
        ]],
        help: "Sets a value in dialogs.",
        run: commands::push_var,
    },
    MiDef {
        name: "dialog:send_sequential",
        old_names: &["dlg_send_sequential"],
        param_sets: SEND,
        help: "Sends a request within a dialog and answers with what came back. Modes: caller, \
               callee, challenge and challenge-callee, which bring the answer of one side to the \
               other; bodies: none, inbound, outbound, custom:TYPE:BODY.",
        run: send::send_sequential,
    },
    MiDef {
        name: "dialog:profile_get_size",
        old_names: &["profile_get_size"],
        param_sets: PROFILE,
        help: "How many dialogs are in a profile.",
        run: commands::profile_get_size,
    },
    MiDef {
        name: "dialog:profile_list_dlgs",
        old_names: &["profile_list_dlgs"],
        param_sets: PROFILE,
        help: "Lists the dialogs of a profile.",
        run: commands::profile_list_dlgs,
    },
    MiDef {
        name: "dialog:profile_get_values",
        old_names: &["profile_get_values"],
        param_sets: &[&[mi_text("profile")]],
        help: "The values of a profile with their counts.",
        run: commands::profile_get_values,
    },
    MiDef {
        name: "dialog:list_all_profiles",
        old_names: &["list_all_profiles"],
        param_sets: &[&[]],
        help: "Lists the profiles.",
        run: commands::list_all_profiles,
    },
    MiDef {
        name: "dialog:profile_end_dlgs",
        old_names: &["profile_end_dlgs"],
        param_sets: PROFILE,
        help: "Ends all dialogs of a profile.",
        run: commands::profile_end_dlgs,
    },
    MiDef {
        name: "dialog:set_profile",
        old_names: &["dlg_set_profile"],
        param_sets: &[
            &[mi_text("dlg_id"), mi_text("profile")],
            &[mi_text("dlg_id"), mi_text("profile"), mi_text("value")],
            &[mi_text("dlg_id"), mi_text("profile"), mi_text("value"), mi_int("clear_values")],
        ],
        help: "Puts a dialog into a profile.",
        run: commands::set_profile,
    },
    MiDef {
        name: "dialog:unset_profile",
        old_names: &["dlg_unset_profile"],
        param_sets: &[
            &[mi_text("dlg_id"), mi_text("profile")],
            &[mi_text("dlg_id"), mi_text("profile"), mi_text("value")],
        ],
        help: "Takes a dialog out of a profile.",
        run: commands::unset_profile,
    },
    admin::DB_SYNC,
    admin::RESTORE_DB,
    admin::CLUSTER_SYNC,
];
