//! Script functions.

use tandem_engine::module::FunctionDef;
use tandem_engine::table::{arg, function, literal, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::{create, flags, matching, profiles, query, send, validate, values};

const NONE: &[ArgSig] = &[];
const CREATE: &[ArgSig] = &[optional("flags", ArgKind::Flags(flags::CREATE))];
const MATCH: &[ArgSig] =
    &[ArgSig { check: Some(matching::check_mode), ..optional("mode", ArgKind::Str) }];
const SET_PROFILE: &[ArgSig] = &[
    arg("profile", ArgKind::Str),
    optional("value", ArgKind::Str),
    optional("clear_values", ArgKind::Int),
];
const PROFILE: &[ArgSig] = &[arg("profile", ArgKind::Str), optional("value", ArgKind::Str)];
const SIZE: &[ArgSig] =
    &[arg("profile", ArgKind::Str), optional("value", ArgKind::Str), arg("size", ArgKind::Var)];
const FLAG: &[ArgSig] = &[literal("flag", ArgKind::Str)];
const TEST: &[ArgSig] = &[literal("flag", ArgKind::Str), arg("value", ArgKind::Int)];
const VALUE: &[ArgSig] = &[arg("name", ArgKind::Str), arg("val", ArgKind::Var)];
const INFO: &[ArgSig] = &[
    arg("attr", ArgKind::Str),
    arg("avp", ArgKind::Var),
    arg("key", ArgKind::Str),
    arg("key_val", ArgKind::Var),
    arg("no_dlgs", ArgKind::Var),
];
const VALS: &[ArgSig] =
    &[arg("names", ArgKind::Var), arg("vals", ArgKind::Var), arg("callid", ArgKind::Str)];
const BY_VAL: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    arg("value", ArgKind::Var),
    arg("out_avp", ArgKind::Var),
    arg("no_dlgs", ArgKind::Var),
];
const BY_PROFILE: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    optional("value", ArgKind::Str),
    arg("out_avp", ArgKind::Var),
    arg("no_dlgs", ArgKind::Var),
];
const TAG: &[ArgSig] = &[arg("tag", ArgKind::SharingTag)];
const ROUTE: &[ArgSig] = &[optional("route", ArgKind::Route(Routes::REQUEST))];
const SEND: &[ArgSig] = &[
    arg("method", ArgKind::Str),
    ArgSig { check: Some(send::check_leg), ..arg("leg", ArgKind::Str) },
    optional("body", ArgKind::Str),
    optional("content_type", ArgKind::Str),
    optional("headers", ArgKind::Str),
];
const CSEQ: &[ArgSig] = &[optional("tag", ArgKind::Str), optional("inc", ArgKind::Int)];

const PASSING: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH);
const DATA: Routes = PASSING.or(Routes::LOCAL);

/// The function table.
pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "create_dialog",
        CREATE,
        Routes::REQUEST,
        "Makes a dialog for the INVITE that begins a call.",
        create::create_dialog,
    ),
    function(
        "match_dialog",
        MATCH,
        Routes::REQUEST,
        "Finds the dialog of a request without loose_route().",
        matching::match_dialog,
    ),
    function(
        "validate_dialog",
        NONE,
        Routes::REQUEST,
        "Whether CSeq (-1), Request-URI (-2) and routes (-3) fit the dialog; -4 without one.",
        validate::validate_dialog,
    ),
    function(
        "fix_route_dialog",
        NONE,
        Routes::REQUEST,
        "Sets Request-URI, Route and $du as the dialog knows them.",
        validate::fix_route_dialog,
    ),
    function(
        "set_dlg_profile",
        SET_PROFILE,
        PASSING,
        "Puts the dialog into a profile; clear_values takes it out of the other values.",
        profiles::set_dlg_profile,
    ),
    function(
        "unset_dlg_profile",
        PROFILE,
        PASSING,
        "Takes the dialog out of a profile.",
        profiles::unset_dlg_profile,
    ),
    function(
        "is_in_profile",
        PROFILE,
        PASSING,
        "Whether the dialog is in a profile.",
        profiles::is_in_profile,
    ),
    function(
        "get_profile_size",
        SIZE,
        Routes::ANY,
        "How many dialogs are in a profile.",
        profiles::get_profile_size,
    ),
    function("set_dlg_flag", FLAG, DATA, "Sets a flag of the dialog.", values::set_dlg_flag),
    function(
        "test_and_set_dlg_flag",
        TEST,
        DATA,
        "Turns a flag over if it is what the number says; false otherwise.",
        values::test_and_set_dlg_flag,
    ),
    function("reset_dlg_flag", FLAG, DATA, "Takes a flag away.", values::reset_dlg_flag),
    function("is_dlg_flag_set", FLAG, DATA, "Whether a flag is set.", values::is_dlg_flag_set),
    function(
        "store_dlg_value",
        VALUE,
        DATA,
        "Keeps a value with the dialog.",
        values::store_dlg_value,
    ),
    function(
        "fetch_dlg_value",
        VALUE,
        DATA,
        "Reads a value of the dialog; -2 if there is none.",
        values::fetch_dlg_value,
    ),
    function(
        "get_dialog_info",
        INFO,
        Routes::ANY,
        "A value of all dialogs in which another value is the given one.",
        query::get_dialog_info,
    ),
    function(
        "get_dialog_vals",
        VALS,
        Routes::ANY,
        "Names and values of the dialog of a Call-ID.",
        query::get_dialog_vals,
    ),
    function(
        "get_dialogs_by_val",
        BY_VAL,
        Routes::ANY,
        "The dialogs with a value, as JSON.",
        query::get_dialogs_by_val,
    ),
    function(
        "get_dialogs_by_profile",
        BY_PROFILE,
        Routes::ANY,
        "The dialogs of a profile, as JSON.",
        query::get_dialogs_by_profile,
    ),
    function(
        "set_dlg_sharing_tag",
        TAG,
        Routes::REQUEST,
        "Only the holder of the tag ends, pings and bills the dialog.",
        values::set_dlg_sharing_tag,
    ),
    function(
        "unload_dialog_ctx",
        NONE,
        Routes::ANY,
        "The message has no dialog from here on.",
        values::unload_dialog_ctx,
    ),
    function(
        "dlg_on_answer",
        ROUTE,
        PASSING,
        "The route that runs at the answer; none without an argument.",
        values::dlg_on_answer,
    ),
    function(
        "dlg_on_timeout",
        ROUTE,
        PASSING,
        "The route that runs when the lifetime is over; it may prolong it with $DLG_timeout.",
        values::dlg_on_timeout,
    ),
    function(
        "dlg_on_hangup",
        ROUTE,
        PASSING,
        "The route that runs at the end.",
        values::dlg_on_hangup,
    ),
    function(
        "dlg_send_sequential",
        SEND,
        Routes::ANY,
        "Sends a request within the dialog to \"caller\" or \"callee\".",
        send::dlg_send_sequential,
    ),
    function(
        "dlg_inc_cseq",
        CSEQ,
        DATA,
        "Counts up the number of the next request to a side, by its tag.",
        values::dlg_inc_cseq,
    ),
];
