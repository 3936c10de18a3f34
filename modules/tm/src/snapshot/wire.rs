//! A transaction as bytes, for Tandem peers.
//!
//! Lists of numbered fields (`tandem_cluster::fields`): what a reader does not know it skips, what
//! is absent has its default, and a number is never used again. Sockets are texts, routes and
//! modules names.
//!
//! Transaction: 1 name (shard, label), 2 key of the request, 3 machine (`machine.rs`), 4 request as
//! the script left it, 5 where replies go, 6 to 8 routes armed for failure, replies, branches, 9 leg
//! (repeats), 10 Reason passes, last injection, last reply made here, AVPs used (bits), 11 to 13
//! lines of Reason, of a Reason of ours, for every request, 14 one more than the branches waited for,
//! 15 owner, 16 what was rewritten, 17 what is hidden.
//!
//! Request: 1 message (absent in a spare: that of the transaction), 2 change (repeats: start, end,
//! text), 3 and 4 type and bytes of another body, 5 sender, 6 socket, 7 local address, 8 target,
//! 9 flags, 10 AVP (repeats, the oldest first), 11 lines for replies, 12 rport forced, routes taken
//! (bits), 13 Record-Route, 14 Path, 15 Via, 16 blacklists, 17 what a module attached (repeats).
//!
//! Target: 1 URI, 2 `$du`, 3 Path, 4 one more than q, 5 socket, 6 flags, 7 attribute (repeats). Leg:
//! 1 target, 2 socket, 3 onreply route, 4 how often sent, 5 `$bavp`s, 6 what is left to try, 7 phony.
//! Left to try: 1 request, 2 what was rewritten, 3 what is hidden, 4 destination (repeats).

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tandem_cluster::fields::{Fields, fields, int32, integer};
use tandem_engine::avp::Avps;
use tandem_engine::blacklist::ChoiceNames;
use tandem_engine::context::{OwnVia, RecordRoute, Rewritten};
use tandem_engine::sockets::Proto;
use tandem_engine::transport::Hop;
use tandem_sip::{Edits, Span};

use super::values::{
    addr_of, bit, bits, copy, int16, put_addr, read_avp, read_named, string, write_avps,
    write_named,
};
use super::{
    ArmedSnapshot, BranchSnapshot, HidesSnapshot, LegSnapshot, OwnerSnapshot, RecordSnapshot,
    SavedSnapshot, SourceSnapshot, SpareSnapshot, TxSnapshot, machine,
};
use crate::via_branch::TxId;

impl TxSnapshot {
    /// The transaction as bytes for a Tandem peer.
    pub fn to_bytes(&self) -> Bytes {
        let Self { id: TxId { index, label }, key, record } = self;
        let mut w = Fields::with_capacity(4096);
        w.put(1, &[&index.to_le_bytes()[..], &label.to_le_bytes()].concat());
        w.put(2, key);
        write_record(&mut w, record);
        w.into_bytes().into()
    }

    /// The transaction of such bytes; `None`: they are no transaction.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut id, mut key) = (None, Bytes::new());
        for field in fields(bytes) {
            match field? {
                (1, value) => {
                    let (index, label) = value.split_first_chunk()?;
                    let label = u64::from_le_bytes(label.try_into().ok()?);
                    id = Some(TxId { index: u16::from_le_bytes(*index), label });
                }
                (2, value) => key = copy(value),
                _ => {}
            }
        }
        Some(Self { id: id?, key, record: read_record(bytes)? })
    }
}

