//! `clusterer-internal`: liveness, topology, capabilities.

use super::{INTERNAL, NODES_MAX, PATH_MAX};
use crate::{ClusterId, Malformed, NodeId, Packet, Reader, TooBig, Writer};
use bytes::Bytes;

/// A packet of `clusterer-internal`. `cluster` and `source` are the first two fields of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internal {
    pub cluster: ClusterId,
    pub source: NodeId,
    pub body: Body,
}

/// What an [`Internal`] packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Type 0. `want_list`: include your node list in the PONG.
    Ping { want_list: bool },
    /// Type 1: every node the sender knows except itself and the requester, if it was asked.
    Pong { nodes: Vec<NodeId> },
    /// Type 2.
    LinkState(LinkStateUpdate),
    /// Type 3.
    FullTop(FullTopUpdate),
    /// Type 4: "I do not know you".
    UnknownId,
    /// Type 5.
    Description(NodeDescription),
    /// Type 9.
    Capabilities(CapUpdate),
}

/// One link of the source went up or down; flooded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStateUpdate {
    pub sequence: i32,
    /// Unix seconds of the source.
    pub timestamp: u32,
    pub neighbour: NodeId,
    pub up: bool,
    /// Nodes this copy has visited, originator first.
    pub path: Vec<NodeId>,
}

/// What the source knows of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTopUpdate {
    pub sequence: i32,
    /// Unix seconds of the source.
    pub timestamp: u32,
    /// Block 0 is the source itself.
    pub nodes: Vec<NodeBlock>,
    pub path: Vec<NodeId>,
}

/// A node in a [`FullTopUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBlock {
    pub node: NodeId,
    /// Only for nodes the receiver has not listed.
    pub description: Option<Description>,
    /// -1: nothing heard yet.
    pub ls_sequence: i32,
    pub ls_timestamp: u32,
    pub neighbours: Vec<NodeId>,
}

/// How a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `bin:host[:port]`.
    pub url: Bytes,
    /// `host[:port]`, may be empty.
    pub sip_addr: Bytes,
    pub priority: i32,
    pub ping_retries: i32,
}

/// A node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    pub description: Description,
    pub path: Vec<NodeId>,
}

/// Which capabilities nodes have, and whether they are synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapUpdate {
    pub sequence: i32,
    /// Unix seconds of the source.
    pub timestamp: u32,
    pub nodes: Vec<CapNode>,
    pub require_reply: bool,
    pub path: Vec<NodeId>,
    /// False if the packet carried more blocks than it announced (stock senders do that); then
    /// `nodes` is what could be read, and the packet must not be flooded.
    pub intact: bool,
}

/// The capabilities of a node in a [`CapUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapNode {
    pub node: NodeId,
    /// Name, and whether it is synced.
    pub capabilities: Vec<(Bytes, bool)>,
}

impl Internal {
    /// Cluster and source of any `clusterer-internal` payload, for the admission rules.
    pub fn origin(payload: &Bytes) -> Result<(ClusterId, NodeId), Malformed> {
        let mut r = Reader::new(payload.clone());
        Ok((r.uint("cluster id")?, r.uint("source id")?))
    }

    /// Reads the payload of a `clusterer-internal` packet.
    pub fn decode(packet_type: u32, payload: &Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload.clone());
        let cluster = r.uint("cluster id")?;
        let source = r.uint("source id")?;
        let body = match packet_type {
            0 => Body::Ping { want_list: r.flag("want list")? },
            1 => Body::Pong { nodes: ids(&mut r, "number of nodes", NODES_MAX)? },
            2 => Body::LinkState(LinkStateUpdate::read(&mut r)?),
            3 => Body::FullTop(FullTopUpdate::read(&mut r)?),
            4 => Body::UnknownId,
            5 => Body::Description(NodeDescription {
                description: Description::read(&mut r)?,
                path: path(&mut r)?,
            }),
            9 => Body::Capabilities(CapUpdate::read(&mut r)?),
            other => return Err(Malformed::Type(other)),
        };
        Ok(Self { cluster, source, body })
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self.body {
            Body::Ping { .. } => 0,
            Body::Pong { .. } => 1,
            Body::LinkState(_) => 2,
            Body::FullTop(_) => 3,
            Body::UnknownId => 4,
            Body::Description(_) => 5,
            Body::Capabilities(_) => 9,
        }
    }

    /// The whole packet for the wire.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::packet(INTERNAL, self.packet_type(), 1);
        w.uint(self.cluster);
        w.uint(self.source);
        match &self.body {
            Body::Ping { want_list } => w.flag(*want_list),
            Body::Pong { nodes } => write_ids(&mut w, nodes),
            Body::LinkState(update) => update.write(&mut w),
            Body::FullTop(update) => update.write(&mut w),
            Body::UnknownId => {}
            Body::Description(d) => {
                d.description.write(&mut w);
                write_ids(&mut w, &d.path);
            }
            Body::Capabilities(update) => update.write(&mut w),
        }
        w.finish_packet(None)
    }

    /// Reads a packet of this capability.
    pub fn from_packet(packet: &Packet) -> Result<Self, Malformed> {
        Self::decode(packet.packet_type, &packet.payload)
    }
}

