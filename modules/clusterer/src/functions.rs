//! Messages from script to script, and whether an address belongs to a node.

use std::net::IpAddr;

use bytes::Bytes;
use tandem_bin::clusterer::{Extra, GenericMsg};
use tandem_cluster::ClusterError;
use tandem_engine::effect::Effect;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx, FunctionDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::{REPLY_EVENT, REQUEST_EVENT};

const CLUSTER: ArgSig = arg("cluster_id", ArgKind::Int);
const TO: ArgSig = arg("dst_id", ArgKind::Int);
const MESSAGE: ArgSig = arg("msg", ArgKind::Str);
const SEND: &[ArgSig] = &[CLUSTER, TO, MESSAGE, optional("tag", ArgKind::Var)];
const REPLY: &[ArgSig] = &[CLUSTER, TO, MESSAGE, arg("tag", ArgKind::Str)];
const BROADCAST: &[ArgSig] =
    &[CLUSTER, MESSAGE, optional("tag", ArgKind::Var), optional("include_self", ArgKind::Int)];
const ADDRESS: &[ArgSig] = &[CLUSTER, arg("ip", ArgKind::Str), optional("addr_type", ArgKind::Str)];

const ROUTES: Routes = Routes::REQUEST
    .or(Routes::FAILURE)
    .or(Routes::ONREPLY)
    .or(Routes::BRANCH)
    .or(Routes::LOCAL)
    .or(Routes::EVENT)
    .or(Routes::TIMER)
    .or(Routes::STARTUP);

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "cluster_broadcast_req",
        BROADCAST,
        ROUTES,
        "Sends a message to the scripts of all nodes of a cluster.",
        broadcast,
    ),
    function(
        "cluster_send_req",
        SEND,
        ROUTES,
        "Sends a message to the script of a node.",
        send_request,
    ),
    function(
        "cluster_send_rpl",
        REPLY,
        ROUTES,
        "Answers a message that a node sent, with the tag that came with it.",
        send_reply,
    ),
    function(
        "cluster_check_addr",
        ADDRESS,
        ROUTES,
        "Whether an address is that of a node of the cluster: its SIP or its BIN address.",
        check_address,
    ),
];

/// What the functions return besides 1.
const SELF_DISABLED: i32 = -1;
const UNREACHABLE: i32 = -2;
const SEND_ERROR: i32 = -3;
const OTHER: i32 = -4;

/// Characters of an exchange tag behind cluster and node.
const TAG_CHARS: usize = 24;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn cluster_of(call: &mut Call<'_, '_, '_>) -> Result<u32, Called> {
    let given = call.int(0).unwrap_or(0);
    match u32::try_from(given).ok().filter(|id| *id >= 1) {
        Some(id) => Ok(id),
        None => Err(call.complain(Level::Error, format!("{given} is no cluster id"))),
    }
}

/// `<cluster>-<node>-<24 random characters>`.
fn exchange_tag(cx: &mut Cx<'_>, cluster: u32) -> Bytes {
    let mut tag = format!("{cluster}-{}-", cx.node.membership().node_id());
    for _ in 0..TAG_CHARS {
        let at = cx.worker.chance.below(ALPHABET.len() as u32) as usize;
        tag.push(char::from(ALPHABET.get(at).copied().unwrap_or(b'0')));
    }
    Bytes::from(tag)
}

fn send(cx: &mut Cx<'_>, cluster: u32, to: u32, packet: &Extra) -> i32 {
    let now = cx.now;
    let sent = cx.node.membership().with(|machine, out| {
        if machine.is_enabled(cluster) == Some(false) {
            return Ok(false);
        }
        machine.send_extra(now, cluster, to, packet, out).map(|()| true)
    });
    // Only worker 0 writes to the links.
    cx.out.push(Effect::Wake);
    match sent {
        Some(Ok(true)) => 1,
        Some(Ok(false)) => SELF_DISABLED,
        Some(Err(ClusterError::NotReachable(_) | ClusterError::UnknownNode(_))) => UNREACHABLE,
        Some(Err(_)) | None => SEND_ERROR,
    }
}

fn send_request(call: &mut Call<'_, '_, '_>) -> Called {
    let cluster = match cluster_of(call) {
        Ok(cluster) => cluster,
        Err(refused) => return refused,
    };
    let to = call.int(1).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    let (exchange_tag, message) = (exchange_tag(call.cx, cluster), call.text(2));
    let text = Value::str(exchange_tag.to_vec());
    if let Err(e) = call.set_var(3, text) {
        call.complain(Level::Error, e);
        return Called::Returned(SEND_ERROR);
    }
    let packet = Extra::Generic(GenericMsg { request: true, exchange_tag, message });
    Called::Returned(send(call.cx, cluster, to, &packet))
}