fn write_record(w: &mut Fields, record: &RecordSnapshot) {
    let RecordSnapshot {
        machine,
        saved,
        reply_to,
        armed: ArmedSnapshot { failure, reply, branch },
        legs,
        pass_reason,
        reason,
        cancel_reason,
        headers,
        waits,
        last_injection,
        owner,
        last_local,
        avps_used,
        rewritten,
        hides,
    } = record;
    w.within(3, |w| machine::write(w, machine));
    w.within(4, |w| write_saved(w, saved, None));
    put_addr(w, 5, *reply_to);
    for (n, route) in [(6, failure), (7, reply), (8, branch)] {
        w.optional(n, route.as_ref().map(String::as_bytes));
    }
    for leg in legs {
        w.within(9, |w| write_leg(w, leg, &saved.msg));
    }
    w.number(10, bits(&[*pass_reason, *last_injection, *last_local, *avps_used]));
    for (n, lines) in [(11, reason), (12, cancel_reason), (13, headers)] {
        w.text(n, lines);
    }
    w.number(14, waits.map_or(0, |waits| u64::from(waits) + 1));
    if let Some(owner) = owner {
        w.within(15, |w| match owner {
            OwnerSnapshot::Nobody => {}
            OwnerSnapshot::Module { module, token } => {
                w.put(1, module.as_bytes());
                w.number(2, *token);
            }
        });
    }
    write_rewritten(w, 16, *rewritten);
    if let Some(hides) = hides {
        w.within(17, |w| write_hides(w, hides));
    }
}

fn read_record(bytes: &[u8]) -> Option<RecordSnapshot> {
    let (mut machine, mut saved, mut reply_to) = (None, None, None);
    let (mut armed, mut legs) = (ArmedSnapshot::default(), Vec::new());
    let mut lines = [const { Bytes::new() }; 3];
    let mut states = [false; 4];
    let (mut waits, mut owner, mut hides) = (None, None, None);
    let mut rewritten = Rewritten::default();
    for field in fields(bytes) {
        match field? {
            (3, value) => machine = Some(machine::read(value)?),
            (4, value) => saved = Some(read_saved(value, None)?),
            (5, value) => reply_to = Some(addr_of(value)?),
            (6, value) => armed.failure = Some(string(value)?),
            (7, value) => armed.reply = Some(string(value)?),
            (8, value) => armed.branch = Some(string(value)?),
            // The request stands before what refers to it.
            (9, value) => legs.push(read_leg(value, &saved.as_ref()?.msg)?),
            (10, value) => {
                for (n, state) in (0..).zip(&mut states) {
                    *state = bit(value, n)?;
                }
            }
            (n @ 11..=13, value) => lines[usize::from(n) - 11] = copy(value),
            (14, value) => waits = int16(value)?.checked_sub(1),
            (15, value) => owner = Some(read_owner(value)?),
            (16, value) => rewritten = read_rewritten(value)?,
            (17, value) => hides = Some(read_hides(value)?),
            _ => {}
        }
    }
    let [reason, cancel_reason, headers] = lines;
    let [pass_reason, last_injection, last_local, avps_used] = states;
    Some(RecordSnapshot {
        machine: machine?,
        saved: saved?,
        reply_to: reply_to?,
        armed,
        legs,
        pass_reason,
        reason,
        cancel_reason,
        headers,
        waits,
        last_injection,
        owner,
        last_local,
        avps_used,
        rewritten,
        hides,
    })
}

/// `known`: the message of the transaction, which a spare need not have again.
fn write_saved(w: &mut Fields, saved: &SavedSnapshot, known: Option<&Bytes>) {
    let SavedSnapshot {
        msg,
        edits,
        source: SourceSnapshot { addr, socket, local_ip },
        target,
        flags,
        avps,
        reply_headers,
        force_rport,
        is_unfit,
        record_route,
        own_path,
        own_via,
        blacklists,
        attached,
    } = saved;
    if known != Some(msg) {
        w.put(1, msg);
    }
    for (Span { start, end }, text) in edits.changes() {
        w.put(2, &[&start.to_le_bytes()[..], &end.to_le_bytes(), text].concat());
    }
    w.optional(3, edits.body_type().map(|kind| &kind[..]));
    w.optional(4, edits.body().map(|body| &body[..]));
    put_addr(w, 5, *addr);
    w.put(6, socket.as_bytes());
    put_addr(w, 7, SocketAddr::new(*local_ip, 0));
    w.within(8, |w| write_branch(w, target));
    w.number(9, (*flags).into());
    write_avps(w, 10, avps);
    w.text(11, reply_headers);
    // The second tells builds of before that no Route chooses the next hop.
    w.number(12, bits(&[*force_rport, true, *is_unfit]));
    for (n, route) in [(13, record_route), (14, own_path)] {
        if let Some(route) = route {
            w.within(n, |w| write_route(w, route));
        }
    }
    if *own_via != OwnVia::default() {
        w.within(15, |w| {
            let OwnVia { host, port, rport, params } = own_via;
            w.optional(1, host.as_deref());
            w.number(2, port.map_or(0, |port| u64::from(port) + 1));
            w.number(3, (*rport).into());
            w.text(4, params);
        });
    }
    if let Some(ChoiceNames { used, unused, none }) = blacklists {
        w.within(16, |w| {
            used.iter().for_each(|name| w.put(1, name.as_bytes()));
            unused.iter().for_each(|name| w.put(2, name.as_bytes()));
            w.number(3, (*none).into());
        });
    }
    for (module, bytes) in attached {
        w.within(17, |w| {
            w.put(1, module.as_bytes());
            w.put(2, bytes);
        });
    }
}

