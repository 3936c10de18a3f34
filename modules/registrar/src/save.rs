//! `save()`: a REGISTER becomes contacts, and is answered.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::{ArgValue, Called};
use tandem_script::program::Ready;
use tandem_sip::HeaderName;
use tandem_usrloc::Table;
use tandem_usrloc::store::{
    Change, Contact, Edit, FLAG_MEMORY_ONLY, FLAG_PUSH, Matching, NewContact, NotStored, Outcome,
    Why,
};

use crate::aor::AorError;
use crate::flags::{PathMode, SAVE, SaveFlags};
use crate::flow;
use crate::gruu::CONTACT_IS_GRUU;
use crate::onreply::Forwarded;
use crate::push::{Push, PushUse};
use crate::reply::{self, Answer};
use crate::request::{Refusal, Register, Wanted, unknown_extensions};
use crate::stat;
use crate::state::{Registrar, avp_text, flags_of_arg, key_of_arg, module_and_table};

/// What all contacts of one REGISTER have in common.
struct Common {
    socket: Bytes,
    received: Bytes,
    attr: Bytes,
    branch_flags: String,
    key_values: String,
    /// How contacts that are woken by push notifications are found again.
    push_matching: Option<Matching>,
}

/// What became of a REGISTER under the lock of its AoR.
type Verdict = Result<SmallVec<[Arc<Contact>; 2]>, Refusal>;

const TOO_MANY: Refusal = Refusal::new(503, "Too many registered contacts");
const UNKNOWN_EXTENSION: Refusal = Refusal::new(420, "Unknown extension in Require");
const OLD_CSEQ: Refusal = Refusal::new(400, "Invalid CSeq number");

pub(crate) fn save(call: &mut Call<'_, '_, '_>) -> Called {
    let Some((registrar, table)) = module_and_table(call, 0) else {
        return Called::Returned(-1);
    };
    let params = &registrar.params;
    let matching = &registrar.usrloc.params.matching;
    let set = match flags_of_arg(call, 1, SAVE) {
        Ok(set) => set,
        Err(e) => return call.complain(Level::Error, e),
    };
    let flags = match SaveFlags::read(&set, params, matching) {
        Ok(flags) => flags,
        Err(name) => return call.complain(Level::Error, format!("bad value of flag {name}")),
    };
    let forwarded = match call.ctx.msg.is_reply() {
        true => match Forwarded::of(call, params) {
            None => return call.complain(Level::Warning, "save(): no REGISTER was accepted here"),
            forwarded => forwarded,
        },
        false => None,
    };
    let flags = SaveFlags { no_reply: flags.no_reply || forwarded.is_some(), ..flags };
    let msg = forwarded.as_ref().map_or(&call.ctx.msg, |f| &f.request).clone();
    if forwarded.is_none() && !unknown_extensions(&call.ctx.msg, &call.ctx.edits).is_empty() {
        return reply::refuse(call, &registrar, &flags, UNKNOWN_EXTENSION);
    }
    let mut register = match Register::read(&msg, &flags, params, &mut call.cx.worker.chance) {
        Ok(register) => register,
        Err(refusal) => return reply::refuse(call, &registrar, &flags, refusal),
    };
    let is_query = register.is_query();
    if let Some(forwarded) = &forwarded {
        forwarded.adopt(&mut register, &call.ctx.msg);
    }
    let to = |_: &_| msg.to().ok().map(|to| to.uri.to_vec());
    let aor = match key_of_arg(call, params, 2, to) {
        Ok(aor) => aor,
        Err(e) => {
            call.complain(Level::Warning, e.to_string());
            // What cannot be read is the sender's fault (RFC 4475 3.3.4), a limit is ours.
            let code = if e == AorError::TooLong { 500 } else { 400 };
            let refusal = Refusal::new(code, "Invalid address of record");
            return reply::refuse(call, &registrar, &flags, refusal);
        }
    };
    if registrar.usrloc.fetch(call, &table, &[&aor]) {
        return Called::Suspended;
    }
    if is_query {
        let contacts = registrar.usrloc.lookup(&table, &aor, call.cx.now);
        let answer = Answer { contacts: &contacts, register: &register };
        return reply::accept(call, &registrar, &flags, &answer);
    }
    carry_out(call, &registrar, (&table, &aor), &flags, &register, forwarded.as_ref())
}

