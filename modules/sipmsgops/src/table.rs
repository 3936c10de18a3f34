//! The functions of the module.

use tandem_engine::module::FunctionDef;
use tandem_engine::table::{arg, function, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::{body, codecs, has_totag, headers, is_method, json, lists, reply, uri, validate};

const ALL: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL);
const REQUESTS: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const TARGETS: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH);
const REPLIES: Routes = TARGETS.or(Routes::ERROR);
const JUDGED: Routes = TARGETS.or(Routes::ONREPLY);

const TEXT: &[ArgSig] = &[arg("txt", ArgKind::Str)];
const HEADER: &[ArgSig] = &[arg("hname", ArgKind::Str)];
const LINE: &[ArgSig] = &[arg("txt", ArgKind::Str), optional("hdr_anchor", ArgKind::Str)];
const AFFIXES: &[ArgSig] = &[arg("prefix", ArgKind::Str), arg("suffix", ArgKind::Str)];
const METHOD: &[ArgSig] = &[arg("name", ArgKind::Methods)];
const MIME: &[ArgSig] = &[optional("mime", ArgKind::Str)];
const URI_PARAM: &[ArgSig] = &[arg("param", ArgKind::Str), optional("value", ArgKind::Str)];
const PARAM: &[ArgSig] = &[arg("param", ArgKind::Str)];
const URI: &[ArgSig] = &[arg("uri", ArgKind::Str)];
const RE: &[ArgSig] = &[arg("re", ArgKind::Regex)];
const STREAM: &[ArgSig] = &[arg("re", ArgKind::Regex), optional("re2", ArgKind::Regex)];
const PATTERN: &[ArgSig] = &[arg("pattern", ArgKind::Str)];
const PRIVACY: &[ArgSig] = &[arg("type", ArgKind::Str)];
const REMOVED: &[ArgSig] = &[optional("mime", ArgKind::Str), optional("revert", ArgKind::Str)];
const ADDED: &[ArgSig] =
    &[arg("body", ArgKind::Str), arg("mime", ArgKind::Str), optional("headers", ArgKind::Str)];
const UPDATED: &[ArgSig] = &[optional("mime", ArgKind::Str), arg("variable", ArgKind::Var)];
const CODEC: &[ArgSig] = &[arg("name", ArgKind::Str), optional("clock", ArgKind::Str)];
const OPTION: &[ArgSig] = &[arg("hdr", ArgKind::Str), arg("option", ArgKind::Str)];
const STATUS: &[ArgSig] = &[arg("code", ArgKind::Int), arg("reason", ArgKind::Str)];
const LISTED: &[ArgSig] =
    &[arg("glob", ArgKind::Str), arg("names_avp", ArgKind::Var), arg("vals_avp", ArgKind::Var)];
