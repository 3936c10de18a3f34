//! Event packages (RFC 6665 7.2): what modules built on this one say about their events.
//!
//! A module such as `presence_xml` takes the `Arc<Presence>` when it is built
//! (`build.module::<Presence>()`) and hands in its packages with [`Presence::add_package`]. All
//! methods are called with no lock held.
//!
//! [`Presence::add_package`]: crate::Presence::add_package

use bytes::Bytes;
use tandem_engine::module::Cx;

/// A published state, as packages see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub etag: Bytes,
    /// Empty: that of the package.
    pub content_type: Bytes,
    pub body: Bytes,
    /// Who published it for a shared line; empty: nobody says.
    pub sender: Bytes,
    pub received_s: u32,
}

/// Who is going to see a body.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// `sip:user@domain` of whom it is about.
    pub presentity: &'a [u8],
    /// `sip:user@domain` of the watcher.
    pub watcher: &'a [u8],
    /// How many NOTIFYs this subscription has had.
    pub version: u32,
    /// [`Verdict::view`] of this watcher.
    pub view: &'a [u8],
}

/// Whether somebody may watch somebody, as a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAsk {
    /// To be given back with the answer.
    pub token: u64,
    /// `sip:user@domain`
    pub presentity: Bytes,
    /// `sip:user@domain`
    pub watcher: Bytes,
    pub event: Bytes,
    /// Where the presentity is, as it says itself; empty unless `enable_sphere_check` is on.
    pub sphere: Bytes,
}

/// The state of a subscription (RFC 3857 4.7.1); the number is that of the databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    #[default]
    Active = 1,
    /// Nobody has decided yet.
    Pending = 2,
    Terminated = 3,
    /// It has ended while nobody had decided.
    Waiting = 4,
}

impl Status {
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Active, Self::Pending, Self::Terminated, Self::Waiting]
            .into_iter()
            .find(|status| *status as i64 == number)
    }

    /// As in Subscription-State and in documents of watchers.
    pub fn text(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Terminated => "terminated",
            Self::Waiting => "waiting",
        }
    }
}

/// The answer to a [`RuleAsk`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub status: Status,
    /// Why it is terminated: `rejected`, `deactivated`; empty: there is nothing to say.
    pub reason: Bytes,
    /// What this watcher may see, in the words of the package (at most [`VIEW_BYTES_MAX`]); empty:
    /// everything. It goes to other nodes and to [`Package::shown`].
    pub view: Bytes,
    /// The rules could not be asked: whoever was judged before stays as he is.
    pub is_unknown: bool,
}

/// Bytes of a view, at most.
pub const VIEW_BYTES_MAX: usize = 2048;

impl Verdict {
    pub fn active() -> Self {
        Self::default()
    }

    pub fn of(status: Status, reason: &'static str) -> Self {
        Self { status, reason: Bytes::from_static(reason.as_bytes()), ..Self::default() }
    }

    /// Nobody could be asked: a new watcher is pending.
    pub fn unknown() -> Self {
        Self { status: Status::Pending, is_unknown: true, ..Self::default() }
    }
}

/// Why a request is refused: code, reason phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    /// The Accept of a 415; empty: none.
    pub accept: &'static str,
}

impl Refusal {
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), accept: "" }
    }

    /// The body is of another kind than this one.
    pub fn unsupported(accept: &'static str) -> Self {
        Self { accept, ..Self::new(415, "Unsupported Media Type") }
    }
}

/// An event package. Two nodes must answer alike what is asked of data alone.
pub trait Package: Send + Sync {
    /// The value of Event: `presence`, `dialog;sla`.
    fn name(&self) -> &'static str;

    /// The type of its bodies.
    fn content_type(&self) -> &'static str;

    /// Whether there is a `<name>.winfo` of it.
    fn has_winfo(&self) -> bool {
        false
    }

    /// Seconds of a SUBSCRIBE or PUBLISH without Expires.
    fn default_expires_s(&self) -> u32 {
        3600
    }

    /// Judges the body of a PUBLISH.
    ///
    /// # Errors
    /// The reply: 400 if it cannot be read, 415 if it is of another kind.
    fn judge(&self, _content_type: &[u8], _body: &Bytes) -> Result<(), Refusal> {
        Ok(())
    }

    /// One body of all that is published, the newest first; `None`: there is nothing to say.
    fn merge(&self, _presentity: &[u8], bodies: &[Body]) -> Option<Bytes> {
        bodies.first().map(|newest| newest.body.clone())
    }

    /// What is said of somebody who has published nothing (`notify_offline_body`).
    fn offline(&self, _presentity: &[u8]) -> Option<Bytes> {
        None
    }

    /// What is said when the last publication has ended, made of its body.
    fn ended(&self, _presentity: &[u8], _last: &Body) -> Option<Bytes> {
        None
    }

    /// The body as one watcher sees it.
    fn shown(&self, body: &Bytes, _viewer: &Viewer<'_>) -> Bytes {
        body.clone()
    }

    /// Whether a watcher with this view is shown the same whatever is published: what he is not to
    /// see, the time of a NOTIFY does not tell him either.
    fn shows_nothing(&self, _view: &[u8]) -> bool {
        false
    }

    /// Whether presentities have rules for who may watch them.
    fn has_rules(&self) -> bool {
        false
    }

    /// Asks the rules; `None`: the answer will come by [`Presence::ruled`], and must come.
    ///
    /// [`Presence::ruled`]: crate::Presence::ruled
    fn ask(&self, _cx: &mut Cx<'_>, _ask: &RuleAsk) -> Option<Verdict> {
        Some(Verdict::active())
    }

    /// The rules of a presentity have changed, as an operator says; they will be asked again.
    fn rules_changed(&self, _presentity: &[u8]) {}

    /// Where the presentity is, as a body says (RFC 4480 3.10).
    fn sphere(&self, _body: &Bytes) -> Option<Bytes> {
        None
    }

    /// Whether the published state is that of somebody on the phone (`mix_dialog_presence`).
    fn is_busy(&self, _bodies: &[Body]) -> bool {
        false
    }

    /// The published states with one that says whether somebody is on the phone
    /// (`mix_dialog_presence`).
    fn mixed(&self, _presentity: &[u8], _busy: bool) -> Option<Body> {
        None
    }
}

/// The number of a package in listings, as the field knows it; 0: one of no number.
pub(crate) fn number_of(name: &[u8]) -> u32 {
    match name {
        b"presence" => 1,
        b"presence.winfo" => 2,
        b"message-summary" => 4,
        b"dialog" => 5,
        b"dialog;sla" => 6,
        _ => 0,
    }
}