fn read_saved(bytes: &[u8], known: Option<&Bytes>) -> Option<SavedSnapshot> {
    let (mut msg, mut source, mut socket, mut local_ip) = (known.cloned(), None, None, None);
    let (mut edits, mut body_type, mut body) = (Edits::new(), Bytes::new(), None);
    let mut this = SavedSnapshot {
        msg: Bytes::new(),
        edits: Edits::new(),
        source: SourceSnapshot {
            addr: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            socket: String::new(),
            local_ip: Ipv4Addr::UNSPECIFIED.into(),
        },
        target: BranchSnapshot::default(),
        flags: 0,
        avps: Avps::default(),
        reply_headers: Vec::new(),
        force_rport: false,
        is_unfit: false,
        record_route: None,
        own_path: None,
        own_via: OwnVia::default(),
        blacklists: None,
        attached: Vec::new(),
    };
    for field in fields(bytes) {
        match field? {
            (1, value) => msg = Some(copy(value)),
            (2, value) => {
                let (start, rest) = value.split_first_chunk()?;
                let (end, text) = rest.split_first_chunk()?;
                let (start, end) = (u32::from_le_bytes(*start), u32::from_le_bytes(*end));
                edits.replace(Span::new(start, end), copy(text));
            }
            (3, value) => body_type = copy(value),
            (4, value) => body = Some(copy(value)),
            (5, value) => source = Some(addr_of(value)?),
            (6, value) => socket = Some(string(value)?),
            (7, value) => local_ip = Some(addr_of(value)?.ip()),
            (8, value) => this.target = read_branch(value)?,
            (9, value) => this.flags = int32(value)?,
            (10, value) => read_avp(value, &mut this.avps)?,
            (11, value) => this.reply_headers = value.to_vec(),
            (12, value) => {
                (this.force_rport, this.is_unfit) = (bit(value, 0)?, bit(value, 2)?);
            }
            (13, value) => this.record_route = Some(read_route(value)?),
            (14, value) => this.own_path = Some(read_route(value)?),
            (15, value) => this.own_via = read_via(value)?,
            (16, value) => this.blacklists = Some(read_choice(value)?),
            (17, value) => this.attached.push(read_attached(value)?),
            _ => {}
        }
    }
    if let Some(body) = body {
        edits.set_body(body_type, body);
    }
    this.source = SourceSnapshot { addr: source?, socket: socket?, local_ip: local_ip? };
    Some(SavedSnapshot { msg: msg?, edits, ..this })
}

fn write_branch(w: &mut Fields, branch: &BranchSnapshot) {
    let BranchSnapshot { uri, dst_uri, path, q, socket, flags, attrs } = branch;
    w.optional(1, uri.as_deref());
    w.optional(2, dst_uri.as_deref());
    w.text(3, path);
    w.number(4, q.map_or(0, |q| u64::from(q) + 1));
    w.optional(5, socket.as_ref().map(String::as_bytes));
    w.number(6, (*flags).into());
    for (name, value) in attrs {
        write_named(w, 7, name, value);
    }
}

