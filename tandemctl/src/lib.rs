//! The command line of a running node.
//!
//! `tandemctl COMMAND [ARG..]` sends a management command through the node's FIFO and prints the
//! answer. Called as `opensipsctl` (a link), or with `fifo` in front, it takes the words of a
//! keepalived hook as they are: `opensipsctl fifo clusterer_shtag_set_active service/1`.

mod args;
mod ask;
mod cdr;
mod completion;
mod config;
pub mod database;
mod fifo;
mod routes;
mod status;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use serde_json::Value as Json;

const HELP: &str = "\
usage: tandemctl [--url URL | --fifo PATH] [--reply-dir DIR] [--timeout SECONDS] [--json]
                 COMMAND [ARG..]
       tandemctl [--db URL] db create [GROUP|TABLE..] | db upgrade
       tandemctl [--db URL] [--plain] user add USER@DOMAIN PASSWORD | user passwd USER@DOMAIN
                 PASSWORD | user rm USER@DOMAIN | user list [DOMAIN]
       tandemctl completion bash|zsh|fish

  status                       who is active for which tag, since when and why; what is in step
  cluster diff                 which records differ between the nodes
  cdr spool                    records that wait for the database
  cdr claim --of N             writes what node N owes, which does not return
  routes test NUMBER [--group G] [--time T] [--partition P]
                               which rule, carrier and gateway a number takes, and why not others
  routes refused [--partition P]
                               rows of the routing tables that were refused, with the reason
  ul_dump                      the registered contacts
  which                        every command the node knows
  fifo COMMAND [ARG..]         the same as COMMAND, as keepalived hooks write it; also `mi`
  db create, db upgrade        the standard tables, without names: those that modules here use
  user add, passwd, rm, list   rows of `subscriber`; with the hashes of the password, or --plain

Arguments are positional, or named as name=value; one that starts with [ or { is JSON.
A URL is http://[USER:PASSWORD@]HOST:PORT/mi, udp:HOST:PORT, unix:/PATH or fifo:/PATH; also in
$TANDEM_URL. The database is one of --db or $TANDEM_DB, such as sqlite:///var/lib/x.sqlite.
The FIFO is the one of --fifo, $TANDEM_FIFO, $OSIPS_FIFO, or OSIPS_FIFO in tandemctlrc or
opensipsctlrc (beside this command, in /etc/tandem or /etc/opensips), else /tmp/opensips_fifo.
Exit status: 0 done, 1 the node refused, 2 the node was not reached or the call was wrong.
";

/// Runs the command line; `argv` includes the program's own name.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    match execute(argv) {
        Ok(code) => code,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "tandemctl: {text}");
            ExitCode::from(2)
        }
    }
}

fn execute(argv: impl IntoIterator<Item = OsString>) -> Result<ExitCode, String> {
    let mut call = args::parse(argv)?;
    let Some(command) = call.command.clone() else {
        print!("{HELP}");
        return Ok(if call.help { ExitCode::SUCCESS } else { ExitCode::from(2) });
    };
    match command.as_str() {
        "completion" => return completion::print(&call.words),
        "db" => return database::tables(&call),
        "user" => return database::users(&call),
        _ => {}
    }
    let is_status = command == "status" && call.params == Json::Null;
    let is_diff = command == "cluster" && call.params == serde_json::json!(["diff"]);
    let is_routes = command == "routes";
    let (method, params) = match command.as_str() {
        _ if is_status => ("tandem:status", Json::Null),
        _ if is_diff => ("tandem:cluster_diff", Json::Null),
        "cdr" => cdr::command(&call.words)?,
        "routes" => {
            let asked = routes::command(&call.words)?;
            call.json |= asked.json;
            (asked.method, asked.params)
        }
        other => (other, call.params.clone()),
    };
    let target = config::resolve(&call)?;
    let answer = ask::ask(&target, method, params)?;
    if let Some(error) = answer.get("error") {
        let hint = if error["code"] == METHOD_NOT_FOUND { near(&target, method) } else { None };
        let hint = hint.map(|name| format!(", did you mean {name}?")).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "tandemctl: {}{hint}", error_text(error));
        return Ok(ExitCode::FAILURE);
    }
    // Only a result is success: a hook may trust the exit status.
    let Some(result) = answer.get("result").cloned() else {
        return Err(format!("the node's answer has neither result nor error: {answer}"));
    };
    let text = match &result {
        _ if is_status && !call.json => status::render(&result),
        _ if method == "tandem:cdr_spool" && !call.json => status::render(&result),
        _ if is_routes && !call.json => status::render(&result),
        _ if is_diff && !call.json => status::differences(&result),
        Json::String(text) if !call.json => format!("{text}\n"),
        other if !call.json && status::is_table(other) => status::rows(other),
        other => format!("{other:#}\n"),
    };
    // A reader that went away (a closed pager) is no failure of the command.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The code of an answer to a command that the node does not know (JSON-RPC 2.0 section 5.1).
const METHOD_NOT_FOUND: i32 = -32601;

/// The command of the node whose name is nearest to this one. The node itself only says what the
/// field's clients expect to hear.
fn near(target: &config::Target, method: &str) -> Option<String> {
    let answer = ask::ask(target, "which", Json::Null).ok()?;
    let names: Vec<&str> = answer["result"].as_array()?.iter().filter_map(Json::as_str).collect();
    let short = names.iter().filter_map(|name| Some(name.split_once(':')?.1));
    tandem_script::nearest(method, names.iter().copied().chain(short)).map(str::to_owned)
}

fn error_text(error: &Json) -> String {
    let field = |name: &str| error.get(name).map(plain).unwrap_or_default();
    let data = field("data");
    let detail = if data.is_empty() { String::new() } else { format!(": {data}") };
    format!("{} {}{detail}", field("code"), field("message"))
}

fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), String::from)
}
