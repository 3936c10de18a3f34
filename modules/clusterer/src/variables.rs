//! `$cluster.sh_tag(name/cluster)`: whether this node holds a tag; writing takes it.

use tandem_cluster::Reason;
use tandem_engine::module::{VarCall, VariableDef};
use tandem_script::host::Assign;
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;

use crate::mi::{Tag, parse_tag};

pub(crate) const VARIABLES: &[VariableDef] = &[VariableDef {
    sig: VariableSig {
        name: "cluster.sh_tag",
        writable: true,
        takes_name: true,
        takes_index: false,
        help: "1 while this node holds the sharing tag, else 0; writing 1 takes it over.",
    },
    get,
    set: Some(set),
}];

fn tag(call: &VarCall<'_, '_>) -> Option<Tag> {
    let text = std::str::from_utf8(call.access.name).ok()?;
    parse_tag(text).ok()
}

fn get(call: &mut VarCall<'_, '_>) -> Value {
    let Some(tag) = tag(call) else { return Value::Null };
    let tags = call.cx.node.membership().tags();
    Value::Int(tags.is_some_and(|t| t.is_active(&tag.name, tag.cluster)).into())
}

fn set(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let tag = tag(call).ok_or("a sharing tag is written name/cluster_id")?;
    let text = value.clone().into_bytes().unwrap_or_default();
    if value.int() != Some(1) && !text.eq_ignore_ascii_case(b"active") {
        return Err(
            "a tag can be taken (1 or \"active\"), and is given up to another node only".into()
        );
    }
    let node = std::sync::Arc::clone(call.cx.node);
    let reason = Reason::new("script", format!("script of node {}", node.membership().node_id()));
    match node.membership().activate(call.cx, &tag.name, tag.cluster, reason) {
        Some(Ok(_)) => Ok(()),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("the cluster is not configured yet".into()),
    }
}
