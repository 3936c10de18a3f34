//! Whether a file is still what it was at the start.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::Value as Json;
use tandem_engine::log::Level;
use tandem_engine::mi::RpcError;
use tandem_engine::module::Cx;

use crate::CfgUtils;

/// The token of the read at the start; others are the numbers of requests.
pub(crate) const AT_START: u64 = 0;

/// The file, and its digest at the start.
pub(crate) struct Watched {
    pub(crate) path: String,
    pub(crate) md5: Option<String>,
}

impl Watched {
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), md5: None }
    }
}

/// The file was read, at the start or for a command.
pub(crate) fn read(
    state: &CfgUtils,
    cx: &mut Cx<'_>,
    token: u64,
    result: Result<Option<Bytes>, String>,
) {
    let Some(watched) = &state.digest else { return };
    let found = result.ok().flatten().map(|text| hex(&Md5::digest(&text)));
    if token == AT_START {
        let mut watched = watched.lock();
        watched.md5 = found;
        if watched.md5.is_none() {
            let text = format!("hash_file {} cannot be read", watched.path);
            drop(watched);
            cx.log(Level::Error, text);
        }
        return;
    }
    let stored = watched.lock().md5.clone();
    let failed = |code, text: &str| RpcError { code, message: text.into(), data: None };
    let answer = match found {
        None => Err(failed(500, "Internal error")),
        Some(_) if found == stored => {
            Ok(Json::from("The actual config file hash is identical to the stored one."))
        }
        Some(_) => {
            Err(failed(400, "The actual config file hash is not identical to the stored one."))
        }
    };
    cx.mi_reply(token, answer);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
