//! The node: everything between bytes and modules.
//!
//! A node is a function of its inputs. [`worker::Worker::step`] takes an [`effect::Input`] and
//! the time and appends [`effect::Effect`]s; nothing in here owns a socket, a file, a thread, a
//! clock or a source of chance. The same code runs behind the server's threads and, whole
//! clusters of it, in the simulator.
//!
//! Where to look: `module` is what a module is; `context` what a script run knows; `run` how
//! routes run, suspend and end; `transport` where messages go; `membership` and `outbox` how
//! changes reach the peers; `gate` what waits for them; `mi` how operators ask; `events` and
//! `reports` what they are told; `dns` and
//! `blacklist` where names lead and where not to go; `keys` what seals texts that others carry; `build` how a checked script becomes a node.

mod asking;
pub mod attached;
pub mod avp;
mod bin_links;
pub mod blacklist;
pub mod body;
pub mod build;
pub mod cache;
pub mod cached;
pub mod call;
pub mod catalogue;
mod catching_up;
pub mod client;
pub mod context;
pub mod core;
pub mod date;
pub mod dialog;
pub mod dns;
mod early;
pub mod effect;
pub mod endpoint;
pub mod events;
pub mod gate;
pub mod glob;
mod held;
pub mod keys;
pub mod load;
pub mod log;
pub mod membership;
pub mod mi;
pub mod module;
pub mod multipart;
pub mod node;
pub mod outbox;
pub mod own_reply;
mod quarantine;
pub mod replication;
pub mod reports;
pub mod run;
pub mod script;
pub mod sockets;
pub mod sql_server;
pub mod startup;
pub mod statistics;
pub mod stats;
pub mod stream;
mod suspended;
pub mod table;
pub mod table_versions;
pub mod testing;
pub mod transport;
mod unfit;
pub mod worker;
pub mod zone;

pub mod uri_edit;
