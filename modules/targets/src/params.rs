//! Parameters that the modules share.

use tandem_engine::module::{Build, BuildError};
use tandem_engine::sockets::SocketId;
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

const MODES: [(&str, Mode); 3] =
    [("all", Mode::All), ("by-shtag", Mode::ByTag), ("distributed", Mode::Distributed)];

/// The row of `cluster_id`.
pub const CLUSTER_ID: ParamSig = param(
    "cluster_id",
    ParamKind::Int,
    Some("0"),
    "Cluster whose nodes tell each other states; 0: none.",
);
/// The row of `cluster_sharing_tag`.
pub const SHARING_TAG: ParamSig =
    param("cluster_sharing_tag", ParamKind::Str, None, "Tag whose holder tells states and probes.");
/// The row of `cluster_probing_mode`.
pub const PROBING_MODE: ParamSig = ParamSig {
    check: Some(|text| Mode::parse(text).map(|_| ())),
    ..param(
        "cluster_probing_mode",
        ParamKind::Str,
        None,
        "Who probes: all nodes; by-shtag: the holder of the tag; distributed: each its share. \
         Without it, the holder of the tag, or all if there is none.",
    )
};

/// Who probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    All,
    ByTag,
    Distributed,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, String> {
        let found = MODES.iter().find(|(name, _)| *name == text);
        found.map(|(_, mode)| *mode).ok_or_else(|| {
            let names = MODES.map(|(name, _)| name);
            format!("it is one of {}", names.join(", "))
        })
    }

    /// The mode of a module, by its parameters.
    ///
    /// # Errors
    /// When it needs a tag and there is none.
    pub fn read(build: &Build<'_>, sharing: &Sharing) -> Result<Self, BuildError> {
        let fault = |why: &str| BuildError::new("cluster_probing_mode", why);
        let mode = match build.text("cluster_probing_mode").filter(|text| !text.is_empty()) {
            Some(text) => Self::parse(text).map_err(|why| fault(&why))?,
            None => Self::usual(sharing),
        };
        if mode == Self::ByTag && sharing.tag.is_none() {
            return Err(fault("by-shtag needs cluster_sharing_tag"));
        }
        Ok(mode)
    }

    /// The mode of a module that has said nothing: who holds the tag, if there is one.
    pub fn usual(sharing: &Sharing) -> Self {
        if sharing.tag.is_some() { Self::ByTag } else { Self::All }
    }
}

/// With whom states are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// 0: with nobody.
    pub cluster: u32,
    pub tag: Option<String>,
}

impl Sharing {
    /// As the parameters say.
    ///
    /// # Errors
    /// When `cluster_id` is negative.
    pub fn read(build: &Build<'_>) -> Result<Self, BuildError> {
        let cluster = u32::try_from(build.int("cluster_id").unwrap_or(0))
            .map_err(|_| BuildError::new("cluster_id", "a cluster has no negative number"))?;
        let tag = build.text("cluster_sharing_tag").filter(|t| !t.is_empty()).map(str::to_owned);
        Ok(Self { cluster, tag })
    }
}

/// Codes of replies, as a list: `404, 405`.
///
/// # Errors
/// The item that is none.
pub fn codes(text: &str) -> Result<Vec<u16>, String> {
    let code = |item: &str| item.trim().parse().ok().filter(|code| (100..700).contains(code));
    let wrong = |item: &str| format!("`{item}` is no code of a reply");
    text.split([',', ';']).map(|item| code(item).ok_or_else(|| wrong(item))).collect()
}

/// For the table of parameters.
///
/// # Errors
/// As [`codes`].
pub fn check_codes(text: &str) -> Result<(), String> {
    codes(text).map(|_| ())
}

/// The socket that a parameter names.
///
/// # Errors
/// When this node has no such socket.
pub fn probing_socket(
    build: &Build<'_>,
    name: &'static str,
) -> Result<Option<SocketId>, BuildError> {
    let Some(text) = build.text(name).filter(|t| !t.is_empty()) else { return Ok(None) };
    let none = || BuildError::new(name, format!("{text} is no socket of this node"));
    build.sockets.named(text).ok_or_else(none).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_codes_of_replies() {
        assert_eq!(codes("404, 405;501"), Ok(vec![404, 405, 501]));
        for wrong in ["", "x", "99", "700", "404,"] {
            assert!(codes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tag_makes_its_holder_probe() {
        let tagged = Sharing { cluster: 1, tag: Some("vip".into()) };
        assert_eq!(Mode::usual(&tagged), Mode::ByTag);
        assert_eq!(Mode::usual(&Sharing::default()), Mode::All);
        assert!(Mode::parse("some").is_err());
    }
}
