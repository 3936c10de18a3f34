//! The words of the command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};

/// A call as written.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Path under which the program was called.
    pub(crate) program: PathBuf,
    pub(crate) fifo: Option<PathBuf>,
    pub(crate) url: Option<String>,
    /// Database of the commands that need no node.
    pub(crate) db: Option<String>,
    /// Passwords are stored as they are.
    pub(crate) plain: bool,
    pub(crate) reply_dir: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) json: bool,
    pub(crate) help: bool,
    pub(crate) command: Option<String>,
    /// Null, an array (positional) or an object (named).
    pub(crate) params: Json,
    /// What follows the command, as written.
    pub(crate) words: Vec<String>,
}

pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Call, String> {
    let mut words = argv.into_iter().map(|w| w.to_string_lossy().into_owned());
    let mut call = Call { program: words.next().unwrap_or_default().into(), ..Call::default() };
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            // Options stand in front of the command: what follows it belongs to the node.
            _ if !rest.is_empty() => rest.push(word),
            "--url" => call.url = Some(value()?),
            "--db" => call.db = Some(value()?),
            "--plain" => call.plain = true,
            "--fifo" => call.fifo = Some(value()?.into()),
            "--reply-dir" => call.reply_dir = Some(value()?.into()),
            "--timeout" => call.timeout = Some(seconds(&value()?)?),
            "--json" => call.json = true,
            "-h" | "--help" => call.help = true,
            "fifo" | "mi" => {}
            _ if word.starts_with("--") => {
                return Err(format!("unknown option {word}; see --help"));
            }
            _ => rest.push(word),
        }
    }
    let mut rest = rest.into_iter();
    call.command = rest.next().filter(|_| !call.help);
    call.words = rest.collect();
    call.params = match call.command.as_deref() {
        // These are carried out here, or have words of their own.
        Some("db" | "user" | "completion" | "routes") => Json::Null,
        command => params(command.unwrap_or_default(), call.words.clone())?,
    };
    Ok(call)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("not a number of seconds: {text}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("not a number of seconds: {text}"))
}

fn params(command: &str, words: Vec<String>) -> Result<Json, String> {
    if words.is_empty() {
        return Ok(Json::Null);
    }
    if takes_list(command) && words.iter().all(|w| !w.starts_with(['[', '{'])) {
        return Ok(Json::Array(vec![Json::Array(words.into_iter().map(Json::from).collect())]));
    }
    let named: Option<Vec<(&str, &str)>> = words.iter().map(|w| w.split_once('=')).collect();
    match named.filter(|pairs| pairs.iter().all(|(name, _)| is_name(name))) {
        Some(pairs) => {
            let pairs = pairs.into_iter().map(|(n, v)| Ok((n.to_string(), value(v)?)));
            pairs.collect::<Result<Map<_, _>, String>>().map(Json::Object)
        }
        None => words.iter().map(|w| value(w)).collect::<Result<Vec<_>, _>>().map(Json::Array),
    }
}

/// Commands whose only parameter is a list, written as words.
fn takes_list(command: &str) -> bool {
    let short = command.strip_prefix("statistics:").unwrap_or_default();
    matches!(command, "get_statistics" | "list_statistics" | "reset_statistics")
        || matches!(short, "get" | "list" | "reset")
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn value(word: &str) -> Result<Json, String> {
    if word.starts_with(['[', '{']) {
        return serde_json::from_str(word).map_err(|e| format!("not JSON: {word}: {e}"));
    }
    Ok(Json::from(word))
}

/// The folder the program was called from, for a configuration beside a link to it.
pub(crate) fn folder(program: &Path) -> Option<&Path> {
    program.parent().filter(|p| !p.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(words: &str) -> Call {
        parse(words.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn a_keepalived_line_of_the_field_is_taken_as_it_is() {
        let call = call("opensipsctl fifo clusterer_shtag_set_active service/1");
        assert_eq!(call.command.as_deref(), Some("clusterer_shtag_set_active"));
        assert_eq!(call.params, json!(["service/1"]));
    }

    #[test]
    fn arguments_are_positional_named_json_or_a_list() {
        assert_eq!(call("tandemctl ul_dump").params, Json::Null);
        assert_eq!(call("tandemctl ul_dump brief=1").params, json!({"brief": "1"}));
        assert_eq!(call("tandemctl x [1,2] a").params, json!([[1, 2], "a"]));
        assert_eq!(
            call("tandemctl get_statistics usrloc: all").params,
            json!([["usrloc:", "all"]])
        );
        assert_eq!(
            call("tandemctl ul_show_contact location sip:a@b;x=1").params,
            json!(["location", "sip:a@b;x=1"])
        );
    }

    #[test]
    fn options_stand_in_front_of_the_command() {
        let call = call("tandemctl --fifo /tmp/f --json ul_rm location --json");
        assert_eq!(call.fifo.as_deref(), Some(Path::new("/tmp/f")));
        assert_eq!((call.json, call.params), (true, json!(["location", "--json"])));
    }
}
