//! Planted faults: what a checker has to notice. They sit between the nodes and the world, never
//! in production code.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_bin::{Framer, Packet};
use tandem_sip::{Message, Method};

use crate::actors::message::reply;

/// A fault that is there for the whole run, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Packets about registrations that this node writes never arrive.
    DropRecords { node: u32 },
    /// Somebody answers this phone's REGISTER with 200; no node sees the request.
    ForgeReply { phone: u32 },
    /// What this node says about its registrations is not what it has.
    AlterDump { node: u32 },
    /// Nobody hears who holds a tag.
    HideClaims,
    /// At half time this node pings a phone without having the duty to.
    PingFrom { node: u32 },
    /// This node answers a BYE with 200 and with 500.
    Contradict { node: u32 },
    /// Packets about calls that this node writes never arrive.
    DropCalls { node: u32 },
    /// Packets about states of phones that this node writes never arrive.
    DropStates { node: u32 },
    /// What this node publishes at the end of calls never arrives.
    LeaveOn { node: u32 },
    /// Packets about states of gateways and destinations that this node writes never arrive.
    DropTargets { node: u32 },
    /// This node lists a gateway in another state than it has.
    AlterGateway { node: u32 },
    /// All nodes forget what the operator wanted of his gateway.
    ForgetSwitch,
    /// What this node says about its calls is not what it has.
    AlterCalls { node: u32 },
    /// This node lists a call whose time is long over.
    Linger { node: u32 },
    /// This node counts one call more than there is.
    Miscount { node: u32 },
    /// This node forgets: the dump it gives lacks its first registration from half time on.
    Forget { node: u32 },
}

impl Fault {
    /// What is left of a write to a BIN connection.
    pub(crate) fn on_write(self, node: u32, bytes: Bytes) -> Bytes {
        let drops = |packet: &Packet| match self {
            Self::DropRecords { node: n } => n == node && is_about(packet, REGISTRATIONS),
            Self::DropCalls { node: n } => n == node && is_about(packet, CALLS),
            Self::DropStates { node: n } => n == node && is_about(packet, STATES),
            Self::DropTargets { node: n } => {
                n == node && [GATEWAYS, DESTINATIONS].into_iter().any(|of| is_about(packet, of))
            }
            Self::HideClaims => is_about_tags(packet),
            _ => false,
        };
        let drops_some = matches!(
            self,
            Self::DropRecords { .. }
                | Self::DropCalls { .. }
                | Self::DropStates { .. }
                | Self::DropTargets { .. }
        );
        let writes = drops_some || self == Self::HideClaims;
        if !writes {
            return bytes;
        }
        let mut framer = Framer::default();
        framer.push(&bytes);
        let mut left = Vec::with_capacity(bytes.len());
        while let Ok(Some(frame)) = framer.next_frame() {
            if !Packet::decode(frame.clone()).is_ok_and(|p| drops(&p)) {
                left.extend_from_slice(&frame);
            }
        }
        Bytes::from(left)
    }

    /// Whether a datagram of a node disappears.
    pub(crate) fn swallows(self, node: u32, payload: &Bytes) -> bool {
        let Self::LeaveOn { node: n } = self else { return false };
        let end = b"<state>terminated</state>";
        n == node
            && payload.starts_with(b"PUBLISH ")
            && payload.windows(end.len()).any(|part| part == end)
    }

    /// What leaves beside the 200 to a BYE.
    pub(crate) fn beside_reply(self, node: u32, payload: &Bytes) -> Option<Bytes> {
        let Self::Contradict { node: n } = self else { return None };
        if n != node || !payload.starts_with(b"SIP/2.0 200") {
            return None;
        }
        let msg = Message::parse(payload.clone()).ok()?;
        let mut other = payload.to_vec();
        other.get_mut(8..11)?.copy_from_slice(b"500");
        (msg.method() == Method::Bye).then(|| Bytes::from(other))
    }

    /// The reply that a phone gets although its request arrives nowhere.
    pub(crate) fn on_request(self, phone: u32, payload: &Bytes) -> Option<Bytes> {
        let Self::ForgeReply { phone: p } = self else { return None };
        let msg = Message::parse(payload.clone()).ok()?;
        let forges = p == phone && msg.method() == Method::Register;
        forges.then(|| {
            let contact = msg.contact_list().ok().and_then(|list| {
                list.contacts().first().map(|c| String::from_utf8_lossy(c.uri()).into_owned())
            });
            let expires = msg.expires().ok().flatten().unwrap_or(0);
            let line = contact.map(|c| format!("<{c}>;expires={expires}"));
            reply(&msg, 200, "OK", "forged", line.as_deref())
        })
    }