fn send_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let cluster = match cluster_of(call) {
        Ok(cluster) => cluster,
        Err(refused) => return refused,
    };
    let to = call.int(1).and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    let (message, exchange_tag) = (call.text(2), call.text(3));
    let packet = Extra::Generic(GenericMsg { request: false, exchange_tag, message });
    Called::Returned(send(call.cx, cluster, to, &packet))
}

fn broadcast(call: &mut Call<'_, '_, '_>) -> Called {
    let cluster = match cluster_of(call) {
        Ok(cluster) => cluster,
        Err(refused) => return refused,
    };
    let (exchange_tag, message) = (exchange_tag(call.cx, cluster), call.text(1));
    if let Err(e) = call.set_var(2, Value::str(exchange_tag.to_vec())) {
        call.complain(Level::Error, e);
        return Called::Returned(OTHER);
    }
    let packet = Extra::Generic(GenericMsg { request: true, exchange_tag, message });
    let others = call.cx.node.membership().with(|machine, _| {
        machine.is_enabled(cluster).map(|enabled| (enabled, machine.others(cluster)))
    });
    let Some(Some((is_enabled, others))) = others else {
        call.complain(Level::Error, format!("this node is in no cluster {cluster}"));
        return Called::Returned(OTHER);
    };
    if !is_enabled {
        return Called::Returned(SELF_DISABLED);
    }
    let results: Vec<i32> = others.iter().map(|&to| send(call.cx, cluster, to, &packet)).collect();
    if call.int(3).unwrap_or(0) != 0
        && let Extra::Generic(message) = &packet
    {
        let me = call.cx.node.membership().node_id();
        raise(call.cx, cluster, me, message);
    }
    let best = results.into_iter().max().unwrap_or(UNREACHABLE);
    Called::Returned(best)
}

/// Raises the event of a message.
pub(crate) fn raise(cx: &mut Cx<'_>, cluster: u32, source: u32, message: &GenericMsg) {
    let event = if message.request { REQUEST_EVENT } else { REPLY_EVENT };
    let params = vec![
        ("cluster_id", Value::Int(cluster as i32)),
        ("src_id", Value::Int(source as i32)),
        ("msg", Value::str(message.message.to_vec())),
        ("tag", Value::str(message.exchange_tag.to_vec())),
    ];
    cx.raise(event, params);
}

fn check_address(call: &mut Call<'_, '_, '_>) -> Called {
    let cluster = match cluster_of(call) {
        Ok(cluster) => cluster,
        Err(refused) => return refused,
    };
    let text = call.text(1);
    let ip = std::str::from_utf8(&text).ok().and_then(|t| t.parse::<IpAddr>().ok());
    let Some(ip) = ip else {
        let text = String::from_utf8_lossy(&text);
        return call.complain(Level::Error, format!("`{text}` is no IP address"));
    };
    let by_bin = match call.text(2).as_ref() {
        b"" | b"sip" => false,
        b"bin" => true,
        other => {
            let other = String::from_utf8_lossy(other);
            return call.complain(Level::Error, format!("`{other}` is neither sip nor bin"));
        }
    };
    let status = call.cx.node.membership().status();
    let cluster = status.and_then(|s| s.clusters.into_iter().find(|c| c.cluster == cluster));
    let mut nodes = cluster.into_iter().flat_map(|c| c.nodes);
    let is_node = nodes.any(|node| match by_bin {
        true => node.address.ip() == ip,
        false => sip_ip(&node.sip_addr) == Some(ip),
    });
    Called::Returned(if is_node { 1 } else { -1 })
}

/// The address of `sip_addr`: an IP address with or without a scheme and a port.
fn sip_ip(text: &str) -> Option<IpAddr> {
    let text = text.rsplit_once("sip:").map_or(text, |(_, host)| host);
    let bare = |t: &str| t.trim_matches(['[', ']']).parse().ok();
    bare(text).or_else(|| bare(text.rsplit_once(':')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sip_address_may_have_a_port_and_a_scheme() {
        let ip = Some(IpAddr::from([10, 0, 0, 2]));
        for text in ["10.0.0.2", "10.0.0.2:5060", "sip:10.0.0.2:5060"] {
            assert_eq!(sip_ip(text), ip, "{text}");
        }
        assert_eq!(sip_ip("[::1]:5060"), "::1".parse().ok());
        assert_eq!(sip_ip("::1"), "::1".parse().ok());
        assert_eq!(sip_ip("host.example"), None);
    }
}