impl LinkStateUpdate {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            sequence: r.int("sequence")?,
            timestamp: r.uint("timestamp")?,
            neighbour: r.uint("neighbour id")?,
            up: match r.int("link state")? {
                0 => true,
                1 => false,
                value => {
                    return Err(Malformed::Value { field: "link state", value: value.into() });
                }
            },
            path: path(r)?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.int(self.sequence);
        w.uint(self.timestamp);
        w.uint(self.neighbour);
        w.flag(!self.up);
        write_ids(w, &self.path);
    }
}

impl Description {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            url: r.str("url")?,
            sip_addr: r.str("SIP address")?,
            priority: r.int("priority")?,
            ping_retries: r.int("ping retries")?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.url);
        w.str(&self.sip_addr);
        w.int(self.priority);
        w.int(self.ping_retries);
    }
}

impl FullTopUpdate {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let sequence = r.int("sequence")?;
        let timestamp = r.uint("timestamp")?;
        let count = r.count("number of nodes", NODES_MAX + 1)?;
        let nodes = (0..count).map(|_| NodeBlock::read(r)).collect::<Result<_, _>>()?;
        Ok(Self { sequence, timestamp, nodes, path: path(r)? })
    }

    fn write(&self, w: &mut Writer) {
        w.int(self.sequence);
        w.uint(self.timestamp);
        w.count(self.nodes.len());
        for block in &self.nodes {
            block.write(w);
        }
        write_ids(w, &self.path);
    }
}

impl NodeBlock {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            node: r.uint("node id")?,
            description: match r.flag("has description")? {
                true => Some(Description::read(r)?),
                false => None,
            },
            ls_sequence: r.int("link-state sequence")?,
            ls_timestamp: r.uint("link-state timestamp")?,
            neighbours: ids(r, "number of neighbours", NODES_MAX + 1)?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.uint(self.node);
        w.flag(self.description.is_some());
        if let Some(d) = &self.description {
            d.write(w);
        }
        w.int(self.ls_sequence);
        w.uint(self.ls_timestamp);
        write_ids(w, &self.neighbours);
    }
}

impl CapUpdate {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let sequence = r.int("sequence")?;
        let timestamp = r.uint("timestamp")?;
        let count = r.count("number of nodes", NODES_MAX + 1)?;
        let nodes = (0..count).map(|_| CapNode::read(r)).collect::<Result<Vec<_>, _>>()?;
        let (require_reply, path, intact) = match Self::read_tail(r.clone()) {
            Some((require_reply, path)) => (require_reply, path, true),
            None => (false, Vec::new(), false),
        };
        Ok(Self { sequence, timestamp, nodes, require_reply, path, intact })
    }

    /// The fields behind the blocks, if they fill the rest exactly and are plausible.
    fn read_tail(mut r: Reader) -> Option<(bool, Vec<NodeId>)> {
        let require_reply = match r.int("require reply").ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let path = ids(&mut r, "path length", PATH_MAX).ok()?;
        let plausible = r.is_empty() && path.last().is_some_and(|&id| id > 0);
        plausible.then_some((require_reply, path))
    }

    fn write(&self, w: &mut Writer) {
        w.int(self.sequence);
        w.uint(self.timestamp);
        w.count(self.nodes.len());
        for node in &self.nodes {
            w.uint(node.node);
            w.count(node.capabilities.len());
            for (name, synced) in &node.capabilities {
                w.str(name);
                w.flag(*synced);
            }
        }
        w.flag(self.require_reply);
        write_ids(w, &self.path);
    }
}

impl CapNode {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let node = r.uint("node id")?;
        // Each capability takes at least 6 bytes, so the packet bounds the loop.
        let count = r.count("number of capabilities", r.len() / 6 + 1)?;
        let capabilities = (0..count)
            .map(|_| Ok((r.str("capability name")?, r.flag("capability state")?)))
            .collect::<Result<_, Malformed>>()?;
        Ok(Self { node, capabilities })
    }
}

fn ids(r: &mut Reader, field: &'static str, max: usize) -> Result<Vec<NodeId>, Malformed> {
    let count = r.count(field, max)?;
    (0..count).map(|_| r.uint(field)).collect()
}

/// The path as it stands on the wire; its last id is the node that sent this copy.
fn path(r: &mut Reader) -> Result<Vec<NodeId>, Malformed> {
    ids(r, "path length", NODES_MAX + 1)
}

fn write_ids(w: &mut Writer, ids: &[NodeId]) {
    w.count(ids.len());
    for &id in ids {
        w.uint(id);
    }
}