/// Changes the AoR, and answers.
fn carry_out(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    (table, aor): (&Table, &[u8]),
    flags: &SaveFlags,
    register: &Register<'_>,
    forwarded: Option<&Forwarded>,
) -> Called {
    if registrar.params.gruu.is_some() && register.names_gruu_of(aor, &registrar.params) {
        return reply::refuse(call, registrar, flags, CONTACT_IS_GRUU);
    }
    let common = &common(call, registrar, flags, register, forwarded);
    let now_s = call.cx.now.unix_s();
    let memory_short = call.cx.node.memory.is_short();
    let change = |edit: &mut Edit<'_>| {
        Work { registrar, flags, register, common, now_s, memory_short }.carry_out(edit)
    };
    let (verdict, _) = registrar.usrloc.edit(call.cx, table, aor, change);
    match verdict {
        Ok(mut contacts) => {
            table.domain.sort(&mut contacts);
            let of = forwarded.map(|f| (f.origin.flags, f.origin.source));
            let (message_flags, source) = of.unwrap_or((call.ctx.flags, call.ctx.source));
            if message_flags & registrar.params.tcp_persistent_flag != 0 {
                let here = Some(register.call_id);
                flow::keep(call.cx, registrar, (table, &source), (aor, here), &contacts);
            }
            if forwarded.is_none() {
                flow::bind(call, registrar, (table, &source), register, &contacts);
            }
            reply::accept(call, registrar, flags, &Answer { contacts: &contacts, register })
        }
        Err(refusal) => reply::refuse(call, registrar, flags, refusal),
    }
}

fn common(
    call: &Call<'_, '_, '_>,
    registrar: &Registrar,
    flags: &SaveFlags,
    register: &Register<'_>,
    forwarded: Option<&Forwarded>,
) -> Common {
    let (ctx, params, usrloc) = (&*call.ctx, &registrar.params, &registrar.usrloc);
    let (msg, source, branch_flags, avps) = match forwarded {
        Some(f) => (&f.request, f.origin.source, f.origin.branch_flags, &f.origin.avps),
        None => (&ctx.msg, ctx.source, ctx.target.flags, &ctx.avps),
    };
    let own_socket = || {
        let socket = call.cx.node.sockets.get(source.socket);
        socket.map(|s| s.wire().clone()).unwrap_or_default()
    };
    let header = params.sock_hdr_name.as_bytes();
    let named = flags.socket_header.then(|| msg.header_by_text(header)).flatten();
    let named = named.map(|h| Bytes::copy_from_slice(h.value()));
    let mut mask = branch_flags;
    let received = match &register.path_received {
        Some(received) => {
            mask |= usrloc.params.nat_flag_mask;
            received.clone()
        }
        None => avp_text(avps, params.received_avp.as_ref()).unwrap_or_default(),
    };
    Common {
        socket: named.unwrap_or_else(own_socket),
        received,
        attr: avp_text(avps, params.attr_avp.as_ref()).unwrap_or_default(),
        branch_flags: usrloc.flag_names(mask),
        key_values: key_values(call),
        push_matching: params.push.as_ref().map(Push::matching),
    }
}

/// The sharing tag that owns the contacts, as their key/values.
fn key_values(call: &Call<'_, '_, '_>) -> String {
    let name = match call.args.get(3) {
        Some(ArgValue::Ready(Ready::SharingTag(tag))) => tag.name.clone(),
        _ => {
            let text = String::from_utf8_lossy(&call.text(3)).into_owned();
            text.split('/').next().unwrap_or_default().to_owned()
        }
    };
    if name.is_empty() {
        return String::new();
    }
    let mut quoted = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    format!("{{\"_st\":\"{quoted}\"}}")
}

