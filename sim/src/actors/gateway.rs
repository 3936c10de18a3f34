//! A gateway: it answers what nodes ask it, refuses, or is silent.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tandem_sip::{Message, Method};

use super::message::reply;

/// How many there are. The last one is never probed: it is the operator's.
pub const GATEWAYS: u32 = 4;

/// What a gateway does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Answers,
    Refuses,
    IsSilent,
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) id: u32,
    pub(crate) way: Way,
}

impl Gateway {
    pub(crate) fn all() -> Vec<Self> {
        (1..=GATEWAYS).map(|id| Self { id, way: Way::default() }).collect()
    }

    pub(crate) fn address(id: u32) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 9, 0, id as u8), 5060))
    }

    pub(crate) fn receive(&self, payload: Bytes) -> Option<Bytes> {
        let request = Message::parse(payload).ok().filter(Message::is_request)?;
        if request.method() == Method::Ack {
            return None;
        }
        match self.way {
            Way::Answers => Some(reply(&request, 200, "OK", "gw", None)),
            Way::Refuses => Some(reply(&request, 503, "Service Unavailable", "gw", None)),
            Way::IsSilent => None,
        }
    }
}