fn read_branch(bytes: &[u8]) -> Option<BranchSnapshot> {
    let mut this = BranchSnapshot::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => this.uri = Some(copy(value)),
            (2, value) => this.dst_uri = Some(copy(value)),
            (3, value) => this.path = copy(value),
            (4, value) => this.q = Some(u16::try_from(integer(value)?.checked_sub(1)?).ok()?),
            (5, value) => this.socket = Some(string(value)?),
            (6, value) => this.flags = int32(value)?,
            (7, value) => this.attrs.push(read_named(value)?),
            _ => {}
        }
    }
    Some(this)
}

fn write_leg(w: &mut Fields, leg: &LegSnapshot, msg: &Bytes) {
    let LegSnapshot { target, socket, on_reply, sends, bavps, spare, phony } = leg;
    w.within(1, |w| write_branch(w, target));
    w.put(2, socket.as_bytes());
    w.optional(3, on_reply.as_ref().map(String::as_bytes));
    w.number(4, (*sends).into());
    if let Some(bavps) = bavps {
        w.within(5, |w| write_avps(w, 1, bavps));
    }
    if let Some(SpareSnapshot { saved, rewritten, hides, hops }) = spare {
        w.within(6, |w| {
            w.within(1, |w| write_saved(w, saved, Some(msg)));
            write_rewritten(w, 2, *rewritten);
            if let Some(hides) = hides {
                w.within(3, |w| write_hides(w, hides));
            }
            for Hop { addr, proto } in hops {
                w.within(4, |w| {
                    w.put(1, proto.text().as_bytes());
                    put_addr(w, 2, *addr);
                });
            }
        });
    }
    w.number(7, (*phony).into());
}

fn read_leg(bytes: &[u8], msg: &Bytes) -> Option<LegSnapshot> {
    let mut this = LegSnapshot {
        target: BranchSnapshot::default(),
        socket: String::new(),
        on_reply: None,
        sends: 0,
        bavps: None,
        spare: None,
        phony: false,
    };
    for field in fields(bytes) {
        match field? {
            (1, value) => this.target = read_branch(value)?,
            (2, value) => this.socket = string(value)?,
            (3, value) => this.on_reply = Some(string(value)?),
            (4, value) => this.sends = int32(value)?,
            (5, value) => {
                let mut avps = Avps::default();
                for avp in fields(value) {
                    read_avp(avp?.1, &mut avps)?;
                }
                this.bavps = Some(avps);
            }
            (6, value) => this.spare = Some(read_spare(value, msg)?),
            (7, value) => this.phony = bit(value, 0)?,
            _ => {}
        }
    }
    Some(this)
}

fn read_spare(bytes: &[u8], msg: &Bytes) -> Option<SpareSnapshot> {
    let (mut saved, mut rewritten) = (None, Rewritten::default());
    let (mut hides, mut hops) = (None, Vec::new());
    for field in fields(bytes) {
        match field? {
            (1, value) => saved = Some(read_saved(value, Some(msg))?),
            (2, value) => rewritten = read_rewritten(value)?,
            (3, value) => hides = Some(read_hides(value)?),
            (4, value) => hops.push(read_hop(value)?),
            _ => {}
        }
    }
    Some(SpareSnapshot { saved: saved?, rewritten, hides, hops })
}

fn read_hop(bytes: &[u8]) -> Option<Hop> {
    let (mut proto, mut addr) = (None, None);
    for field in fields(bytes) {
        match field? {
            (1, value) => {
                proto = [Proto::Udp, Proto::Tcp].into_iter().find(|p| p.text().as_bytes() == value)
            }
            (2, value) => addr = Some(addr_of(value)?),
            _ => {}
        }
    }
    Some(Hop { addr: addr?, proto: proto? })
}

