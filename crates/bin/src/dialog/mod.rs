//! `dialog-dlg-repl`: answered calls. Versions 2 to 4 are read, version 4 is written.
//!
//! What a full dialog carries inside its fields is in [`entries`] (variables, profiles), the
//! dialog id of the SIP side in [`did`], the counters of profiles (`dialog-prof-repl`) in
//! [`profiles`].

pub mod did;
pub mod entries;
pub mod profiles;

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"dialog-dlg-repl";
/// The version that is written (3.1 to 4.0).
pub const VERSION: u16 = 4;

/// The variable that holds the sharing tag of a dialog.
pub const SHTAG_VARIABLE: &[u8] = b"dlgX_shtag";

/// Bits of [`FullDialog::flags`].
pub mod flag {
    /// Not in a database yet. Local, as all of [`LOCAL`].
    pub const NEW: u32 = 1 << 0;
    pub const CHANGED: u32 = 1 << 1;
    pub const BYE_SEEN: u32 = 1 << 2;
    pub const BYE_ON_TIMEOUT: u32 = 1 << 3;
    /// The initial request has been processed.
    pub const INITIAL: u32 = 1 << 4;
    pub const OPTIONS_PING_CALLER: u32 = 1 << 5;
    pub const OPTIONS_PING_CALLEE: u32 = 1 << 6;
    pub const LOADED: u32 = 1 << 7;
    pub const VALUES_CHANGED: u32 = 1 << 8;
    pub const DELETED: u32 = 1 << 9;
    pub const CSEQ_ENFORCE: u32 = 1 << 10;
    pub const REINVITE_PING_CALLER: u32 = 1 << 11;
    pub const REINVITE_PING_CALLEE: u32 = 1 << 12;
    pub const REINVITE_ENGAGED_REQUEST: u32 = 1 << 13;
    pub const REINVITE_ENGAGED_REPLY: u32 = 1 << 14;
    pub const END_ON_RACE: u32 = 1 << 15;
    pub const CANCELLED: u32 = 1 << 16;
    pub const RACE: u32 = 1 << 17;
    /// The lifetime was extended at its end.
    pub const EXTENDED: u32 = 1 << 18;
    pub const SYNCED: u32 = 1 << 19;
    pub const AUTO_PRACK: u32 = 1 << 20;
    /// Bookkeeping of one node: a sender clears these, a receiver ignores them.
    pub const LOCAL: u32 = NEW | CHANGED | LOADED | VALUES_CHANGED | SYNCED;
}

/// A packet of this capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogPacket {
    /// Type 1: a call was answered. Also the record of a full sync.
    Created(Box<FullDialog>),
    /// Type 2: something in an answered call changed.
    Updated(Box<FullDialog>),
    /// Type 3: a call ended.
    Deleted(DialogName),
    /// Type 4: a request that its sender made raised the CSeq of a leg.
    Cseq { name: DialogName, cseq: i32 },
    /// Type 5: one variable changed.
    Value { call_id: Bytes, id: u32, name: Bytes, value: Option<entries::Value> },
}

/// How a packet names a dialog. In a CSeq packet `to_tag` is the tag of the leg whose counter is
/// meant, `from_tag` that of the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogName {
    pub call_id: Bytes,
    pub from_tag: Bytes,
    pub to_tag: Bytes,
    /// `h_id`; absent before version 4.
    pub id: Option<u32>,
}

/// All fields of a dialog, in the order of the wire except where they belong to a leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullDialog {
    pub call_id: Bytes,
    pub from_uri: Bytes,
    pub to_uri: Bytes,
    /// `h_id`; with the hash of the Call-ID it names the dialog.
    pub id: u32,
    pub start_unix_s: u32,
    /// 1 unconfirmed, 2 early, 3 confirmed without ACK, 4 confirmed, 5 deleted.
    pub state: i32,
    pub caller: Leg,
    /// The leg that answered.
    pub callee: Leg,
    /// From URI that the callee sees; empty if it is unchanged.
    pub mangled_from: Bytes,
    pub mangled_to: Bytes,
    /// See [`entries`].
    pub variables: Bytes,
    /// See [`entries`].
    pub profiles: Bytes,
    /// Bits by the order in which the sender's script names them.
    pub user_flags: u32,
    /// Bits that mean something to one process only.
    pub module_flags: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Absolute Unix seconds.
    pub expires_unix_s: u32,
    pub on_answer: Bytes,
    pub on_timeout: Bytes,
    pub on_hangup: Bytes,
}

