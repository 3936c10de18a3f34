//! Judging credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tandem_clock::Now;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module};
use tandem_engine::node::Node;
use tandem_script::host::Called;
use tandem_script::program::VarId;
use tandem_sip::{Algorithm, AuthRole, Credentials, Message, Method, Response, Span, Uri};

use crate::nonce::{Key, NONCE_CHARS, Nonce};
use crate::params::Params;
use crate::window::Windows;

/// Peers whose keys are known, at most.
const PEERS_MAX: usize = 256;

/// What the functions return.
pub mod code {
    pub const AUTHORIZED: i32 = 1;
    pub const UNKNOWN_USER: i32 = -1;
    pub const WRONG_PASSWORD: i32 = -2;
    pub const STALE_NONCE: i32 = -3;
    pub const NO_CREDENTIALS: i32 = -4;
    pub const ERROR: i32 = -5;
}

/// The state of the module.
pub struct Auth {
    pub(crate) params: Params,
    slot: u16,
    key: Key,
    /// Keys of Tandem peers by node, which they tell when they greet us.
    peers: RwLock<BTreeMap<u16, Key>>,
    /// Chosen anew at every start, so that numbers of another life are not taken for ours.
    issuer: u32,
    next: AtomicU32,
    windows: Windows,
}

/// What the module notes about a message.
#[derive(Default)]
struct Noted {
    /// The credentials were right, or could not be judged, for an old nonce.
    stale: bool,
}

/// The credentials of a request for one realm. Plain data, so that it can wait for a password.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The value of the header.
    value: Span,
    answer: Answer,
    nonce: Nonce,
    pub realm: Bytes,
    pub algorithm: Algorithm,
    /// The user name as it enters the hash.
    pub username: Bytes,
    /// The user name up to an `@`.
    pub user: Bytes,
    /// The domain of the user name, else the realm.
    pub domain: Bytes,
}

/// Where in the message the parts of a response are.
#[derive(Clone, Copy, Debug)]
struct Answer {
    uri: Span,
    nonce: Span,
    response: Span,
    qop: Span,
    nc: Span,
    cnonce: Span,
}

