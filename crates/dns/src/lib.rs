//! Finding SIP servers by name (RFC 3263): which questions to ask the DNS, and in which order the
//! destinations that come out are tried.
//!
//! Nothing here asks anybody. A [`Search`] says which questions are open; its owner takes the
//! answers from a [`Cache`] or from the world, and hands them in. So the simulator can play the
//! DNS, and a server that is slow, silent or lying costs a search and never a worker.
//!
//! # Promises
//! - A search ends: it asks at most [`QUESTIONS_MAX`] questions and yields at most [`HOPS_MAX`]
//!   destinations, whatever the answers say.
//! - Any text is a name or is refused; nothing panics.
//! - The cache holds at most so many answers as it was made for, each for its time to live, within
//!   limits.
//!
//! # Files
//! `name.rs` names and questions; `search.rs` RFC 3263 section 4; `cache.rs`; `hosts.rs` the
//! table of the host (`/etc/hosts`).

mod cache;
mod hosts;
mod name;
mod search;

pub use cache::Cache;
pub use hosts::Hosts;
pub use name::{Name, Question, RecordKind};
pub use search::{Found, HOPS_MAX, Protocol, QUESTIONS_MAX, Search, Settings, Target};

use std::net::IpAddr;

/// What the DNS says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An A or AAAA record.
    Ip(IpAddr),
    /// RFC 2782.
    Srv { priority: u16, weight: u16, port: u16, target: Name },
    /// RFC 3403; `service` as it came, such as `SIP+D2U`.
    Naptr { order: u16, preference: u16, flags: String, service: String, replacement: Name },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// None: there is no such name, or it has no such record.
    pub records: Vec<Record>,
    /// How long it may be believed.
    pub ttl_s: u32,
    /// Nobody answered in time, or only to say that it failed: this says nothing about the name.
    pub failed: bool,
}

impl Answer {
    /// These records are there.
    pub fn of(records: Vec<Record>, ttl_s: u32) -> Self {
        Self { records, ttl_s, failed: false }
    }

    /// There are none.
    pub fn none(ttl_s: u32) -> Self {
        Self { records: Vec::new(), ttl_s, failed: false }
    }

    /// Nobody knows.
    pub fn failure() -> Self {
        Self { records: Vec::new(), ttl_s: 0, failed: true }
    }
}
