//! Answers to challenges (RFC 3261 22, RFC 7616, RFC 8760).

use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::{Algorithm, AuthRole, Credentials, Message, Response, unquote};

use crate::cseq;
use crate::params::Uac;

/// Algorithms that an argument may name.
const ALGORITHMS_MAX: usize = 16;

pub(crate) fn uac_auth(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(uac) = call.state::<Uac>() else { return Called::Returned(-1) };
    let Some(credentials) = uac.auth.clone() else {
        return call.complain(Level::Error, "no credentials: load the module uac_auth");
    };
    let Some(reply) = call.ctx.reply.clone() else {
        return call.complain(Level::Error, "there is no reply with a challenge here");
    };
    if !matches!(reply.status(), 401 | 407) {
        let why = format!("a {} is no challenge", reply.status());
        return call.complain(Level::Error, why);
    }
    let wanted = algorithms(&String::from_utf8_lossy(&call.text(0)));
    let mut lines = Vec::new();
    // Branches may have asked in both ways, and their reply has it all (RFC 3261 22.3).
    for role in [AuthRole::Server, AuthRole::Proxy] {
        for realm in realms(&reply, role) {
            let found = credentials.credentials(&call.ctx.avps, &realm);
            let Some(credential) = found else { continue };
            let mut challenges = challenges(&reply, role).filter(|c| c.realm == realm);
            // The other side names the one that it likes best first (RFC 8760 2.4).
            let answer = challenges.find_map(|challenge| {
                let algorithm = algorithm_of(&challenge)?;
                let is_wanted = wanted.is_empty() || wanted.contains(&algorithm);
                let ha1 = is_wanted.then(|| credential.ha1(algorithm)).flatten()?;
                Some(answer(call, role, &challenge, (algorithm, &ha1), &credential.user))
            });
            if let Some(answer) = answer {
                forget(call, role, &realm);
                lines.extend(answer);
            }
        }
    }
    if lines.is_empty() {
        return call.complain(Level::Warning, "no credentials for the challenge");
    }
    if !cseq::add(call.cx, call.ctx, 1) {
        return call.complain(Level::Error, "CSeq cannot be counted up");
    }
    call.ctx.edits.append_header(&call.ctx.msg, lines);
    Called::Returned(1)
}

/// The realms that ask, each once.
fn realms(reply: &Message, role: AuthRole) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for challenge in challenges(reply, role) {
        if !all.iter().any(|realm| realm == challenge.realm) {
            all.push(challenge.realm.to_vec());
        }
    }
    all
}

/// Takes out what the sender has answered for a realm: each has one answer (RFC 7616 3.3).
fn forget(call: &mut Call<'_, '_, '_>, role: AuthRole, realm: &[u8]) {
    let ctx = &mut *call.ctx;
    for header in ctx.msg.headers(role.credentials_header()) {
        let of = Credentials::parse(header.value());
        if of.is_ok_and(|c| c.is_digest() && c.realm == realm) {
            ctx.edits.remove(header.span());
        }
    }
}

fn challenges(reply: &Message, role: AuthRole) -> impl Iterator<Item = Credentials<'_>> {
    let headers = reply.headers(role.challenge_header());
    let read = headers.filter_map(|h| Credentials::parse(h.value()).ok());
    read.filter(|challenge| challenge.is_digest() && !challenge.nonce.is_empty())
}

fn algorithm_of(challenge: &Credentials<'_>) -> Option<Algorithm> {
    match challenge.algorithm {
        b"" => Some(Algorithm::Md5),
        token => Algorithm::of(token),
    }
}

/// The header line that answers a challenge.
fn answer(
    call: &mut Call<'_, '_, '_>,
    role: AuthRole,
    challenge: &Credentials<'_>,
    (algorithm, ha1): (Algorithm, &[u8]),
    user: &[u8],
) -> Vec<u8> {
    let cnonce = format!("{:016x}", call.cx.worker.chance.u64());
    let offers = |name: &[u8]| {
        let offered = unquote(challenge.qop);
        offered.split(|b| *b == b',').any(|q| q.trim_ascii().eq_ignore_ascii_case(name))
    };
    let qop: &[u8] = match (offers(b"auth"), offers(b"auth-int")) {
        (true, _) => b"auth",
        (false, true) => b"auth-int",
        _ => b"",
    };
    let ctx = &call.ctx;
    let uri = ctx.request_uri();
    let body = ctx.edits.body().map_or(ctx.msg.body(), |body| body);
    let response = Response {
        algorithm,
        method: ctx.msg.method_bytes(),
        uri,
        nonce: challenge.nonce,
        qop,
        nc: b"00000001",
        cnonce: cnonce.as_bytes(),
        body,
    };
    let response = response.compute(ha1);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = format!(
        "{}: Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\"",
        role.credentials_header().as_str(),
        text(user),
        text(challenge.realm),
        text(challenge.nonce),
        text(uri),
        text(response.as_bytes()),
    );
    if !challenge.algorithm.is_empty() {
        line.push_str(&format!(", algorithm={}", text(challenge.algorithm)));
    }
    if !qop.is_empty() {
        line.push_str(&format!(", qop={}, nc=00000001, cnonce=\"{cnonce}\"", text(qop)));
    }
    if !challenge.opaque.is_empty() {
        line.push_str(&format!(", opaque=\"{}\"", text(challenge.opaque)));
    }
    line.push_str("\r\n");
    line.into_bytes()
}

fn algorithms(text: &str) -> Vec<Algorithm> {
    let names = text.split(',').map(str::trim).filter(|n| !n.is_empty()).take(ALGORITHMS_MAX);
    names.filter_map(|name| Algorithm::of(name.as_bytes())).collect()
}

/// Judges a literal.
pub(crate) fn check_algorithms(text: &str) -> Result<(), String> {
    let unknown = text.split(',').map(str::trim).find(|n| Algorithm::of(n.as_bytes()).is_none());
    match unknown {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` is no algorithm such as MD5 or SHA-256")),
    }
}