/// A REGISTER being carried out. First everything is checked, so that a REGISTER that is refused
/// changes nothing (RFC 3261 10.3, step 7).
struct Work<'a, 'm> {
    registrar: &'a Registrar,
    flags: &'a SaveFlags,
    register: &'a Register<'m>,
    common: &'a Common,
    now_s: u64,
    /// Nothing new is taken.
    memory_short: bool,
}

/// What is to happen to one contact.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Insert,
    Update,
    Remove(u64),
    /// A retransmission, or the removal of what is not there.
    Nothing,
}

impl Work<'_, '_> {
    fn carry_out(&self, edit: &mut Edit<'_>) -> Verdict {
        if self.register.star {
            self.remove_all(edit)?;
            return Ok(SmallVec::new());
        }
        let mut steps = SmallVec::<[Step; 4]>::new();
        for wanted in &self.register.contacts {
            steps.push(self.judge(edit, wanted)?);
        }
        // Refreshes go on, so that nobody who is served loses the service.
        if self.memory_short && steps.contains(&Step::Insert) && edit.contacts().next().is_none() {
            return Err(Refusal::MEMORY);
        }
        self.make_room(edit, &steps)?;
        for (wanted, step) in self.register.contacts.iter().zip(&steps) {
            match step {
                Step::Insert | Step::Update => self.put(edit, wanted)?,
                Step::Remove(id) => {
                    edit.apply(Change::Delete { id: *id });
                }
                Step::Nothing => {}
            }
        }
        Ok(self.listed(edit))
    }

    /// How the contact that this one means is found.
    fn matching(&self, wanted: &Wanted<'_>) -> &Matching {
        match &self.common.push_matching {
            Some(matching) if wanted.push == PushUse::Woken => matching,
            _ => &self.flags.matching,
        }
    }

    fn is_meant(&self, contact: &Contact) -> bool {
        let mut wanted = self.register.contacts.iter();
        wanted.any(|w| self.matching(w).matches(contact, w.uri, self.register.call_id))
    }

    fn is_live(&self, contact: &Contact) -> bool {
        !contact.is_expired(self.now_s)
    }

    fn remove_all(&self, edit: &mut Edit<'_>) -> Result<(), Refusal> {
        let mine = |c: &&Arc<Contact>| c.call_id() == self.register.call_id;
        if edit.contacts().filter(mine).any(|c| c.cseq > self.register.cseq) {
            return Err(OLD_CSEQ);
        }
        let ids: SmallVec<[u64; 4]> = edit.contacts().map(|c| c.id).collect();
        for id in ids {
            edit.apply(Change::Delete { id });
        }
        Ok(())
    }

    fn judge(&self, edit: &Edit<'_>, wanted: &Wanted<'_>) -> Result<Step, Refusal> {
        let register = self.register;
        let found = edit.find(self.matching(wanted), wanted.uri, register.call_id);
        let Some(found) = found.filter(|c| self.is_live(c)) else {
            return Ok(if wanted.expires_s == 0 { Step::Nothing } else { Step::Insert });
        };
        if found.call_id() == register.call_id {
            if found.cseq > register.cseq {
                return Err(OLD_CSEQ);
            }
            if found.cseq == register.cseq {
                let age_s = self.now_s.saturating_sub(found.last_modified_s());
                if age_s < self.registrar.usrloc.params.cseq_delay_s {
                    return Ok(Step::Nothing);
                }
                if !self.registrar.params.allow_dup_cseq {
                    return Err(OLD_CSEQ);
                }
            }
        }
        Ok(if wanted.expires_s == 0 { Step::Remove(found.id) } else { Step::Update })
    }