/// One side of a dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// From tag of the caller, To tag of the callee.
    pub tag: Bytes,
    /// `proto:ip:port`, or `proto:tag`.
    pub socket: Bytes,
    /// Decimal text: the last CSeq of requests towards this leg.
    pub cseq: Bytes,
    /// Route values separated by commas.
    pub route_set: Bytes,
    /// URI.
    pub contact: Bytes,
    /// Body received from this leg.
    pub sdp_in: Bytes,
    /// Body sent to this leg, if it is another one.
    pub sdp_out: Bytes,
    /// Contact that this leg is shown, with topology hiding.
    pub advertised_contact: Bytes,
    /// 0: none.
    pub last_generated_cseq: i32,
}

impl DialogPacket {
    /// Reads a payload. Versions 2 to 4.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet_type: u32, version: u16, payload: &Bytes) -> Result<Self, Malformed> {
        check_version(version)?;
        let r = &mut Reader::new(payload.clone());
        match packet_type {
            1 => Ok(Self::Created(Box::new(FullDialog::read(r)?))),
            2 => Ok(Self::Updated(Box::new(FullDialog::read(r)?))),
            3 => Ok(Self::Deleted(DialogName::read(r, version)?)),
            4 => {
                let name = DialogName::read(r, version)?;
                Ok(Self::Cseq { name, cseq: r.int("CSeq")? })
            }
            5 if version < 4 => Err(Malformed::Version(version)),
            5 => read_value(r),
            other => Err(Malformed::Type(other)),
        }
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self {
            Self::Created(_) => 1,
            Self::Updated(_) => 2,
            Self::Deleted(_) => 3,
            Self::Cseq { .. } => 4,
            Self::Value { .. } => 5,
        }
    }

    /// The payload in [`VERSION`].
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        match self {
            Self::Created(dialog) | Self::Updated(dialog) => dialog.write(&mut w),
            Self::Deleted(name) => name.write(&mut w),
            Self::Cseq { name, cseq } => {
                name.write(&mut w);
                w.int(*cseq);
            }
            Self::Value { call_id, id, name, value } => {
                w.str(call_id);
                w.uint(*id);
                w.str(name);
                match value {
                    None => w.int(0),
                    Some(entries::Value::Text(text)) => {
                        w.int(1);
                        w.str(text);
                    }
                    Some(entries::Value::Int(n)) => {
                        w.int(2);
                        w.int(*n);
                    }
                }
            }
        }
        w.finish()
    }
}

fn read_value(r: &mut Reader) -> Result<DialogPacket, Malformed> {
    let (call_id, id, name) = (r.str("Call-ID")?, r.uint("dialog id")?, r.str("variable")?);
    let value = match r.int("variable type")? {
        0 => None,
        1 => Some(entries::Value::Text(r.str("value")?)),
        2 => Some(entries::Value::Int(r.int("value")?)),
        value => return Err(Malformed::Value { field: "variable type", value: value.into() }),
    };
    Ok(DialogPacket::Value { call_id, id, name, value })
}

impl DialogName {
    fn read(r: &mut Reader, version: u16) -> Result<Self, Malformed> {
        Ok(Self {
            call_id: r.str("Call-ID")?,
            from_tag: r.str("From tag")?,
            to_tag: r.str("To tag")?,
            id: if version >= 4 { Some(r.uint("dialog id")?) } else { None },
        })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.call_id);
        w.str(&self.from_tag);
        w.str(&self.to_tag);
        w.uint(self.id.unwrap_or_default());
    }
}