/// What is known about a user.
#[derive(Clone, Copy, Debug)]
pub enum Secret<'a> {
    Password(&'a [u8]),
    /// `H(user:realm:password)` in hex, of the claim's algorithm.
    Ha1(&'a [u8]),
}

impl Auth {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build);
        let key = match &params.secret {
            Some(secret) => Key::of_secret(secret),
            None => {
                let mut bytes = [0; 32];
                build.chance.fill(&mut bytes);
                Key::new(bytes)
            }
        };
        let (slot, issuer) = (build.slot, build.chance.u32());
        let (next, windows) = (AtomicU32::new(0), Windows::default());
        let peers = RwLock::default();
        Ok(Arc::new(Self { params, slot, key, peers, issuer, next, windows }))
    }

    pub(crate) fn new_nonce(&self, now: Now, node: &Node) -> [u8; NONCE_CHARS] {
        let nonce = Nonce {
            unix_ms: now.unix_ms,
            node: node.membership().node_id() as u16,
            issuer: self.issuer,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        };
        nonce.write(&self.key)
    }

    pub(crate) fn is_stale(&self, ctx: &Ctx) -> bool {
        ctx.section::<Noted>(self.slot).is_some_and(|noted| noted.stale)
    }

    /// The credentials of the request for `realm` (empty: see [`realm_of`]).
    ///
    /// # Errors
    /// The code to return: there are none, they cannot be used, or, for an ACK or CANCEL, which
    /// cannot be challenged and pass, [`code::AUTHORIZED`].
    pub fn claim(&self, ctx: &mut Ctx, role: AuthRole, realm: &Bytes) -> Result<Claim, i32> {
        let msg = &ctx.msg;
        if matches!(msg.method(), Method::Ack | Method::Cancel) {
            return Err(code::AUTHORIZED);
        }
        let realm = realm_of(self, msg, role, realm).ok_or(code::ERROR)?;
        let mut fault = code::NO_CREDENTIALS;
        let mut usable = None;
        for found in msg.credentials(role) {
            let Ok(found) = found else {
                fault = code::ERROR;
                continue;
            };
            if !found.realm.eq_ignore_ascii_case(&realm) {
                continue;
            }
            match Algorithm::of(found.algorithm).filter(|a| is_usable(&found, *a)) {
                Some(algorithm) => {
                    usable = Some((found, algorithm));
                    break;
                }
                None => fault = code::ERROR,
            }
        }
        let (found, algorithm) = usable.ok_or(fault)?;
        let Some(nonce) = self.read(found.nonce) else {
            // Not ours, or of another life: who asks again with a fresh one is let in.
            ctx.section_mut::<Noted>(self.slot).stale = true;
            return Err(code::STALE_NONCE);
        };
        claimed(msg, &found, algorithm, realm, nonce).ok_or(code::ERROR)
    }

    /// Whether the claim is that of who knows the secret, and for the first time. Notes it in
    /// the context, and gives the code to return.
    pub fn judge(&self, now: Now, ctx: &mut Ctx, claim: &Claim, secret: Secret<'_>) -> i32 {
        let (msg, at) = (&ctx.msg, &claim.answer);
        let response = Response {
            algorithm: claim.algorithm,
            method: msg.method_bytes(),
            uri: msg.slice(at.uri),
            nonce: msg.slice(at.nonce),
            qop: msg.slice(at.qop),
            nc: msg.slice(at.nc),
            cnonce: msg.slice(at.cnonce),
            body: msg.body(),
        };
        let given = msg.slice(at.response);
        let right = match secret {
            // Whoever has no password cannot be anyone.
            Secret::Password([]) => false,
            Secret::Password(password) => {
                let ha1 = claim.algorithm.ha1(&claim.username, &claim.realm, password);
                response.matches(ha1.as_bytes(), given)
            }
            Secret::Ha1(ha1) => {
                ha1.len() == claim.algorithm.hex_len() && response.matches(ha1, given)
            }
        };
        if !right {
            return code::WRONG_PASSWORD;
        }
        // RFC 2617 3.2.1: "stale" is for who showed that the password is known.
        if !self.is_fresh(now, claim.nonce) {
            ctx.section_mut::<Noted>(self.slot).stale = true;
            return code::STALE_NONCE;
        }
        ctx.authorized = Some(claim.value);
        code::AUTHORIZED
    }

    /// Takes the key of a peer, as [`Module::nonce_key`] of that node gives it.
    pub fn learn(&self, node: u16, key: &[u8]) {
        let Ok(key) = <[u8; 32]>::try_from(key) else { return };
        let mut peers = self.peers.write();
        if peers.len() < PEERS_MAX || peers.contains_key(&node) {
            peers.insert(node, Key::new(key));
        }
    }

    /// Reads a nonce of this node, or of a peer that told its key.
    fn read(&self, nonce: &[u8]) -> Option<Nonce> {
        let peers = self.peers.read();
        Nonce::read(nonce, |node| Some(peers.get(&node).unwrap_or(&self.key).clone()))
    }

    fn is_fresh(&self, now: Now, nonce: Nonce) -> bool {
        let (life_ms, now_ms) = (self.params.nonce_expire_ms, now.unix_ms);
        // The clocks of two nodes differ a little: a nonce may come from the near future.
        let fits = now_ms.abs_diff(nonce.unix_ms) <= life_ms;
        let once = self.params.once;
        fits && (!once || self.windows.take(nonce.issuer, nonce.number, now_ms, life_ms * 2))
    }
}

fn claimed(
    msg: &Message,
    found: &Credentials<'_>,
    algorithm: Algorithm,
    realm: Bytes,
    nonce: Nonce,
) -> Option<Claim> {
    let shared = |part: &[u8]| Some(msg.bytes().slice(msg.span_of(part)?.range()));
    let place =
        |part: &[u8]| if part.is_empty() { Some(Span::default()) } else { msg.span_of(part) };
    let domain = match found.domain() {
        [] => realm,
        domain => shared(domain)?,
    };
    let answer = Answer {
        uri: place(found.uri)?,
        nonce: place(found.nonce)?,
        response: place(found.response)?,
        qop: place(found.qop)?,
        nc: place(found.nc)?,
        cnonce: place(found.cnonce)?,
    };
    Some(Claim {
        value: msg.span_of(found.raw)?,
        answer,
        nonce,
        realm: shared(found.realm)?,
        algorithm,
        username: shared(found.username)?,
        user: shared(found.user())?,
        domain,
    })
}

