//! Script functions.

use tandem_engine::module::FunctionDef;
use tandem_engine::table::{function, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::{create, flags, matching};

const CREATE: &[ArgSig] =
    &[ArgSig { check: Some(flags::check), ..optional("flags", ArgKind::Str) }];
const MATCH: &[ArgSig] =
    &[ArgSig { check: Some(matching::check_mode), ..optional("mode", ArgKind::Str) }];

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
];
