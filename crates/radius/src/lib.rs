//! A RADIUS client without sockets, files or clocks: RFC 2865, 2866 and 2869.
//!
//! # Files
//! `packet.rs` packets and what proves them; `dictionary.rs` attributes and their names, and
//! `loader.rs` the files they come from; `value.rs` values as people write them; `config.rs` the
//! files radiusclient.conf and servers; `client.rs` requests on their way to servers.

pub mod client;
pub mod config;
pub mod dictionary;
pub mod loader;
pub mod packet;
pub mod value;

/// What is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// Counted from 1; 0: the file as a whole.
    pub line: usize,
    pub text: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}
