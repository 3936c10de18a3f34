//! `cdr spool` and `cdr claim`: the records that wait for a database.

use serde_json::{Value as Json, json};

/// The node's command behind the words.
///
/// # Errors
/// How it is written.
pub(crate) fn command(words: &[String]) -> Result<(&'static str, Json), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let of = match words.as_slice() {
        ["spool"] => return Ok(("tandem:cdr_spool", Json::Null)),
        ["claim", "--of", node] => Some(*node),
        ["claim", word] => word.strip_prefix("--of=").or_else(|| word.strip_prefix("of=")),
        _ => None,
    };
    let node = of.and_then(|n| n.parse::<u32>().ok());
    let usage = "write cdr spool, or cdr claim --of N with the id of a node";
    node.map(|n| ("tandem:cdr_claim", json!({ "of": n }))).ok_or_else(|| usage.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_commands_of_the_node() {
        let of = |text: &str| command(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("spool"), Ok(("tandem:cdr_spool", Json::Null)));
        for text in ["claim --of 2", "claim --of=2", "claim of=2"] {
            assert_eq!(of(text), Ok(("tandem:cdr_claim", json!({"of": 2}))));
        }
        for text in ["", "claim", "claim --of x", "spool all"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
