//! Something that speaks the event socket of a FreeSWITCH, and bears what a test says.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::PATIENCE;

/// The password of every one.
pub const PASSWORD: &str = "ClueCon";

/// What it does with those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It lets them in and tells them of its HEARTBEATs.
    Good,
    /// It lets nobody in.
    Refusing,
    /// It says nothing.
    Silent,
    /// It says a lot, and nothing of it means anything.
    Babbling,
    /// It closes the connection at once.
    Gone,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    /// Those who were let in.
    listeners: Vec<TcpStream>,
    /// Those who wait, so that their connections stay.
    waiting: Vec<TcpStream>,
    connects: usize,
}

/// The running server; it ends with the test.
#[derive(Debug)]
pub struct FreeSwitch {
    state: Arc<Mutex<State>>,
}

impl FreeSwitch {
    /// Serves the usual port of an address.
    ///
    /// # Panics
    /// If the address cannot be used.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
    pub fn start(at: Ipv4Addr, manner: Manner) -> Self {
        let listener = TcpListener::bind((at, 8021)).expect("a port for the event socket");
        let (listeners, waiting) = (Vec::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { manner, listeners, waiting, connects: 0 }));
        let server = Self { state };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        server
    }

    /// It behaves otherwise from now on, and ends the connections that it has.
    pub fn becomes(&self, manner: Manner) {
        let mut state = self.state();
        state.manner = manner;
        let all = std::mem::take(&mut state.listeners);
        for stream in all.into_iter().chain(std::mem::take(&mut state.waiting)) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// A HEARTBEAT to all that listen; how many they are.
    pub fn beat(&self, sessions: u32, sessions_max: u32, idle_cpu: f64) -> usize {
        let body = format!(
            "Event-Name: HEARTBEAT\nEvent-Info: System%20Ready\nUp-Time: 0%20years%2C%200%20days\n\
             Session-Count: {sessions}\nMax-Sessions: {sessions_max}\nSession-Per-Sec: 30\n\
             Idle-CPU: {idle_cpu:.6}\n\n"
        );
        let head = format!("Content-Length: {}\nContent-Type: text/event-plain\n\n", body.len());
        let mut state = self.state();
        state.listeners.retain_mut(|to| to.write_all(format!("{head}{body}").as_bytes()).is_ok());
        state.listeners.len()
    }

    /// How many have connected so far.
    #[must_use]
    pub fn connects(&self) -> usize {
        self.state().connects
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let manner = {
        let mut state = lock(state);
        state.connects += 1;
        state.manner
    };
    match manner {
        Manner::Gone => return Ok(()),
        Manner::Silent => {
            lock(state).waiting.push(stream);
            return Ok(());
        }
        Manner::Babbling => loop {
            stream.write_all(&[b'x'; 4096])?;
        },
        Manner::Good | Manner::Refusing => {}
    }
    stream.write_all(b"Content-Type: auth/request\n\n")?;
    let is_known = command(&mut stream)? == format!("auth {PASSWORD}");
    if !is_known || manner == Manner::Refusing {
        stream.write_all(b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n")?;
        return Ok(());
    }
    stream.write_all(b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n")?;
    while command(&mut stream)? == "event plain HEARTBEAT" {
        let ok = b"Content-Type: command/reply\nReply-Text: +OK event listener enabled plain\n\n";
        stream.write_all(ok)?;
        lock(state).listeners.push(stream.try_clone()?);
    }
    Ok(())
}

/// What comes before a blank line.
fn command(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\n\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