fn write_rewritten(w: &mut Fields, n: u8, rewritten: Rewritten) {
    let Rewritten { names, cseq, plain } = rewritten;
    if rewritten.is_any() {
        w.within(n, |w| {
            w.number(1, bits(&[names, plain]));
            w.number(2, cseq.into());
        });
    }
}

fn read_rewritten(bytes: &[u8]) -> Option<Rewritten> {
    let mut this = Rewritten::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => (this.names, this.plain) = (bit(value, 0)?, bit(value, 1)?),
            (2, value) => this.cseq = int32(value)?,
            _ => {}
        }
    }
    Some(this)
}

/// 1 module, 2 its flags, 3 and 4 users of the Contact that sender and receiver are shown, 5 route
/// to the sender (repeats), 6 place.
fn write_hides(w: &mut Fields, hides: &HidesSnapshot) {
    let HidesSnapshot { module, flags, shown_user, sent_user, own_routes, place } = hides;
    w.put(1, module.as_bytes());
    w.number(2, (*flags).into());
    w.text(3, shown_user);
    w.text(4, sent_user);
    own_routes.iter().for_each(|route| w.put(5, route));
    w.text(6, place);
}

fn read_hides(bytes: &[u8]) -> Option<HidesSnapshot> {
    let mut this = HidesSnapshot::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => this.module = string(value)?,
            (2, value) => this.flags = u8::try_from(integer(value)?).ok()?,
            (3, value) => this.shown_user = copy(value),
            (4, value) => this.sent_user = copy(value),
            (5, value) => this.own_routes.push(value.to_vec()),
            (6, value) => this.place = copy(value),
            _ => {}
        }
    }
    Some(this)
}

fn read_owner(bytes: &[u8]) -> Option<OwnerSnapshot> {
    let (mut name, mut number) = (None, 0);
    for field in fields(bytes) {
        match field? {
            (1, value) => name = Some(string(value)?),
            (2, value) => number = integer(value)?,
            _ => {}
        }
    }
    let module = |module| OwnerSnapshot::Module { module, token: number };
    Some(name.map_or(OwnerSnapshot::Nobody, module))
}

/// 1 wanted, double (bits), 2 user, 3 parameters, 4 preset (repeats).
fn write_route(w: &mut Fields, route: &RecordRoute) {
    let RecordRoute { wanted, user, params, double, preset } = route;
    w.number(1, bits(&[*wanted, *double]));
    w.text(2, user);
    w.text(3, params);
    preset.iter().for_each(|one| w.put(4, one));
}

fn read_route(bytes: &[u8]) -> Option<RecordRoute> {
    let mut this = RecordRoute::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => (this.wanted, this.double) = (bit(value, 0)?, bit(value, 1)?),
            (2, value) => this.user = copy(value),
            (3, value) => this.params = copy(value),
            (4, value) => this.preset.push(copy(value)),
            _ => {}
        }
    }
    Some(this)
}

fn read_via(bytes: &[u8]) -> Option<OwnVia> {
    let mut this = OwnVia::default();
    for field in fields(bytes) {
        match field? {
            (1, value) => this.host = Some(copy(value)),
            (2, value) => this.port = Some(u16::try_from(integer(value)?.checked_sub(1)?).ok()?),
            (3, value) => this.rport = bit(value, 0)?,
            (4, value) => this.params = copy(value),
            _ => {}
        }
    }
    Some(this)
}

fn read_choice(bytes: &[u8]) -> Option<ChoiceNames> {
    let mut this = ChoiceNames { used: Vec::new(), unused: Vec::new(), none: false };
    for field in fields(bytes) {
        match field? {
            (1, value) => this.used.push(string(value)?),
            (2, value) => this.unused.push(string(value)?),
            (3, value) => this.none = bit(value, 0)?,
            _ => {}
        }
    }
    Some(this)
}

fn read_attached(bytes: &[u8]) -> Option<(String, Bytes)> {
    let (mut module, mut section) = (None, Bytes::new());
    for field in fields(bytes) {
        match field? {
            (1, value) => module = Some(string(value)?),
            (2, value) => section = copy(value),
            _ => {}
        }
    }
    Some((module?, section))
}
