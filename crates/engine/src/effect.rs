//! What a node asks of the world, and what the world tells a node.
//!
//! A step takes one [`Input`] and appends [`Effect`]s; the binary and the simulator carry them
//! out. Nothing here holds a socket, a file or a clock.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tandem_cluster::ConnId;
use tandem_db::{DbError, Query, Rows};
use tandem_dns::{Answer, Question};
use tandem_script::program::Program;

use crate::client::{ClientAsk, ClientNews};
use crate::endpoint::{HttpAnswer, HttpAsk};
use crate::events::Destination;
use crate::gate::Gated;
use crate::log::Level;
use crate::sockets::{HostAddress, SocketId};
use crate::stream::{StreamId, StreamInput};

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// A UDP datagram.
    Datagram { socket: SocketId, source: SocketAddr, local_ip: IpAddr, payload: Bytes },
    /// A datagram of ours could not be sent; `ticket` is the one of its [`Send`].
    SendFailed { ticket: u64, error: SendError },
    /// Something happened to a connection that carries SIP.
    Stream(StreamInput),
    /// Something happened to a BIN connection.
    Bin(BinInput),
    /// A management request; the answer carries the same number.
    Mi { request: u64, text: Bytes },
    /// A query is answered.
    Db { query: u64, result: Result<Rows, DbError> },
    /// A database on a server came or went, or was slow.
    DbNews { database: DatabaseId, news: DbNews },
    /// The DNS has answered.
    Dns { query: u64, answer: Answer },
    /// A file was written durably, or not.
    FileWritten { token: u64, result: Result<(), String> },
    /// A file was read; a missing file is `Ok(None)`.
    FileRead { token: u64, result: Result<Option<Bytes>, String> },
    /// What was asked of the spool is done, or not.
    Spool { token: u64, result: Result<SpoolAnswer, String> },
    /// A command of [`Effect::Run`] has ended, or could not be started.
    ProgramEnded { token: u64, result: Result<Ended, String> },
    /// Something happened to a connection of [`Effect::Client`].
    Client(ClientNews),
    /// Somebody asks for a page of the module in `slot`; the answer carries the same number.
    Http { request: u64, slot: u16, ask: HttpAsk },
    /// Which of the listening addresses this host holds now.
    Addresses(Vec<(IpAddr, bool)>),
    /// What addresses this host has, for sockets that listen on all of them.
    Host(Vec<HostAddress>),
    /// The script was read again for [`Effect::LoadScript`], or why it cannot be used.
    ScriptLoaded { request: u64, result: Result<Box<Program>, String> },
    /// Only time has passed.
    Tick,
    /// End in order: what is owed is written, peers are told nothing (they notice).
    Shutdown,
}

/// What a database does beside answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DbNews {
    Connected,
    Lost {
        why: String,
    },
    /// A query took longer than `exec_query_threshold`.
    Slow {
        us: u64,
        sql: String,
    },
}

/// An event of a BIN connection.
#[derive(Debug)]
pub enum BinInput {
    Accepted { conn: ConnId, peer: SocketAddr },
    Connected { conn: ConnId, local: Option<SocketAddr> },
    ConnectFailed { conn: ConnId },
    Data { conn: ConnId, bytes: Bytes },
    Closed { conn: ConnId },
}

/// Why a datagram did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The source address is not ours now: we are not the holder. Never held against the target.
    NotHolder,
    /// Anything else the network said.
    Refused,
}

/// A datagram to send.
#[derive(Clone, Debug)]
pub struct Send {
    pub socket: SocketId,
    pub to: SocketAddr,
    pub payload: Bytes,
    /// Not 0: a failure comes back as [`Input::SendFailed`] with this number.
    pub ticket: u64,
}