const OUT: &[ArgSig] = &[arg("out", ArgKind::Var)];
const VALIDATED: &[ArgSig] = &[
    ArgSig { check: Some(validate::check_flags), ..optional("flags", ArgKind::Str) },
    optional("result", ArgKind::Var),
];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function("is_method", METHOD, ALL, "Whether the method is one of `A|B`.", is_method),
    function("has_totag", &[], ALL, "Whether To has a tag.", has_totag),
    function("is_present_hf", HEADER, ALL, "Whether a header is there.", headers::is_present_hf),
    function("append_hf", LINE, ALL, "Adds header lines behind a header, or all.", |c| {
        headers::append_hf(c)
    }),
    function("insert_hf", LINE, ALL, "Adds header lines before a header, or all.", |c| {
        headers::insert_hf(c)
    }),
    function(
        "append_urihf",
        AFFIXES,
        TARGETS,
        "Adds a header line: prefix, R-URI as received, suffix.",
        headers::append_urihf,
    ),
    function("append_time", &[], REQUESTS, "Adds Date to our reply.", headers::append_time),
    function("remove_hf", HEADER, ALL, "Removes all headers of a name.", headers::remove_hf),
    function("remove_hf_re", RE, ALL, "Removes headers whose name matches.", |c| {
        headers::remove_hf_re(c)
    }),
    function("remove_hf_glob", PATTERN, ALL, "Removes headers by a pattern for names.", |c| {
        headers::remove_hf_glob(c)
    }),
    function("is_privacy", PRIVACY, ALL, "Whether Privacy has a value.", headers::is_privacy),
    function(
        "get_glob_headers_values",
        LISTED,
        ALL,
        "Names and values of the headers that a pattern for names fits.",
        headers::get_glob_headers_values,
    ),
    function("list_hdr_has_option", OPTION, ALL, "Whether a list header has a token.", |c| {
        lists::list_hdr_has_option(c)
    }),
    function("list_hdr_add_option", OPTION, ALL, "Adds a token to a list header.", |c| {
        lists::list_hdr_add_option(c)
    }),
    function("list_hdr_remove_option", OPTION, ALL, "Removes a token of a list header.", |c| {
        lists::list_hdr_remove_option(c)
    }),
    function("append_to_reply", TEXT, REPLIES, "Adds header lines to our reply.", |c| {
        reply::append_to_reply(c)
    }),
    function("append_body_to_reply", TEXT, REPLIES, "Adds to the body of our reply.", |c| {
        reply::append_body_to_reply(c)
    }),
    function(
        "change_reply_status",
        STATUS,
        Routes::ONREPLY,
        "Gives a reply another status and reason.",
        reply::change_reply_status,
    ),
    function("has_body", MIME, ALL, "Whether there is a body, of a type if given.", |c| {
        body::has_body(c)
    }),
    function("has_body_part", MIME, ALL, "As has_body().", body::has_body),
    function(
        "remove_body_part",
        REMOVED,
        ALL,
        "Deletes the parts of a type; with the second argument, all but them. A part that is left \
         alone becomes the body.",
        body::remove_body_part,
    ),
    function("add_body_part", ADDED, ALL, "Adds a body, or a part to it.", body::add_body_part),
    function(
        "get_updated_body_part",
        UPDATED,
        ALL,
        "The body, or a part of it, with what was changed so far.",
        body::get_updated_body_part,
    ),
    function("codec_exists", CODEC, ALL, "Whether the SDP has a codec.", codecs::codec_exists),
    function("codec_exists_re", RE, ALL, "Whether the SDP has a codec that matches.", |c| {
        codecs::codec_exists_re(c)
    }),
    function("codec_delete", CODEC, ALL, "Deletes a codec.", codecs::codec_delete),
    function("codec_delete_re", RE, ALL, "Deletes codecs that match.", codecs::codec_delete_re),
    function("codec_delete_except_re", RE, ALL, "Deletes codecs that do not match.", |c| {
        codecs::codec_delete_except_re(c)
    }),
    function("codec_move_up", CODEC, ALL, "Puts a codec first.", codecs::codec_move_up),
    function("codec_move_up_re", RE, ALL, "Puts codecs that match first.", |c| {
        codecs::codec_move_up_re(c)
    }),
    function("codec_move_down", CODEC, ALL, "Puts a codec last.", codecs::codec_move_down),
    function("codec_move_down_re", RE, ALL, "Puts codecs that match last.", |c| {
        codecs::codec_move_down_re(c)
    }),
    function("stream_exists", STREAM, ALL, "Whether a media stream matches.", |c| {
        codecs::stream_exists(c)
    }),
    function("stream_delete", STREAM, ALL, "Deletes media streams that match.", |c| {
        codecs::stream_delete(c)
    }),
    function(
        "is_audio_on_hold",
        &[],
        ALL,
        "1: a null address; 2: the stream is sendonly or inactive.",
        codecs::is_audio_on_hold,
    ),
    function(
        "sipmsg_validate",
        VALIDATED,
        JUDGED,
        "Whether the message is well formed; the code says what is wrong.",
        validate::sipmsg_validate,
    ),
    function("ruri_has_param", URI_PARAM, REQUESTS, "Whether the R-URI has a parameter.", |c| {
        uri::ruri_has_param(c)
    }),
    function("ruri_add_param", PARAM, REQUESTS, "Adds a parameter to the R-URI.", |c| {
        uri::ruri_add_param(c)
    }),
    function("ruri_del_param", PARAM, REQUESTS, "Deletes a parameter of the R-URI.", |c| {
        uri::ruri_del_param(c)
    }),
    function("ruri_tel2sip", &[], REQUESTS, "Makes a tel R-URI a sip one.", uri::ruri_tel2sip),
    function(
        "is_uri_user_e164",
        URI,
        Routes::REQUEST.or(Routes::FAILURE).or(Routes::LOCAL),
        "Whether the user of a URI is an E.164 number.",
        uri::is_uri_user_e164,
    ),
    function("sip_to_json", OUT, ALL, "The message as JSON.", json::sip_to_json),
];
