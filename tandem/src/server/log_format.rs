//! How a log line is written: as text, or as JSON for collectors.

use std::sync::OnceLock;

use serde_json::{Map, json};
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_script::program::Setting;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
    /// JSON behind the cookie of the Common Event Expression.
    Cee,
}

/// The format of standard error; text until it is set.
static STDERR: OnceLock<Format> = OnceLock::new();

/// Sets the format of standard error from the globals of the script.
///
/// # Errors
/// A format that does not exist.
pub(super) fn set(node: &Node) -> Result<(), String> {
    // A process runs one node; a second call changes nothing.
    let _ = STDERR.set(Format::of(node, "stderror_log_format")?);
    Ok(())
}

impl Format {
    pub(super) fn of_stderr() -> Self {
        STDERR.get().copied().unwrap_or_default()
    }

    /// The format that a global names.
    ///
    /// # Errors
    /// A name that is none of the three.
    pub(super) fn of(node: &Node, global: &str) -> Result<Self, String> {
        match node.program.global(global) {
            None => Ok(Self::Text),
            Some(Setting::Str(name)) => match name.as_str() {
                "plain_text" => Ok(Self::Text),
                "json" => Ok(Self::Json),
                "json_cee" => Ok(Self::Cee),
                other => Err(format!("tandem: {global}: `{other}`: plain_text, json or json_cee")),
            },
            Some(Setting::Int(_)) => {
                Err(format!("tandem: {global} is plain_text, json or json_cee"))
            }
        }
    }

    /// The whole line, `text` being the way it looks as text.
    pub(super) fn line(self, time: &str, level: Level, message: &str, text: String) -> String {
        let cookie = match self {
            Self::Text => return text,
            Self::Json => "",
            Self::Cee => "@cee: ",
        };
        let pid = std::process::id();
        let mut line = Map::new();
        if !time.is_empty() {
            line.insert("time".into(), time.into());
        }
        line.insert("pid".into(), pid.into());
        line.insert("level".into(), level.name().into());
        line.insert("message".into(), message.into());
        format!("{cookie}{}", json!(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_or_json() {
        let line = |format: Format| format.line("now", Level::Error, "a \"b\"", "plain".into());
        assert_eq!(line(Format::Text), "plain");
        let json: serde_json::Value = serde_json::from_str(&line(Format::Json)).unwrap();
        assert_eq!((&json["level"], &json["message"]), (&"ERROR".into(), &"a \"b\"".into()));
        assert!(line(Format::Cee).starts_with("@cee: {"));
    }
}