impl FullDialog {
    /// Reads a chunk of a full sync.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(version: u16, chunk: &Bytes) -> Result<Self, Malformed> {
        check_version(version)?;
        Self::read(&mut Reader::new(chunk.clone()))
    }

    /// The chunk in [`VERSION`].
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        self.write(&mut w);
        w.finish()
    }

    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let mut d = Self { call_id: r.str("Call-ID")?, ..Self::default() };
        d.caller.tag = r.str("From tag")?;
        d.callee.tag = r.str("To tag")?;
        d.from_uri = r.str("From URI")?;
        d.to_uri = r.str("To URI")?;
        d.id = r.uint("dialog id")?;
        d.start_unix_s = r.uint("start")?;
        d.state = r.int("state")?;
        both(&mut d, |leg| &mut leg.socket, r, ["caller socket", "callee socket"])?;
        both(&mut d, |leg| &mut leg.cseq, r, ["caller CSeq", "callee CSeq"])?;
        both(&mut d, |leg| &mut leg.route_set, r, ["caller route set", "callee route set"])?;
        both(&mut d, |leg| &mut leg.contact, r, ["caller contact", "callee contact"])?;
        d.mangled_from = r.str("mangled From")?;
        d.mangled_to = r.str("mangled To")?;
        for (leg, names) in [
            (&mut d.caller, ["caller SDP in", "caller SDP out"]),
            (&mut d.callee, ["callee SDP in", "callee SDP out"]),
        ] {
            leg.sdp_in = r.str(names[0])?;
            leg.sdp_out = r.str(names[1])?;
        }
        let names = ["caller advertised contact", "callee advertised contact"];
        both(&mut d, |leg| &mut leg.advertised_contact, r, names)?;
        d.variables = r.str("variables")?;
        d.profiles = r.str("profiles")?;
        d.user_flags = r.uint("user flags")?;
        d.module_flags = r.uint("module flags")?;
        d.flags = r.uint("dialog flags")?;
        d.expires_unix_s = r.uint("timeout")?;
        d.caller.last_generated_cseq = r.int("caller last generated CSeq")?;
        d.callee.last_generated_cseq = r.int("callee last generated CSeq")?;
        // Version 2 ends here.
        for (route, name) in [
            (&mut d.on_answer, "on-answer route"),
            (&mut d.on_timeout, "on-timeout route"),
            (&mut d.on_hangup, "on-hangup route"),
        ] {
            if !r.is_empty() {
                *route = r.str(name)?;
            }
        }
        Ok(d)
    }

    fn write(&self, w: &mut Writer) {
        let (caller, callee) = (&self.caller, &self.callee);
        for text in [&self.call_id, &caller.tag, &callee.tag, &self.from_uri, &self.to_uri] {
            w.str(text);
        }
        w.uint(self.id);
        w.uint(self.start_unix_s);
        w.int(self.state);
        for text in [
            [&caller.socket, &callee.socket],
            [&caller.cseq, &callee.cseq],
            [&caller.route_set, &callee.route_set],
            [&caller.contact, &callee.contact],
            [&self.mangled_from, &self.mangled_to],
            [&caller.sdp_in, &caller.sdp_out],
            [&callee.sdp_in, &callee.sdp_out],
            [&caller.advertised_contact, &callee.advertised_contact],
            [&self.variables, &self.profiles],
        ]
        .into_iter()
        .flatten()
        {
            w.str(text);
        }
        for number in [self.user_flags, self.module_flags, self.flags, self.expires_unix_s] {
            w.uint(number);
        }
        w.int(caller.last_generated_cseq);
        w.int(callee.last_generated_cseq);
        for route in [&self.on_answer, &self.on_timeout, &self.on_hangup] {
            w.str(route);
        }
    }
}

/// A text of the caller's leg, then that of the callee's.
fn both(
    d: &mut FullDialog,
    field: fn(&mut Leg) -> &mut Bytes,
    r: &mut Reader,
    [caller, callee]: [&'static str; 2],
) -> Result<(), Malformed> {
    *field(&mut d.caller) = r.str(caller)?;
    *field(&mut d.callee) = r.str(callee)?;
    Ok(())
}

fn check_version(version: u16) -> Result<(), Malformed> {
    match version {
        2..=4 => Ok(()),
        other => Err(Malformed::Version(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_has_no_routes_and_its_deletes_no_id() {
        let dialog = FullDialog { call_id: "c".into(), id: 7, ..FullDialog::default() };
        let whole = dialog.encode().unwrap();
        let cut = whole.slice(..whole.len() - 6);
        assert_eq!(FullDialog::decode(2, &cut), Ok(dialog));
        let mut w = Writer::payload();
        ["c", "a", "b"].iter().for_each(|text| w.str(text.as_bytes()));
        let name = w.finish().unwrap();
        let Ok(DialogPacket::Deleted(name)) = DialogPacket::decode(3, 3, &name) else {
            panic!("not read")
        };
        assert_eq!(name.id, None);
        assert_eq!(FullDialog::decode(5, &whole), Err(Malformed::Version(5)));
        assert_eq!(DialogPacket::decode(5, 3, &whole), Err(Malformed::Version(3)));
    }
}