impl Module for Auth {
    fn nonce_key(&self) -> Option<Bytes> {
        let own = self.params.secret.is_none();
        own.then(|| Bytes::copy_from_slice(self.key.bytes()))
    }

    fn cluster_news(&self, _cx: &mut Cx<'_>, news: &tandem_cluster::Effect) {
        if let tandem_cluster::Effect::NonceKey { node, key } = news {
            self.learn(*node as u16, key);
        }
    }
}

/// `auth` and `auth-int` are the qops there are; none at all is RFC 2069. A session has a nonce
/// of the client.
fn is_usable(found: &Credentials<'_>, algorithm: Algorithm) -> bool {
    let qop = found.qop;
    let known = qop.is_empty()
        || qop.eq_ignore_ascii_case(b"auth")
        || qop.eq_ignore_ascii_case(b"auth-int");
    let has_session = !algorithm.is_session() || !found.cnonce.is_empty();
    known && has_session && found.is_complete()
}

/// The realm: the one given, else the domain that vouches for the user, which is that of To in a
/// REGISTER to us and that of From in anything else, without `realm_prefix`.
pub(crate) fn realm_of(auth: &Auth, msg: &Message, role: AuthRole, given: &Bytes) -> Option<Bytes> {
    if !given.is_empty() {
        return Some(given.clone());
    }
    let of_to = role == AuthRole::Server && msg.method() == Method::Register;
    let addr = if of_to { msg.to() } else { msg.from() }.ok()?;
    let host = Uri::parse(addr.uri).ok()?.host;
    let prefix = &auth.params.realm_prefix;
    let cut = match host.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => prefix.len(),
        _ => 0,
    };
    let host = host.get(cut..).filter(|h| !h.is_empty())?;
    Some(msg.bytes().slice(msg.span_of(host)?.range()))
}

pub(crate) fn pv_www_authorize(call: &mut Call<'_, '_, '_>) -> Called {
    Called::Returned(pv_authorize(call, AuthRole::Server))
}

pub(crate) fn pv_proxy_authorize(call: &mut Call<'_, '_, '_>) -> Called {
    Called::Returned(pv_authorize(call, AuthRole::Proxy))
}

fn pv_authorize(call: &mut Call<'_, '_, '_>, role: AuthRole) -> i32 {
    let Some(auth) = call.state::<Auth>() else { return code::ERROR };
    let realm = call.text(0);
    let (Some(username), Some(password)) = (auth.params.username, auth.params.password) else {
        let text = "username_spec and password_spec of auth must be set for this function";
        call.complain(Level::Error, text);
        return code::ERROR;
    };
    let claim = match auth.claim(call.ctx, role, &realm) {
        Ok(claim) => claim,
        Err(code) => return code,
    };
    let mut text = |var: VarId| call.read(var).into_bytes();
    let (Some(name), Some(password)) = (text(username), text(password)) else {
        return code::UNKNOWN_USER;
    };
    if name != claim.username && name != claim.user {
        return code::UNKNOWN_USER;
    }
    let secret = match auth.params.calculate_ha1 {
        true => Secret::Password(&password),
        false => Secret::Ha1(&password),
    };
    auth.judge(call.cx.now, call.ctx, &claim, secret)
}

/// Removes the header that was found right.
pub(crate) fn consume_credentials(call: &mut Call<'_, '_, '_>) -> Called {
    let ctx = &mut *call.ctx;
    let Some(value) = ctx.authorized else {
        // An ACK or CANCEL passed without.
        let passes = matches!(ctx.msg.method(), Method::Ack | Method::Cancel);
        return Called::Returned(if passes { 1 } else { -1 });
    };
    if let Some(header) = ctx.msg.all_headers().find(|h| h.value_span() == value) {
        ctx.edits.remove(header.span());
    }
    Called::Returned(1)
}
