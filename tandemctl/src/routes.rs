//! `routes test` and `routes refused`: why a number goes where it goes, and what was wrong with the
//! tables.

use serde_json::{Map, Value as Json};

const USAGE: &str = "write routes test NUMBER [--group G] [--time T] [--partition P], or routes \
                     refused [--partition P]";

/// What is asked of the node.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) params: Json,
    /// The answer is wanted as it is.
    pub(crate) json: bool,
}

/// The node's command behind the words.
///
/// # Errors
/// How it is written.
pub(crate) fn command(words: &[String]) -> Result<Asked, String> {
    let (verb, rest) = words.split_first().ok_or(USAGE)?;
    let (mut params, mut json, mut number) = (Map::new(), false, None);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (name, mut value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            let given = value.take().or_else(|| rest.next().cloned());
            given.ok_or_else(|| format!("{name} wants a value; {USAGE}"))
        };
        match name {
            "--json" => json = true,
            "--partition" => {
                params.insert("partition_name".into(), value()?.into());
            }
            "--group" => {
                let text = value()?;
                let group: u32 = text.parse().map_err(|_| format!("`{text}` is no group"))?;
                params.insert("group_id".into(), group.into());
            }
            "--time" => {
                params.insert("time".into(), value()?.into());
            }
            _ if number.is_none() && !word.starts_with("--") => number = Some(word.clone()),
            _ => return Err(format!("what is {word}? {USAGE}")),
        }
    }
    match (verb.as_str(), number) {
        ("test", Some(number)) => {
            params.insert("number".into(), number.into());
            Ok(Asked { method: "drouting:explain", params: params.into(), json })
        }
        ("refused", None) if !params.contains_key("group_id") && !params.contains_key("time") => {
            let params = if params.is_empty() { Json::Null } else { params.into() };
            Ok(Asked { method: "drouting:refused", params, json })
        }
        _ => Err(USAGE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(text: &str) -> Result<Asked, String> {
        command(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_words_name_commands_of_the_node() {
        let asked = |method, params, json| Ok(Asked { method, params, json });
        assert_eq!(
            of("test 4021 --group 3 --time=2026-12-24T18:00 --partition west"),
            asked(
                "drouting:explain",
                json!({
                    "group_id": 3, "time": "2026-12-24T18:00", "partition_name": "west",
                    "number": "4021"
                }),
                false
            )
        );
        let bare = json!({"number": "+40"});
        assert_eq!(of("test --json +40"), asked("drouting:explain", bare, true));
        assert_eq!(of("refused"), asked("drouting:refused", Json::Null, false));
        let west = json!({"partition_name": "west"});
        assert_eq!(of("refused --partition west"), asked("drouting:refused", west, false));
        for text in [
            "",
            "test",
            "test 1 2",
            "test 1 --group x",
            "test 1 --group",
            "refused 1",
            "show",
            "refused --group 1",
            "test 1 --what",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
