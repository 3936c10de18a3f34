//! How requests and the dialogs that they make become reasons to keep an endpoint alive.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_dialog::{Change, Dialog, Dialogs};
use tandem_engine::attached::{Section, TxMoment};
use tandem_engine::context::Source;
use tandem_engine::dialog::{DialogEvent, DialogMoment};
use tandem_engine::module::Cx;
use tandem_engine::sockets::SocketId;
use tandem_sip::{HeaderName, Message, Method};

use crate::NatTraversal;
use crate::endpoints::{Endpoint, Reason};

/// Name of the section in dialogs.
const SECTION: &str = "nat_traversal";
/// Endpoints of one dialog, at most: a caller, and branches that rang.
const ENDPOINTS_MAX: usize = 16;

/// What is kept with a request that nat_keepalive() was called for.
pub(crate) struct Asked {
    request: Message,
    source: Source,
    /// Its sender is kept alive.
    pub(crate) keeps_sender: AtomicBool,
    /// The callees of its dialog are.
    pub(crate) tracks: AtomicBool,
    /// Where its branches went.
    branches: Mutex<SmallVec<[(u8, SocketId, Endpoint); 1]>>,
}

impl Asked {
    pub(crate) fn new(request: Message, source: Source) -> Self {
        let (keeps_sender, tracks, branches) = Default::default();
        Self { request, source, keeps_sender, tracks, branches }
    }

    fn keeps_sender(&self) -> bool {
        self.keeps_sender.load(Ordering::Relaxed)
    }
}

impl NatTraversal {
    /// A transaction tells something.
    pub(crate) fn follow(&self, cx: &mut Cx<'_>, section: &Section, moment: &TxMoment) {
        let Ok(asked) = Arc::clone(section).downcast::<Asked>() else { return };
        let is_invite = asked.request.method() == Method::Invite;
        match moment {
            TxMoment::Replied { code: 200..=299, reply, .. } if !is_invite => {
                self.granted(cx, &asked, reply.bytes());
            }
            TxMoment::Sent { branch, socket, to, .. } if is_invite => {
                let Some(proto) = cx.node.sockets.get(*socket).map(|s| s.proto) else { return };
                let mut branches = asked.branches.lock();
                if branches.len() < ENDPOINTS_MAX {
                    branches.push((*branch, *socket, Endpoint::new(proto, *to)));
                }
                let is_first = branches.len() == 1;
                drop(branches);
                if is_first && asked.keeps_sender() {
                    self.keep_caller(cx, &asked);
                }
            }
            TxMoment::Received { branch, reply }
                if is_invite && (101..300).contains(&reply.status()) =>
            {
                self.keep_callee(cx, &asked, *branch);
            }
            _ => {}
        }
    }

    /// A request was answered without a transaction.
    pub(crate) fn replied(&self, cx: &mut Cx<'_>, section: &Section, reply: &Bytes) {
        let Ok(asked) = Arc::clone(section).downcast::<Asked>() else { return };
        if reply.starts_with(b"SIP/2.0 2") && asked.request.method() != Method::Invite {
            self.granted(cx, &asked, reply);
        }
    }

    /// A registration or subscription was granted, or has ended.
    fn granted(&self, cx: &mut Cx<'_>, asked: &Asked, reply: &Bytes) {
        let Ok(reply) = Message::parse(reply.clone()) else { return };
        if !asked.keeps_sender() {
            return;
        }
        let (now_s, request) = (cx.now.unix_s(), &asked.request);
        let ends = |seconds: u32| if seconds == 0 { 0 } else { now_s + u64::from(seconds) };
        let reason = match request.method() {
            Method::Register => {
                let aor = request.to().map(|to| to.uri).unwrap_or_default();
                let until_s = ends(registered_s(request, &reply));
                Reason::Registered { who: self.hash(aor), until_s }
            }
            _ => {
                let asked_s = request.expires().ok().flatten();
                let seconds = reply.expires().ok().flatten().or(asked_s).unwrap_or(0);
                let who = self.hash(request.call_id().unwrap_or_default());
                Reason::Subscribed { who, until_s: ends(seconds) }
            }
        };
        self.note(cx, asked.source.socket, self.sender(cx, asked), reason);
    }

    fn sender(&self, cx: &Cx<'_>, asked: &Asked) -> Option<Endpoint> {
        let socket = cx.node.sockets.get(asked.source.socket)?;
        Some(Endpoint::new(socket.proto, asked.source.addr))
    }

    pub(crate) fn note(
        &self,
        cx: &Cx<'_>,
        socket: SocketId,
        endpoint: Option<Endpoint>,
        reason: Reason,
    ) {
        if let Some(endpoint) = endpoint.filter(|_| self.params.interval_s > 0) {
            self.endpoints.lock().note(endpoint, socket, reason, cx.now.unix_s());
        }
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish()
    }

