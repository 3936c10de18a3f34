//! The events that the module raises.

use bytes::Bytes;
use tandem_engine::module::{Cx, EventDef};
use tandem_script::value::Value;

use crate::record::{Key, Publication};

pub(crate) const PUBLISH: &str = "E_PRESENCE_PUBLISH";
pub(crate) const EXPOSED: &str = "E_PRESENCE_EXPOSED";

const NAMES: &[&str] = &["user", "domain", "event", "expires", "etag", "old_etag", "body"];

pub(crate) const EVENTS: &[EventDef] = &[
    EventDef { name: PUBLISH, params: NAMES, help: "A PUBLISH was accepted." },
    EventDef { name: EXPOSED, params: NAMES, help: "`presence:expose` shows a publication." },
];

/// Raises one of them. `expires_s`: seconds that are left.
pub(crate) fn raise(
    cx: &mut Cx<'_>,
    event: &'static str,
    key: &Key,
    publication: &Publication,
    old_etag: &[u8],
    expires_s: u32,
) {
    if !cx.is_wanted(event) {
        return;
    }
    let (user, domain) = key.parts();
    let text = |bytes: &[u8]| Value::Str(Bytes::copy_from_slice(bytes));
    let params = vec![
        ("user", text(user)),
        ("domain", text(domain)),
        ("event", text(&key.event)),
        ("expires", Value::Int(i32::try_from(expires_s).unwrap_or(i32::MAX))),
        ("etag", text(&publication.etag)),
        ("old_etag", text(old_etag)),
        ("body", Value::Str(publication.body.clone())),
    ];
    cx.raise(event, params);
}