/// What a node asks of the world.
#[derive(Debug)]
pub enum Effect {
    Send(Send),
    /// Opens a connection for SIP; what becomes of it is a [`StreamInput`].
    StreamConnect {
        conn: StreamId,
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
    },
    StreamWrite {
        conn: StreamId,
        bytes: Bytes,
    },
    /// Closes behind what is queued.
    StreamClose {
        conn: StreamId,
    },
    BinConnect {
        conn: ConnId,
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
    },
    BinWrite {
        conn: ConnId,
        bytes: Bytes,
    },
    BinClose {
        conn: ConnId,
    },
    MiReply {
        request: u64,
        text: Bytes,
    },
    HttpReply {
        request: u64,
        answer: HttpAnswer,
    },
    Db {
        query: u64,
        database: DatabaseId,
        ask: Query,
    },
    /// Ask the table of the host or the DNS; the answer is [`Input::Dns`]. One that does not come
    /// counts as a failure after a while.
    Dns {
        query: u64,
        question: Question,
    },
    ReadFile {
        token: u64,
        name: String,
    },
    /// Read the script's files again and compile them, as a later version of the one that runs;
    /// the answer is [`Input::ScriptLoaded`].
    LoadScript {
        request: u64,
    },
    /// Write durably: the completion means that it survives a power cut.
    WriteFile {
        token: u64,
        name: String,
        bytes: Bytes,
    },
    /// Ask the spool: files that only grow, in a folder of their own beside the node's state. What
    /// one worker asks is done in its order; the answer is [`Input::Spool`].
    Spool {
        token: u64,
        ask: SpoolAsk,
    },
    /// Run a command of the shell; how it ends is an [`Input::ProgramEnded`].
    Run {
        token: u64,
        program: Command,
    },
    /// Open a connection for a module, or do something with it; what becomes of it is an
    /// [`Input::Client`].
    Client {
        token: u64,
        ask: ClientAsk,
    },
    /// Tell a subscriber of an event; what does not arrive is lost.
    Notify {
        to: Destination,
        payload: Bytes,
    },
    Log {
        level: Level,
        text: String,
    },
    /// End the process in order; with `failed` its status says that something went wrong.
    Stop {
        failed: bool,
    },
    /// The worker that drives the cluster has output waiting: step it.
    Wake,
    /// Start-up is over: the node serves.
    Ready,
    /// The node cannot go on; the text tells an operator why and what to do.
    Fatal {
        text: String,
    },
}

/// What is asked of the spool. Names are those of files, without folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolAsk {
    /// Adds to the end of a file, all of it or nothing; a missing file is made. What was added
    /// survives the end of the process; with `durable`, a power cut as well.
    Append {
        name: String,
        bytes: Bytes,
        durable: bool,
    },
    Read {
        name: String,
    },
    /// A file that is missing is removed already.
    Remove {
        name: String,
    },
    /// The names of all files.
    List,
}

/// What the spool answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolAnswer {
    Done,
    /// The contents; `None`: there is no such file.
    Bytes(Option<Bytes>),
    /// In no order.
    Names(Vec<String>),
}

/// A command for the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub command: String,
    pub stdin: Bytes,
    /// Added to the environment of the process.
    pub env: Vec<(String, String)>,
    /// Seconds after which it is asked to end.
    pub ends_after_s: Option<u32>,
    /// Somebody wants to know what it writes to its standard output, and to its standard error.
    /// What nobody wants is not waited for either.
    pub wants: [bool; 2],
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub status: i32,
    pub stdout: Bytes,
    pub stderr: Bytes,
}

/// A database of the node, in the order of [`crate::node::Node::databases`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(pub u16);

/// The effects of one step.
#[derive(Debug, Default)]
pub struct Out {
    pub effects: Vec<Effect>,
    /// What waits for a peer's acknowledgement of what this step changed.
    pub(crate) gated: Vec<Gated>,
}

impl Out {
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn send(&mut self, send: Send) {
        self.effects.push(Effect::Send(send));
    }

    /// Sends when one Tandem peer has acknowledged every change made so far, or when the gate
    /// gives up (see [`crate::gate`]).
    pub fn send_gated(&mut self, send: Send) {
        self.gated.push(Gated::Send(send));
    }

    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        self.effects.push(Effect::Log { level, text: text.into() });
    }
}