    /// Refuses what would be too many contacts, or drops the oldest ones for it.
    fn make_room(&self, edit: &mut Edit<'_>, steps: &[Step]) -> Result<(), Refusal> {
        let max = self.flags.max_contacts;
        let inserts = steps.iter().filter(|s| **s == Step::Insert).count();
        if max == 0 || inserts == 0 {
            return Ok(());
        }
        let is_removed = |c: &Contact| steps.contains(&Step::Remove(c.id));
        let mut kept: Vec<(u64, u64)> = edit
            .contacts()
            .filter(|c| self.is_live(c) && !is_removed(c))
            .map(|c| (c.last_modified_s(), c.id))
            .collect();
        let Some(too_many) = (kept.len() + inserts).checked_sub(max).filter(|n| *n > 0) else {
            return Ok(());
        };
        if !self.flags.force || inserts > max {
            return Err(TOO_MANY);
        }
        kept.sort_unstable();
        // What this request refreshes is not what it throws out.
        let refreshed = |id: u64| {
            let contact = edit.contacts().find(|c| c.id == id);
            contact.is_some_and(|c| self.is_meant(c))
        };
        let old = kept.iter().map(|(_, id)| *id).filter(|id| !refreshed(*id));
        let dropped: SmallVec<[u64; 4]> = old.take(too_many).collect();
        if dropped.len() < too_many {
            return Err(TOO_MANY);
        }
        for id in dropped {
            edit.apply(Change::Delete { id });
        }
        Ok(())
    }

    fn put(&self, edit: &mut Edit<'_>, wanted: &Wanted<'_>) -> Result<(), Refusal> {
        let (register, common) = (self.register, self.common);
        let contact = NewContact {
            uri: wanted.uri,
            call_id: register.call_id,
            user_agent: register.user_agent,
            path: &register.path,
            attr: &common.attr,
            received: &common.received,
            instance: wanted.instance,
            socket: &common.socket,
            branch_flags: common.branch_flags.as_bytes(),
            key_values: common.key_values.as_bytes(),
            expires_s: self.now_s + u64::from(wanted.expires_s),
            last_modified_s: self.now_s,
            cseq: register.cseq,
            q: wanted.q,
            flags: self.flag_bits(wanted),
            methods: wanted.methods,
            id: None,
        };
        match edit.apply(Change::Put { contact, matching: self.matching(wanted) }) {
            Outcome::Ignored(Why::NotStored(NotStored::TooMany)) => Err(TOO_MANY),
            Outcome::Ignored(Why::NotStored(NotStored::TooLong)) => {
                Err(Refusal::new(400, "Contact too long"))
            }
            Outcome::Ignored(Why::OldCseq) => Err(OLD_CSEQ),
            _ => Ok(()),
        }
    }

    /// The contacts that the reply lists.
    fn listed(&self, edit: &Edit<'_>) -> SmallVec<[Arc<Contact>; 2]> {
        let live = edit.contacts().filter(|c| self.is_live(c));
        live.filter(|c| !self.flags.only_request || self.is_meant(c)).cloned().collect()
    }

    fn flag_bits(&self, wanted: &Wanted<'_>) -> u32 {
        let memory = if self.flags.memory_only { FLAG_MEMORY_ONLY } else { 0 };
        let push = if wanted.push == PushUse::Woken { FLAG_PUSH } else { 0 };
        memory | push
    }
}

/// Whether the reply repeats Path (RFC 3327 5.3).
pub(crate) fn shows_path(call: &Call<'_, '_, '_>, flags: &SaveFlags) -> bool {
    flags.path != PathMode::Off && call.ctx.msg.has_token(HeaderName::Supported, b"path")
}

pub(crate) fn count(call: &Call<'_, '_, '_>, accepted: bool) {
    call.cx.count(if accepted { stat::ACCEPTED } else { stat::REJECTED }, 1);
}