    /// What the checkers are told instead of a node's answer.
    pub(crate) fn on_dump(self, node: u32, is_late: bool, mut dump: Json) -> Json {
        match self {
            Self::AlterDump { node: n } if n == node => {
                let first = aors(&mut dump).and_then(|aors| aors.first_mut());
                let contact = first.and_then(|aor| aor.get_mut("Contacts")?.get_mut(0));
                if let Some(cseq) = contact.and_then(|c| c.get_mut("Cseq")) {
                    *cseq = Json::from(cseq.as_i64().unwrap_or(0) + 1);
                }
            }
            Self::AlterCalls { node: n } if n == node => {
                let first = calls(&mut dump).and_then(|calls| calls.first_mut());
                if let Some(cseq) = first.and_then(|call| call.get_mut("callee_cseq")) {
                    *cseq = "999".into();
                }
            }
            Self::AlterGateway { node: n } if n == node => {
                set_state(&mut dump, "gw2", "Disabled MI");
            }
            Self::ForgetSwitch => set_state(&mut dump, "gw4", "Active"),
            Self::Linger { node: n } if n == node => {
                if let Some(calls) = calls(&mut dump) {
                    calls.push(json!({"callid": "ghost", "state": 4, "timeout": 1}));
                }
            }
            Self::Miscount { node: n } if n == node => {
                if let Some(count) = dump.get_mut("Profile").and_then(|p| p.get_mut("count")) {
                    *count = Json::from(count.as_u64().unwrap_or(0) + 1);
                }
            }
            Self::Forget { node: n } if n == node && is_late => {
                if let Some(aors) = aors(&mut dump).filter(|aors| !aors.is_empty()) {
                    aors.remove(0);
                }
            }
            _ => {}
        }
        dump
    }
}

fn set_state(dump: &mut Json, gateway: &str, state: &str) {
    let rows = dump.get_mut("Gateways").and_then(Json::as_array_mut);
    for row in rows.into_iter().flatten() {
        if row.get("ID").and_then(Json::as_str) == Some(gateway) {
            row["State"] = state.into();
        }
    }
}

fn calls(dump: &mut Json) -> Option<&mut Vec<Json>> {
    dump.get_mut("Dialogs")?.as_array_mut()
}

fn aors(dump: &mut Json) -> Option<&mut Vec<Json>> {
    dump.get_mut("Domains")?.get_mut(0)?.get_mut("AORs")?.as_array_mut()
}

const REGISTRATIONS: &[u8] = b"usrloc-contact-repl";
const CALLS: &[u8] = b"dialog-dlg-repl";
const STATES: &[u8] = b"tandem-presence";
const GATEWAYS: &[u8] = b"drouting-status-repl";
const DESTINATIONS: &[u8] = b"dispatcher-status-repl";

/// Records, syncs, repairs and comparisons of a capability; not its state, which says nothing
/// about any record.
fn is_about(packet: &Packet, capability: &[u8]) -> bool {
    let names = packet.payload.windows(capability.len()).any(|w| w == capability);
    packet.capability.as_ref() == capability
        || (names && packet.capability.as_ref() != b"clusterer-internal")
}

/// SHTAG_ACTIVE, and the CLAIMS of capability `tandem`.
fn is_about_tags(packet: &Packet) -> bool {
    matches!(
        (packet.capability.as_ref(), packet.packet_type),
        (b"clusterer-extra", 13) | (b"tandem", 4)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_bin::Trailer;

    fn packet(capability: &'static [u8], packet_type: u32, payload: &'static [u8]) -> Bytes {
        let trailer = Some(Trailer::new(1, 1, 2));
        let (capability, payload) = (Bytes::from_static(capability), Bytes::from_static(payload));
        Packet { capability, packet_type, version: 1, payload, trailer }.encode().unwrap()
    }

    #[test]
    fn packets_about_registrations_disappear_and_others_stay() {
        let envelope = packet(b"tandem", 2, b"..usrloc-contact-repl..");
        let claims = packet(b"tandem", 4, b"service");
        let both = Bytes::from([&envelope[..], &claims[..]].concat());
        let drop = Fault::DropRecords { node: 1 };
        assert_eq!(drop.on_write(1, both.clone()), claims);
        assert_eq!(drop.on_write(2, both.clone()), both);
        assert_eq!(Fault::HideClaims.on_write(2, both), envelope);
    }

    #[test]
    fn an_altered_dump_differs_in_one_field() {
        let dump = json!({"Domains": [{"AORs": [{"AOR": "a", "Contacts": [{"Cseq": 1}]}]}]});
        let fault = Fault::AlterDump { node: 2 };
        assert_eq!(fault.on_dump(1, true, dump.clone()), dump);
        let altered = fault.on_dump(2, true, dump);
        assert_eq!(altered["Domains"][0]["AORs"][0]["Contacts"][0]["Cseq"], 2);
    }
}