    pub(crate) fn dialogs(&self, cx: &Cx<'_>) -> Option<Arc<Dialogs>> {
        cx.node.module::<Dialogs>(self.dialog_slot.load(Ordering::Relaxed))
    }

    /// The caller stays reachable while the call lasts.
    fn keep_caller(&self, cx: &mut Cx<'_>, asked: &Asked) {
        if let Some(endpoint) = self.sender(cx, asked) {
            self.keep_for_call(cx, asked, (asked.source.socket, endpoint));
        }
    }

    /// A callee that is kept alive now stays so while the call lasts, although what made it an
    /// endpoint may end before.
    fn keep_callee(&self, cx: &mut Cx<'_>, asked: &Asked, branch: u8) {
        if !asked.tracks.load(Ordering::Relaxed) {
            return;
        }
        let found = asked.branches.lock().iter().find(|(b, ..)| *b == branch).copied();
        let Some((_, socket, endpoint)) = found else { return };
        if self.endpoints.lock().get(endpoint).is_some() {
            self.keep_for_call(cx, asked, (socket, endpoint));
        }
    }

    /// Adds an endpoint to those of the call; it stands in the dialog too, for the node that
    /// takes the call over.
    fn keep_for_call(
        &self,
        cx: &mut Cx<'_>,
        asked: &Asked,
        (socket, endpoint): (SocketId, Endpoint),
    ) {
        let Some(dialogs) = self.dialogs(cx) else { return };
        let (Some(call_id), Some(tag)) = (asked.request.call_id(), asked.request.from_tag()) else {
            return;
        };
        let all = dialogs.table.of_call(call_id);
        let is_this = |d: &Dialog| *d.caller.tag == *tag && d.state.is_alive();
        let found = all.into_iter().find(|id| dialogs.read(*id, is_this) == Some(true));
        let Some(id) = found else { return };
        let mut known = dialogs.read(id, endpoints_of).unwrap_or_default();
        let wire = cx.node.sockets.get(socket).map(|s| s.wire_text()).unwrap_or_default();
        let entry = (endpoint, wire);
        let is_new = !known.contains(&entry);
        if is_new && known.len() >= ENDPOINTS_MAX {
            return;
        }
        self.note(cx, socket, Some(endpoint), Reason::Dialog { id: id.number() });
        known.push(entry);
        let (module, bytes) = (SECTION.as_bytes().into(), written(&known));
        // What does not stand in the dialog would not end with it.
        if is_new && dialogs.change(cx, id, Change::Section { module, bytes }).is_err() {
            self.endpoints.lock().end_dialog(endpoint, id.number(), cx.now.unix_s());
        }
    }

    /// A dialog in which this module keeps endpoints tells something.
    pub(crate) fn dialog_event(&self, cx: &mut Cx<'_>, event: &DialogEvent<'_>) {
        let is_over = matches!(event.moment, DialogMoment::Ended | DialogMoment::EndedElsewhere);
        let Some(dialog) = event.record.downcast_ref::<Dialog>().filter(|_| is_over) else {
            return;
        };
        let mut endpoints = self.endpoints.lock();
        for (endpoint, _) in endpoints_of(dialog) {
            endpoints.end_dialog(endpoint, dialog.id.number(), cx.now.unix_s());
        }
    }
}

/// Seconds that the contacts of a REGISTER were given; 0: none of them is registered now.
fn registered_s(request: &Message, reply: &Message) -> u32 {
    let wanted: SmallVec<[&[u8]; 4]> =
        request.addrs(HeaderName::Contact).flatten().map(|addr| addr.uri).collect();
    let default_s = reply.expires().ok().flatten();
    let given = reply.addrs(HeaderName::Contact).flatten().filter(|a| wanted.contains(&a.uri));
    let seconds = given.filter_map(|addr| {
        let text = addr.params.get(b"expires").flatten();
        let own_s = text.and_then(|t| std::str::from_utf8(t).ok()?.trim().parse().ok());
        own_s.or(default_s)
    });
    seconds.max().unwrap_or(0)
}

/// The section of a dialog: lines of URI and socket.
fn written(all: &[(Endpoint, String)]) -> Bytes {
    let line = |(endpoint, socket): &(Endpoint, String)| format!("{} {socket}\n", endpoint.uri());
    Bytes::from(all.iter().map(line).collect::<String>())
}

pub(crate) fn endpoints_of(dialog: &Dialog) -> Vec<(Endpoint, String)> {
    let Some(bytes) = dialog.section(SECTION) else { return Vec::new() };
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let entry = |line: &str| {
        let (uri, socket) = line.split_once(' ')?;
        Some((Endpoint::parse(uri.as_bytes())?, socket.to_owned()))
    };
    text.lines().filter_map(entry).take(ENDPOINTS_MAX).collect()
}
